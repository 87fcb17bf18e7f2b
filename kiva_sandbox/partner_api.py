"""The token endpoint and the eight endpoints of the Partner API."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, cast
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ValidationError

from kiva_sandbox import pa2
from kiva_sandbox.bodies import Draft, Journals, Repayments
from kiva_sandbox.data import CONFIG
from kiva_sandbox.state import RECOMMENDED_ROWS
from kiva_sandbox.switches import Switches
from kiva_sandbox.tokens import OAuthError
from kiva_sandbox.web import (
    Answer,
    ApiError,
    JsonBody,
    KeptState,
    SwitchesOfCall,
    TokensOfPartner,
    media_type,
    no_such_route,
    unreadable,
)

authorisation = APIRouter()
partner = APIRouter(prefix="/v3/partner/{partner_id}")
partners = APIRouter(prefix="/v3/partners/{partner_id}")

_IN_SWAGGER = {
    "loan_draft_uuid": "loanDraftUuid",
    "total_records": "totalRecords",
    "as_of_date_time": "asOfDateTime",
    "theme_type_id": "themeTypeId",
    "theme_type": "themeType",
    "activity_id": "activityId",
    "activity": "activityName",
    "full_name": "fullName",
    "language_id": "languageId",
    "language_code": "languageCode",
    "language_name": "languageName",
}
"""Kiva's Swagger page names these otherwise than the wire; all others, those of a loan's among them, it does not."""


@dataclass(frozen=True)
class _Allowed:
    """The check before an endpoint: a valid token, of the partner in the path, with the scope needed."""

    scope: str | None = None

    async def __call__(
        self, request: Request, partner_id: str, tokens: TokensOfPartner, switches: SwitchesOfCall
    ) -> None:
        grant = tokens.check(request.headers.get("Authorization", ""), switches.refused_token)
        if partner_id != grant.partner_id:
            raise OAuthError(403, "access_denied", "The token was issued to another partner")
        if self.scope is not None and self.scope not in grant.scopes:
            raise OAuthError(403, "insufficient_scope", "Insufficient scope for this resource", scope=self.scope)


@authorisation.post("/oauth/token")
async def token(request: Request, tokens: TokensOfPartner, switches: SwitchesOfCall) -> Answer:
    """Issue a token for the credentials in the form; nothing is read from the query or from Basic authentication."""
    form: dict[str, str] = {}
    if media_type(request) == "application/x-www-form-urlencoded":
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True))
    return Answer(tokens.issue(form, switches), headers={"Cache-Control": "no-store"})


@partner.post("/loan_draft", dependencies=[Depends(_Allowed("create:loan_draft"))])
async def loan_draft(body: JsonBody, state: KeptState, switches: SwitchesOfCall) -> Answer:
    """Keep a draft, with whatever is wrong with it: people see that in PA2."""
    draft = _read(Draft, body)
    if draft.group_fields and not draft.entreps:
        raise ApiError("entreps must hold at least one borrower of the group")
    # Between this look and the keeping nothing is awaited, so no other request comes in between.
    if switches.duplicate_draft != "new" and draft.loan_id and state.has_draft(draft.loan_id):
        raise ApiError("there is a draft or a loan with this loan id already", 409)
    if switches.drafts == "strict" and (messages := pa2.messages(draft, state.now().date())):
        raise ApiError("; ".join(messages))
    kept = state.add_draft(cast("dict[str, Any]", body), draft)
    return Answer(_named(switches, _success("Loan draft created", loan_draft_uuid=kept["loan_draft_uuid"])))


async def _as_kivas_sample(switches: SwitchesOfCall) -> None:
    if switches.journal_path == "singular":
        raise no_such_route()


# Kiva's own sample posts a bare list to `partners`, its documentation a wrapper to `partner`: both are taken.
@partners.post("/journals", dependencies=[Depends(_Allowed("create:journal_update")), Depends(_as_kivas_sample)])
@partner.post("/journals", dependencies=[Depends(_Allowed("create:journal_update"))])
async def journals(request: Request, body: JsonBody, state: KeptState, switches: SwitchesOfCall) -> Answer:
    """Archive journals until a person confirms them; where, says an address of this very sandbox."""
    wrapper = {"journals": body} if isinstance(body, list) and switches.journal_body == "both" else body
    _read(Journals, wrapper)
    received = cast("dict[str, list[dict[str, Any]]]", wrapper)["journals"]
    archive_id = state.add_journals(received)
    confirm_url = request.url_for("pa2:archive", archive_id=archive_id)
    answer = _success(f"{len(received)} journal(s) archived", archive_id=archive_id, confirm_url=str(confirm_url))
    return Answer(_listed(switches, answer), switches.journal_success)


@partner.post("/repayments", dependencies=[Depends(_Allowed("create:repayment"))])
async def repayments(body: JsonBody, state: KeptState, switches: SwitchesOfCall) -> Answer:
    """Make an upload of a repayment report; what is wrong with its rows stands in the answer."""
    report = _read(Repayments, body)
    rows = len(report.repayments)
    if switches.too_many_rows != "warning" and rows > RECOMMENDED_ROWS:
        raise ApiError(f"{rows} rows in one call; at most {RECOMMENDED_ROWS} are taken")
    upload = state.add_upload(report, by_member=switches.group_repayments == "members")
    answer = _success(f"{rows} row(s) received", upload_id=upload["upload_id"], problems=upload["problems"])
    return Answer(_listed(switches, answer))


@partner.get("/loans", dependencies=[Depends(_Allowed("read:loans"))])
async def loans(
    state: KeptState,
    switches: SwitchesOfCall,
    query: str = "",
    status: str = "",
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=0)] = 20,
) -> Answer:
    """Find loans; `total_records` counts all that match, `data` is one page of them."""
    total, page = state.find_loans(query, status, offset, limit)
    return Answer(_named(switches, {"total_records": total, "data": page}))


@partner.get("/config/{name}", dependencies=[Depends(_Allowed())])
async def config(name: str, state: KeptState, switches: SwitchesOfCall) -> Answer:
    """List what the partner can choose from. Kiva publishes no scope for it, so any valid token will do."""
    if name not in CONFIG:
        raise no_such_route()
    values = [_named(switches, row) for row in CONFIG[name]]
    now = f"{state.now():%Y-%m-%dT%H:%M:%SZ}"
    found = _success(f"Found {len(values)} value(s) for configuration '{name}'")
    return Answer(_named(switches, {"as_of_date_time": now, name: values, **found}))


def _read[Model: BaseModel](model: type[Model], body: object) -> Model:
    """`body` as `model`. What is missing is named; what has the wrong type is unreadable, as for Spring's parser."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(step) for step in first["loc"])
        if first["type"] == "too_short":
            raise ApiError(f"{field} must not be empty") from None
        if first["type"] == "missing" or (field and first["input"] is None):
            raise ApiError(f"{field} is required") from None
        raise unreadable() from None


def _success(message: str, **result: object) -> dict[str, object]:
    return {"code": "api.success", "message": message, **result}


def _named(switches: Switches, fields: Mapping[str, object]) -> dict[str, object]:
    return {_IN_SWAGGER.get(name, name) if switches.naming == "camel" else name: it for name, it in fields.items()}


def _listed(switches: Switches, answer: dict[str, object]) -> object:
    return [answer] if switches.answers == "list" else answer
