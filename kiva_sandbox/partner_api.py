"""The token endpoint and the eight endpoints of the Partner API."""

from dataclasses import dataclass
from typing import Annotated, Any, cast
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ValidationError

from kiva_sandbox.bodies import Draft, Journals, Repayments
from kiva_sandbox.data import CONFIG
from kiva_sandbox.description import (
    CHOICES,
    JOURNALS,
    LOAN_DRAFT,
    LOANS,
    REPAYMENTS,
    STATUSES,
    TOKEN,
    ConfigName,
    PartnerId,
)
from kiva_sandbox.tokens import OAuthError
from kiva_sandbox.web import (
    Answer,
    ApiError,
    JsonBody,
    KeptState,
    TokensOfPartner,
    media_type,
    no_such_route,
    unreadable,
)

authorisation = APIRouter()
partner = APIRouter(prefix="/v3/partner/{partner_id}")
partners = APIRouter(prefix="/v3/partners/{partner_id}")


@dataclass(frozen=True)
class _Allowed:
    """The check before an endpoint: a valid token, of the partner in the path, with the scope needed."""

    scope: str | None = None

    async def __call__(self, request: Request, partner_id: PartnerId, tokens: TokensOfPartner) -> None:
        grant = tokens.check(request.headers.get("Authorization", ""))
        if partner_id != grant.partner_id:
            raise OAuthError(403, "access_denied", "The token was issued to another partner")
        if self.scope is not None and self.scope not in grant.scopes:
            raise OAuthError(403, "insufficient_scope", "Insufficient scope for this resource", scope=self.scope)


@authorisation.post("/oauth/token", **TOKEN)
async def token(request: Request, tokens: TokensOfPartner) -> Answer:
    """Issue a token for the credentials in the form; nothing is read from the query or from Basic authentication."""
    form: dict[str, str] = {}
    if media_type(request) == "application/x-www-form-urlencoded":
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True))
    return Answer(tokens.issue(form), headers={"Cache-Control": "no-store"})


@partner.post("/loan_draft", dependencies=[Depends(_Allowed("create:loan_draft"))], **LOAN_DRAFT)
async def loan_draft(body: JsonBody, state: KeptState) -> Answer:
    """Keep a draft, with whatever is wrong with it: people see that in PA2."""
    draft = _read(Draft, body)
    if draft.group_fields and not draft.entreps:
        raise ApiError("entreps must hold at least one borrower of the group")
    kept = state.add_draft(cast("dict[str, Any]", body), draft)
    return _success("Loan draft created", loan_draft_uuid=kept["loan_draft_uuid"])


# Kiva's own sample posts a bare list to `partners`, its documentation a wrapper to `partner`: both are taken.
@partners.post("/journals", dependencies=[Depends(_Allowed("create:journal_update"))], include_in_schema=False)
@partner.post("/journals", dependencies=[Depends(_Allowed("create:journal_update"))], **JOURNALS)
async def journals(request: Request, body: JsonBody, state: KeptState) -> Answer:
    """Archive journals until a person confirms them; where, says an address of this very sandbox."""
    wrapper = {"journals": body} if isinstance(body, list) else body
    _read(Journals, wrapper)
    received = cast("dict[str, list[dict[str, Any]]]", wrapper)["journals"]
    archive_id = state.add_journals(received)
    confirm_url = request.url_for("pa2:archive", archive_id=archive_id)
    return _success(f"{len(received)} journal(s) archived", archive_id=archive_id, confirm_url=str(confirm_url))


@partner.post("/repayments", dependencies=[Depends(_Allowed("create:repayment"))], **REPAYMENTS)
async def repayments(body: JsonBody, state: KeptState) -> Answer:
    """Make an upload of a repayment report; what is wrong with its rows stands in the answer."""
    upload = state.add_upload(_read(Repayments, body))
    return _success(
        f"{len(upload['rows'])} row(s) received", upload_id=upload["upload_id"], problems=upload["problems"]
    )


@partner.get("/loans", dependencies=[Depends(_Allowed("read:loans"))], **LOANS)
async def loans(
    state: KeptState,
    query: Annotated[str, Query(description="Part of a name, or a whole loan, client or Kiva id.")] = "",
    status: Annotated[str, Query(description=STATUSES)] = "",
    offset: Annotated[int, Query(ge=0, description="How many that match to leave out first.")] = 0,
    limit: Annotated[int, Query(ge=0, description="How many at most; Kiva asks for 300 at most.")] = 20,
) -> Answer:
    """Find loans; `total_records` counts all that match, `data` is one page of them."""
    total, page = state.find_loans(query, status, offset, limit)
    return Answer({"total_records": total, "data": page})


@partner.get("/config/{name}", dependencies=[Depends(_Allowed())], **CHOICES)
async def config(name: ConfigName, state: KeptState) -> Answer:
    """List what the partner can choose from. Kiva publishes no scope for it, so any valid token will do."""
    if name not in CONFIG:
        raise no_such_route()
    values = CONFIG[name]
    return Answer(
        {
            "as_of_date_time": f"{state.now():%Y-%m-%dT%H:%M:%SZ}",
            name: values,
            "code": "api.success",
            "message": f"Found {len(values)} value(s) for configuration '{name}'",
        }
    )


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


def _success(message: str, **result: object) -> Answer:
    return Answer({"code": "api.success", "message": message, **result})
