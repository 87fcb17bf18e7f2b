"""The coordinator's page: what waits for a person, and what they decide, in a browser on the operator's own machine.

It asks the relay's API with the operator's own AWS credentials and keeps nothing. Only this machine reaches it, and
other pages open in the same browser cannot make it act: it knows its own host, its own origin and a token of its own
(OWASP, Cross-Site Request Forgery Prevention). Without JavaScript everything works as well.
"""

import contextlib
import json
import re
import secrets
import socket
import sys
import webbrowser
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, quote, urlencode

import uvicorn
from botocore.exceptions import BotoCoreError, ClientError
from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from jinja2 import ChainableUndefined, Environment, FileSystemLoader
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from cli.relay_api import NoAnswer, Refused, RelayApi
from cli.show import words_of
from cli.stacks import NoSuchStack, StackOfStage
from cli.waiting import SECTIONS, as_csv, choose, listed, of_call, problems
from kiva_partner.client import made_at

LOOPBACK: Final = "127.0.0.1"
DAYS: Final = 60
"""How far back it looks, unless asked for more or less."""
MOST_DAYS: Final = 400
"""As long as the ledger remembers."""

KINDS: Final = {"loan_draft": "Loan draft", "journal_update": "Journal", "repayment": "Repayment"}
PLACES: Final = {
    "production": "PRODUCTION: Kiva itself",
    "stage": "Kiva's test environment",
    "sandbox": "An imitation of Kiva",
}
LOOKS: Final = {"production": "production", "sandbox": "imitation"}

_PAGES: Final = Path(__file__).with_name("pages")
_FEW, _MANY = 20, 100
"""Entries of a section: beside the others, and alone."""
_AT_ONCE = 4
"""Requests to the relay at the same time; its API is throttled."""
_CLOCK_SKEW_SECONDS = 300
"""A loan may seem so much older than its draft: the draft's call takes its time, and clocks differ."""
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Desk:
    """The page of one stack. `token` is in each of its forms; `said` holds what a page that was sent on will say."""

    stack: StackOfStage
    environment: str
    partner: str
    kiva: str
    now: Callable[[], datetime]
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    said: dict[str, str] = field(default_factory=dict)

    @property
    def api(self) -> RelayApi:
        """Made anew for each request: whoever logs in again need not start this again."""
        return self.stack.api

    def page(self, name: str, code: int = 200, **facts: Any) -> HTMLResponse:
        """A template as an answer with an HTTP status code."""
        common = {
            "root": "",
            "place": f"{PLACES[self.environment]} · stack {self.stack.name} · partner {self.partner}",
            "look": LOOKS.get(self.environment, ""),
            "status": "",
            "token": self.token,
            "to_type": "production" if self.environment == "production" else "",
            "kinds": KINDS,
            "sections": SECTIONS,
            "words_of": words_of,
            "may_be_opened": self.may_be_opened,
            "now": self.now(),
        }
        return HTMLResponse(_templates().get_template(name).render(common | facts), code)

    def sent_on(self, text: str, back: str = "") -> RedirectResponse:
        """Back to what waits, under the filters that were set, with a sentence about what was done."""
        key = secrets.token_urlsafe(6)
        self.said[key] = text
        filters = {name: value for name, value in parse_qsl(back) if name in ("section", "kind", "days", "text")}
        return RedirectResponse(f"/?{urlencode(filters | {'said': key})}", HTTPStatus.SEE_OTHER)

    def may_be_opened(self, url: object) -> bool:
        """Whether somebody may be sent to a URL: https, or the very host that is called as Kiva (the imitation)."""
        return isinstance(url, str) and bool(
            re.fullmatch(r"https://[A-Za-z0-9.-]+(:\d+)?([/?#][!-\[\]-~]*)?", url)
            or (self.kiva and re.fullmatch(re.escape(self.kiva) + r"([/?#][!-\[\]-~]*)?", url))
        )


