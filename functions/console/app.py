"""What people and systems read and decide: submissions and their outcomes, Kiva's loans and lists, the API itself."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import quote, unquote

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.router import APIGatewayRouter
from aws_lambda_powertools.utilities.typing import LambdaContext

from kiva_partner import api, runtime, versions, waiting
from kiva_partner.checks import checks_of
from kiva_partner.client import CONFIG_NAMES, MAX_LOANS_PER_PAGE
from kiva_partner.decisions import parse_decision
from kiva_partner.errors import InvalidMessage, NotDecidable, SubmissionError, Violation
from kiva_partner.ledger import WAITING, Row, State
from kiva_partner.messages import Kind
from kiva_partner.openapi import document
from kiva_partner.sending import Standing, parse_pause, parse_resume

MAX_SUBMISSIONS_PER_PAGE = 1000
"""As many as a message of a report has; they make a tenth of what a function may answer (6 MB)."""

router = APIGatewayRouter()  # type: ignore[no-untyped-call]


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """A request of API Gateway in, its answer out."""
    with runtime.telemetry().invocation(context):
        runtime.expect(event, "aws:apigateway")
        return _app().resolve({**event, "path": _route(event)}, context)


def _route(event: Mapping[str, Any]) -> str:
    """The path as the template says it.

    With a custom domain `path` has the domain's base path in front, which is not known here; `resource` never has.
    API Gateway hands on the values of its parameters as they came, percent-encoded, and `sam local` decodes them.
    """
    given = event.get("pathParameters") or {}

    def escaped(name: re.Match[str]) -> str:
        return quote(unquote(given[name[1]]), safe="", errors="surrogatepass")

    return re.sub(r"{(\w+)}", escaped, event["resource"])


@cache
def _app() -> APIGatewayRestResolver:
    app = APIGatewayRestResolver()
    app.include_router(router)

    app.not_found(lambda _: _response(api.not_found("No such path; GET /openapi.json lists them")))
    app.exception_handler(SubmissionError)(_explain)
    app.exception_handler(Exception)(_apologise)
    return app


def _explain(error: SubmissionError) -> Response[str]:
    if not isinstance(error, InvalidMessage | NotDecidable):
        runtime.telemetry().refused("the console could not answer", error)
    return _response(api.problem(error))


def _apologise(error: Exception) -> Response[str]:
    runtime.telemetry().unexpected("the console could not answer", error)
    return _response(api.server_problem())


@router.get("/submissions/<kind>/<reference>")
def submission(kind: str, reference: str) -> Response[str]:
    """One submission; or all of those that came through the API in messages under this reference."""
    found, name = _kind(kind), unquote(reference)
    ledger = runtime.ledger()
    if row := ledger.read(found, name):
        return _ok({**api.show(row, _standing([row])), **versions.shown(row, versions.versions_of(ledger, row))})
    if references := ledger.read_receipt(found, name):
        rows = ledger.read_all(found, references).values()
        return _ok(api.summary(found, name, rows, _query("cursor"), _standing(rows)))
    return _response(api.not_found("No submission of this kind has this reference"))


@router.post("/submissions/<kind>/<reference>/decision")
def decision(kind: str, reference: str) -> Response[str]:
    """A person's word on a submission of which nobody knows whether Kiva has it."""
    found, name = _kind(kind), unquote(reference)
    decided = parse_decision(api.body_of(router.current_event.raw_event))
    row = runtime.ledger().read(found, name)
    if not row:
        return _response(api.not_found("No submission of this kind has this reference"))
    by = _caller()
    rows = runtime.decisions().decide(row, decided, by)
    runtime.telemetry().decided(rows, decided.decision, by)
    return _ok(api.show(rows[0]) if len(rows) == 1 else api.summary(found, name, rows))


@router.get("/submissions")
def submissions() -> Response[str]:
    """Submissions of a kind in a state, the latest change first; or those of a loan, the newest first."""
    limit, cursor = _number("limit", 100, 1, MAX_SUBMISSIONS_PER_PAGE), _query("cursor")
    if loan_id := _query("loan_id"):
        page = runtime.ledger().list_by_loan(loan_id, limit=limit, cursor=cursor)
    else:
        kind, state, since = _kind(_query("kind")), _state(_query("state")), _day("since")
        page = runtime.ledger().list_by_state(kind, state, since=since, limit=limit, cursor=cursor)
    standing = _standing(page.rows)
    body: dict[str, Any] = {"submissions": [api.show(row, standing) for row in page.rows]}
    if page.cursor:
        body["cursor"] = page.cursor
    return _ok(body)


@router.get("/waiting")
def what_waits() -> Response[str]:
    """What waits for a person, by what they must do."""
    days = _number("days", 60, 1, waiting.MOST_DAYS)
    since = datetime.now(UTC).date() - timedelta(days=days)
    found = waiting.shown(waiting.look(runtime.ledger(), since), days)
    return _ok({**found, "sending": runtime.sending().standing().shown()})