def create_app(stack: StackOfStage, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> FastAPI:
    """The page of a stack as a web application. Raises what reading the stack's parameters raises."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.desk = Desk(
        stack,
        environment=stack.parameters["KivaEnvironment"],
        partner=stack.parameters["KivaPartnerId"],
        kiva=stack.parameters.get("KivaApiBaseUrl", "").rstrip("/"),
        now=now,
    )
    app.include_router(_reading)
    app.include_router(_acting)
    app.middleware("http")(_guarded)
    # What another site's name is made to point at this machine (DNS rebinding) still asks for that name.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"], www_redirect=False)
    for error in (Refused, NoAnswer, NoSuchStack, BotoCoreError, ClientError):
        app.add_exception_handler(error, _relay_problem)
    app.add_exception_handler(StarletteHTTPException, _page_problem)
    app.add_exception_handler(RequestValidationError, _page_problem)
    app.add_exception_handler(Exception, _page_problem)
    return app


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def _own(request: Request, token: Annotated[str, Form()] = "") -> None:
    """Let only this page's own forms through."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    # With `Referrer-Policy: no-referrer` a browser says `Origin: null` of its own page as well (Fetch, §3.2).
    same = (
        site == "same-origin" and origin in (None, "null", f"http://{request.headers['host']}")
        if site
        else origin == f"http://{request.headers['host']}"
    )
    if not (same and secrets.compare_digest(token.encode(), _desk(request).token.encode())):
        raise HTTPException(
            HTTPStatus.FORBIDDEN,
            "This did not come from a form of this page as it runs now. Open the page anew and do it there.",
        )


_reading = APIRouter()
_acting = APIRouter(dependencies=[Depends(_own)])
TheDesk = Annotated[Desk, Depends(_desk)]


# --- what is shown --------------------------------------------------------------------------------------------------


@_reading.get("/")
def waiting(
    desk: TheDesk,
    section: str = "",
    kind: str = "",
    text: str = "",
    said: str = "",
    days: Annotated[int, Query(ge=1, le=MOST_DAYS)] = DAYS,
    page: Annotated[int, Query(ge=1)] = 1,
) -> Response:
    """What waits for a person, the most urgent first."""
    filters = {"section": section, "kind": kind, "text": text, "days": days}
    told = desk.api.get("waiting", days=days)
    counted = told.get("counts") or listed(told)
    entries = choose(told, section=section, kind=kind, text=text)
    size = _MANY if section else _FEW
    return desk.page(
        "waiting.html",
        status=desk.said.pop(said, ""),
        says=told.get("sending", {}).get("says", ()),
        filters=filters,
        back=urlencode(filters),
        counts=listed(choose(told, kind=kind, text=text)) if kind or text else counted,
        left_out=sum(counted.values()) - sum(listed(told).values()),
        totals=listed(entries),
        entries={name: found[(page - 1) * size : page * size] for name, found in entries.items()},
        page=page,
        pages=-(-len(entries.get(section, ())) // size),
        address=lambda **changes: "/?" + urlencode(filters | changes),
        export="/problems.csv?" + urlencode(filters),
    )


@_reading.get("/problems.csv")
def export(
    desk: TheDesk,
    section: str = "",
    kind: str = "",
    text: str = "",
    days: Annotated[int, Query(ge=1, le=MOST_DAYS)] = DAYS,
) -> Response:
    """Every submission that has a problem, for a spreadsheet."""
    entries = choose(desk.api.get("waiting", days=days), section=section, kind=kind)
    rows = choose({"rejected": problems(entries)}, text=text)["rejected"]
    name = f"kiva-problems-{desk.now():%Y-%m-%d}.csv"
    return Response(as_csv(rows), 200, {"Content-Disposition": f'attachment; filename="{name}"'}, "text/csv")


@_reading.get("/loan")
def loan(desk: TheDesk, loan_id: Annotated[str, Query(alias="id")] = "") -> Response:
    """Everything that is known of a loan."""
    sought = loan_id.strip()
    told = desk.api.get("submissions", loan_id=sought) if sought else {}
    return desk.page("loan.html", loan_id=sought, submissions_found=told.get("submissions", []), more="cursor" in told)


@_reading.get("/submissions/{kind}/{reference}")
def submission(desk: TheDesk, kind: str, reference: str) -> Response:
    """One submission with all that is known of it; or all those of one message."""
    told = desk.api.get("submissions", kind, reference)
    if "submissions" in told:
        return desk.page(
            "loan.html", loan_id="", message=told, submissions_found=told["submissions"], more="cursor" in told
        )
    return desk.page("submission.html", row=told)


@_reading.get("/submissions/{kind}/{reference}/decision")
def deciding(desk: TheDesk, kind: str, reference: str) -> Response:
    """The form of a decision on a page of its own."""
    return _decision_page(desk, kind, reference)


def _decision_page(
    desk: Desk, kind: str, reference: str, typed: Mapping[str, Any] | None = None, error: Exception | None = None
) -> Response:
    told = desk.api.get("waiting", days=DAYS)
    call = of_call(told, kind, reference)
    if not call:  # decided meanwhile, or one of more than the relay lists
        row = desk.api.get("submissions", kind, reference)
        state = row.get("state")
        waits = state in ("UNKNOWN", "STUCK") or (state == "REJECTED" and not row.get("reopened"))
        same = row.get("call_id") if state == "UNKNOWN" else None
        of_the_same = (it for it in told.get("unknown", ()) if same and it.get("call_id") == same)
        alone: dict[str, Any] = {"kind": kind, "submissions": [], "waits": waits}
        call = next(of_the_same, alone)
        call = {**call, "submissions": [row, *call["submissions"]]}
    status, told = (200, "") if error is None else (_explained(error)[0], str(error))
    fields: dict[str, str] = {}
    if isinstance(error, Refused):
        broken = error.problem.get("errors", ())
        fields = {each.get("field", "").removeprefix("$."): each.get("rule", "") for each in broken}
    return desk.page(
        "decision.html", status, call=call, reference=reference, typed=typed or {}, error=told, wrong=fields
    )


@_reading.get("/page.css")
@_reading.get("/page.js")
@_reading.get("/page.svg")
def file(request: Request) -> FileResponse:
    """The look, and the little that a browser does by itself."""
    return FileResponse(_PAGES / request.url.path.removeprefix("/"))


# --- what is done ---------------------------------------------------------------------------------------------------


@_acting.post("/submissions/{kind}/{reference}/decision")
def decide(
    desk: TheDesk,
    kind: str,
    reference: str,
    *,
    decision: Annotated[str, Form()] = "",
    reason: Annotated[str, Form()] = "",
    kiva_reference: Annotated[str, Form()] = "",
    excepted: Annotated[list[str] | None, Form(alias="except")] = None,
    confirmation: Annotated[str, Form()] = "",
    back: Annotated[str, Form()] = "",
) -> Response:
    """Say what is true of an UNKNOWN submission and its call, reopen what was refused, or give up what is stuck."""
    typed: dict[str, Any] = {
        "decision": decision,
        "reason": reason,
        "kiva_reference": kiva_reference,
        "except": excepted or [],
        "confirmation": confirmation,
        "back": back,
    }
    body: dict[str, Any] = {"decision": decision, "reason": reason.strip()}
    if decision == "accepted" and kiva_reference.strip():
        body["kiva_reference"] = kiva_reference.strip()
    if decision == "accepted" and excepted:
        body["except"] = excepted
    if desk.environment == "production" and confirmation.strip() != "production":
        rule = {"field": "$.confirmation", "rule": "must be the word production, for this is about real loans"}
        broken = Refused(HTTPStatus.BAD_REQUEST, {"title": "The stage is not confirmed", "errors": [rule]})
        return _decision_page(desk, kind, reference, typed, broken)
    try:
        reply = desk.api.post("submissions", kind, reference, "decision", body=json.dumps(body).encode())
    except (Refused, NoAnswer) as error:
        return _decision_page(desk, kind, reference, typed, error)
    decided = reply.body.get("submissions", [reply.body])
    states = Counter(row.get("state") for row in decided)
    return desk.sent_on("Decided: " + ", ".join(f"{count} now {state}" for state, count in states.items()) + ".", back)


@_acting.post("/done")
def done(
    desk: TheDesk, item: Annotated[list[str] | None, Form()] = None, back: Annotated[str, Form()] = ""
) -> Response:
    """Take off the list what somebody has published, confirmed, finalised or seen to. An item is `kind/reference`."""
    taken, failed = _each(lambda it: _take_off(desk.api, *it.split("/", 1)), item or [])
    return desk.sent_on(f"{taken} taken off the list." + failed, back)


@_acting.post("/published")
def published(
    desk: TheDesk,
    text: Annotated[str, Form()] = "",
    days: Annotated[int, Form(ge=1, le=MOST_DAYS)] = DAYS,
    back: Annotated[str, Form()] = "",
) -> Response:
    """Look which of the drafts that are shown are loans by now, and take those off the list; the oldest first."""
    drafts = choose(desk.api.get("waiting", days=days), text=text)["drafts"]
    some = drafts[::-1][:_MANY]

    def look(draft: dict[str, Any]) -> bool:
        return _is_published(desk.api, draft) and _take_off(desk.api, "loan_draft", draft["loan_draft_uuid"])

    found, failed = _each(look, some)
    rest = f" {len(drafts) - len(some)} more were not looked for; do it again." if len(drafts) > len(some) else ""
    return desk.sent_on(f"{found} of {len(some)} drafts are published, and off the list.{rest}{failed}", back)


def _take_off(api: RelayApi, kind: str, reference: str = "") -> bool:
    api.post("waiting", kind, reference, "done", body=b"{}")
    return True


def _is_published(api: RelayApi, draft: Mapping[str, Any]) -> bool:
    """Whether there is a loan with the very id of a draft, no older than it: an older one may have had the same id."""
    sent = datetime.fromisoformat(draft["accepted_at"]).timestamp()
    found = api.get("loans", query=draft["loan_id"], limit=_MANY)["loans"]
    made = [made_at(loan) for loan in found if loan.get("internal_loan_id") == draft["loan_id"]]
    return any(at is not None and at >= sent - _CLOCK_SKEW_SECONDS for at in made)


def _each[Item](work: Callable[[Item], bool], items: Sequence[Item]) -> tuple[int, str]:
    """Do it with each, a few at a time, until something goes wrong: how often it was true, and what went wrong."""
    wrong: list[str] = []

    def attempt(item: Item) -> bool:
        if wrong:
            return False
        try:
            return work(item)
        except (Refused, NoAnswer) as error:
            wrong.append(f" Then it stopped: {error}")
            return False

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return sum(pool.map(attempt, items)), "".join(wrong[:1])


# --- what went wrong ------------------------------------------------------------------------------------------------


def _relay_problem(request: Request, error: Exception) -> Response:
    """The relay or AWS cannot be used at the moment: a page that says what to do."""
    status, told, mend = _explained(error)
    return _desk(request).page("problem.html", status, title="The relay cannot be asked", told=told, mend=mend)


def _explained(error: Exception) -> tuple[int, str, str]:
    """The status to answer with, what happened, and what to do."""
    log_in = "Log in to AWS again (for example: aws sso login) with a role that may call the relay's API, then reload."
    match error:
        case Refused(status=401 | 403):
            return 403, f"The relay's API does not let you in. It says: {error}", log_in
        case Refused():
            return error.status, str(error), "Nothing was changed. Go back and try it another way, or a little later."
        case NoAnswer():
            mend = (
                "Look whether this machine is online and the stack is deployed (on this machine: make up), then reload."
            )
            return 502, str(error), mend
        case NoSuchStack():
            return 502, str(error), "Do that, then reload."
    return 502, f"AWS does not accept the credentials of this machine ({type(error).__name__}).", log_in


def _page_problem(request: Request, error: Exception) -> Response:
    """There is no such page, it may not be asked for like that, or we are at fault."""
    match error:
        case StarletteHTTPException():
            status, told = error.status_code, str(error.detail)
        case RequestValidationError():
            status = HTTPStatus.UNPROCESSABLE_ENTITY
            told = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
        case _:
            status, told = (
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "This page has a fault; the terminal that it runs in says more.",
            )
    mend = "Go back to what waits and try again from there."
    return _desk(request).page("problem.html", status, title="That did not work", told=told, mend=mend)


# --- how it is served -----------------------------------------------------------------------------------------------


async def _guarded(request: Request, follow: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await follow(request)
    response.headers.update(_HEADERS)
    return response


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(_PAGES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=ChainableUndefined,  # what the relay does not tell is shown as nothing
    )
    templates.filters |= {"part": lambda text: quote(str(text), safe=":~"), "moment": _moment}
    return templates


def _moment(text: object) -> datetime | None:
    """A time of the relay in this machine's zone, or None when it is none."""
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(str(text)).astimezone()
    return None


def serve(stack: StackOfStage, port: int, *, open_browser: bool) -> None:
    """Serve the page of a stack on this machine until told to stop; port 0 takes any free one.

    Raises:
        NoSuchStack, ClientError, BotoCoreError: the stack cannot be looked at.
        SystemExit: the port cannot be had; with a message.
    """
    app = create_app(stack)
    try:
        listener = socket.create_server((LOOPBACK, port))
    except (OSError, OverflowError) as error:
        sys.exit(f"Port {port} of {LOOPBACK} cannot be had ({error}). Choose another one; 0 takes any that is free.")
    with listener:
        url = f"http://{LOOPBACK}:{listener.getsockname()[1]}/"
        print(f"What waits for a person in {stack.name}: {url}  (Ctrl-C ends it)", flush=True)
        if open_browser:
            webbrowser.open(url)
        # No access log: its lines would hold what somebody searched for.
        config = uvicorn.Config(
            app, access_log=False, log_level="warning", server_header=False, timeout_graceful_shutdown=3
        )
        uvicorn.Server(config).run(sockets=[listener])