@router.post("/waiting/<kind>/<reference>/done")
def done(kind: str, reference: str) -> Response[str]:
    """A person has published, confirmed or finalised it, or has seen to what was refused: it waits no longer."""
    found, name = _kind(kind), unquote(reference)
    if not name.isprintable():
        raise InvalidMessage(Violation("reference", "must be one line without control characters"))
    by = _caller()
    at = runtime.ledger().mark_done(found, name, by)
    runtime.telemetry().done(found, name, by)
    return _ok({"kind": found, "kiva_reference": name, "by": by, "at": at})


@router.post("/pause")
def pause() -> Response[str]:
    """A person's word that a kind, or nothing at all, is to be sent for now."""
    asked = parse_pause(api.body_of(router.current_event.raw_event))
    changed = runtime.sending().pause(asked.kinds, _caller(), asked.reason)
    runtime.telemetry().said("paused", changed, _caller())
    return _ok(runtime.sending().standing().shown())


@router.post("/resume")
def resume() -> Response[str]:
    """A person's word that ends a pause, or that what was sent since a backup was judged."""
    asked = parse_resume(api.body_of(router.current_event.raw_event))
    if asked.restored:
        changed = list(Kind) if runtime.sending().confirm(_caller(), asked.reason) else []
        runtime.telemetry().said("restored ledger confirmed", changed, _caller())
    else:
        changed = runtime.sending().resume(asked.kinds, _caller(), asked.reason)
        runtime.telemetry().said("resumed", changed, _caller())
    return _ok(runtime.sending().standing().shown())


@router.get("/check")
def check() -> Response[str]:
    """Whether Kiva takes these credentials, for this partner, with every scope; and what to do where it does not."""
    with runtime.client().session(runtime.seconds_left(router.lambda_context)) as kiva:
        return _ok({"checks": [each.shown() for each in checks_of(runtime.settings(), runtime.tokens(), kiva)]})


@router.get("/health")
def health() -> Response[str]:
    """How the stack stands right now: token, circuits, what waits, and when what the clock starts last ended well."""
    return _ok(runtime.health().shown())


@router.get("/loans")
def loans() -> Response[str]:
    """Kiva's loans of this partner, as Kiva gives them."""
    with runtime.client().session(runtime.seconds_left(router.lambda_context)) as kiva:
        page = kiva.loans(
            query=_query("query"),
            status=_query("status"),
            offset=_number("offset", 0, 0, 10**9),
            limit=_number("limit", 20, 1, MAX_LOANS_PER_PAGE),
        )
    return _ok({"total_records": page.total_records, "loans": page.loans})


@router.get("/config/<name>")
def config(name: str) -> Response[str]:
    """One of Kiva's lists for this partner."""
    if name not in CONFIG_NAMES:
        return _response(api.not_found(f"There is no such list; there are {', '.join(CONFIG_NAMES)}"))
    with runtime.client().session(runtime.seconds_left(router.lambda_context)) as kiva:
        return _ok(kiva.config(name))


@router.get("/openapi.json")
def openapi() -> Response[str]:
    """This API in OpenAPI 3.1, made from the types that check the messages."""
    return _ok(document())


def _caller() -> str:
    return router.current_event.request_context.identity.user_arn or "unknown"


def _standing(rows: Iterable[Row]) -> Standing | None:
    """What keeps these from being sent, where any of them waits for that."""
    return runtime.sending().standing() if any(row.state in WAITING for row in rows) else None


def _kind(text: str) -> Kind:
    if text not in set(Kind):
        raise InvalidMessage(Violation("kind", f"must be one of {', '.join(Kind)}"))
    return Kind(text)


def _state(text: str) -> State:
    if text.upper() not in set(State):
        raise InvalidMessage(Violation("state", f"must be one of {', '.join(State)}"))
    return State(text.upper())


def _query(name: str) -> str:
    text = router.current_event.query_string_parameters.get(name, "")
    if not text.isprintable():  # half of a surrogate pair cannot even be sent
        raise InvalidMessage(Violation(name, "must be one line without control characters"))
    return text


def _day(name: str) -> date | None:
    text = _query(name)
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise InvalidMessage(Violation(name, "must be a day (YYYY-MM-DD)")) from None


def _number(name: str, default: int, smallest: int, largest: int) -> int:
    text = _query(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and smallest <= int(text) <= largest):  # noqa: PLR2004
        raise InvalidMessage(Violation(name, f"must be a whole number from {smallest} to {largest}"))
    return int(text)


def _ok(body: Mapping[str, Any]) -> Response[str]:
    return _response(api.Answer(200, body, {}))


def _response(answer: api.Answer) -> Response[str]:
    result = answer.as_proxy_result()
    return Response(answer.status, result["headers"]["Content-Type"], result["body"], dict(answer.headers))
