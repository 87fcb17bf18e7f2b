"""What people see of it in PA2, imitated: pages to look at what has arrived, and to publish, confirm and finalise it.

They work without JavaScript and load nothing from anywhere. What they show came from outside, so it is text and never
markup: Jinja2 escapes it, and the policy below lets nothing run that got through.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from itertools import groupby
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException as StarletteHTTPException

from kiva_sandbox.bodies import Draft, Journal
from kiva_sandbox.pa2 import is_image
from kiva_sandbox.state import DraftKept, NotPublishable, Problem, Row, State
from kiva_sandbox.switches import DEFAULTS, NoSuchSwitch, Switchboard, Switches, number, words
from kiva_sandbox.web import Board, KeptState, sent_from_here

ROWS = 100
"""Of a list on one page."""
_FRAME = Path(__file__).parents[1] / "cli" / "pages"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    # With `no-referrer` a browser would say `Origin: null` of these pages' own forms as well (Fetch §3.2).
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

screens = APIRouter(dependencies=[Depends(sent_from_here)])
PageNumber = Annotated[int, Query(ge=1)]


def create_screens(state: State, board: Switchboard) -> FastAPI:
    """Build the pages, to be mounted at `/pa2`. What they refuse, they refuse in words and not in Spring's JSON."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.state.kept = state
    app.state.board = board
    app.include_router(screens)

    @app.exception_handler(StarletteHTTPException)
    async def not_served(_: Request, error: StarletteHTTPException) -> HTMLResponse:
        # Starlette's own detail is but the name of the status.
        ours = error.detail != HTTPStatus(error.status_code).phrase
        return _page("refused.html", error.status_code, words=error.detail if ours else "There is no such page here.")

    @app.exception_handler(RequestValidationError)
    async def bad_query(_: Request, __: RequestValidationError) -> HTMLResponse:
        return _page("refused.html", 400, words="This address or form cannot be read.")

    return app


@screens.get("/page.css")
async def look() -> FileResponse:
    """Send the look that these pages share with the coordinator's."""
    return FileResponse(_FRAME / "page.css", headers=_HEADERS)


@screens.get("/")
async def overview(state: KeptState, board: Board) -> HTMLResponse:
    """Show what waits for a person, what has come in since the start, and what is not as Kiva's likeliest."""
    token_requests, calls = state.counters()
    loans, _ = state.find_loans("", "", 0, 0)
    return _page(
        "overview.html",
        waiting=state.waiting(),
        loans=loans,
        token_requests=token_requests,
        calls=calls,
        otherwise=_otherwise(board.now, DEFAULTS),
    )


@screens.get("/drafts")
async def drafts(state: KeptState, page: PageNumber = 1) -> HTMLResponse:
    """List the drafts, newest first."""
    shown = _Shown.of(state.drafts()[::-1], page)
    return _page("drafts.html", shown=shown, drafts=[(kept, _read(kept)) for kept in shown.items])


@screens.get("/drafts/{uuid}")
async def draft(uuid: str, state: KeptState) -> HTMLResponse:
    """Show a draft as it came, with its photo and with PA2's messages."""
    return _draft(uuid, state)


@screens.post("/drafts/{uuid}")
async def publish(uuid: str, state: KeptState, *, completed: Annotated[bool, Form()] = False) -> HTMLResponse:
    """Publish it; while PA2 has messages about it, only when the form says that they are seen to."""
    try:
        state.publish(uuid, completed=completed)
    except KeyError:
        raise _no("draft", uuid) from None
    except NotPublishable as reason:
        return _draft(uuid, state, 409, str(reason))
    return _to(f"/pa2/drafts/{uuid}")


@screens.get("/journals")
async def archives(state: KeptState, page: PageNumber = 1) -> HTMLResponse:
    """List the archives, newest first, each with the journals of one call."""
    # The journals of an archive came in one go, so they stand together.
    found = [list(group) for _, group in groupby(state.journals(), lambda kept: kept["archive_id"])]
    return _page("archives.html", shown=_Shown.of(found[::-1], page))


@screens.get("/journals/confirm/{archive_id}")
async def archive(archive_id: str, state: KeptState, page: PageNumber = 1) -> HTMLResponse:
    """Show what `confirm_url` leads to: the journals of an archive, to be reviewed and confirmed as a whole."""
    found = state.archive(archive_id)
    if not found:
        raise _no("archive", archive_id)
    shown = _Shown.of([Journal.model_validate(kept["journal"]) for kept in found], page)
    known = state.kiva_ids([journal.internal_loan_id for journal in shown.items])
    return _page("archive.html", shown=shown, first=found[0], known=known)


@screens.post("/journals/confirm/{archive_id}")
async def confirm(archive_id: str, state: KeptState) -> HTMLResponse:
    """Confirm the archive."""
    try:
        state.confirm(archive_id)
    except KeyError:
        raise _no("archive", archive_id) from None
    return _to(f"/pa2/journals/confirm/{archive_id}")


@screens.get("/repayments")
async def uploads(state: KeptState, page: PageNumber = 1) -> HTMLResponse:
    """List the uploads, newest first."""
    return _page("uploads.html", shown=_Shown.of(state.uploads()[::-1], page))


@screens.get("/repayments/{upload_id}")
async def upload(upload_id: int, state: KeptState, page: PageNumber = 1) -> HTMLResponse:
    """Show the rows of an upload, those with a problem first."""
    found = state.upload(upload_id)
    if not found:
        raise _no("upload", upload_id)
    # Kiva names the loan that a problem is about, and not the row.
    problems: dict[str, list[Problem]] = {}
    for problem in found["problems"]:
        problems.setdefault(problem["loan_id"], []).append(problem)

    def weight(row: Row) -> tuple[bool, bool]:
        return row["recorded"], row["loan_id"] not in problems

    shown = _Shown.of(sorted(found["rows"], key=weight), page)
    return _page("upload.html", upload=found, shown=shown, problems=problems)


@screens.post("/repayments/{upload_id}")
async def finalise(upload_id: int, state: KeptState) -> HTMLResponse:
    """Finalise the upload."""
    try:
        state.finalise(upload_id)
    except KeyError:
        raise _no("upload", upload_id) from None
    return _to(f"/pa2/repayments/{upload_id}")


@screens.get("/loans")
async def loans(state: KeptState, query: str = "", status: str = "", page: PageNumber = 1) -> HTMLResponse:
    """Find loans as PA2's search box does, and by their status."""
    every = state.loans()
    _, found = state.find_loans(query, status, 0, len(every))
    return _page(
        "loans.html",
        shown=_Shown.of(found, page, query=query, status=status),
        query=query,
        status=status,
        statuses=sorted({loan["status"] for loan in every}),
    )


@screens.get("/switches")
async def switches(board: Board) -> HTMLResponse:
    """Show every switch, what it does and how it stands."""
    return _switches(board)


@screens.post("/switches")
async def switch(request: Request, board: Board) -> HTMLResponse:
    """Set the switches to what the form says, for all calls from now on. An empty number is the word that it can be."""
    form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    try:
        board.change({name: _said(name, value) for name, value in form.items()})
    except NoSuchSwitch as error:
        return _switches(board, 400, str(error))
    return _to("/pa2/switches")


@screens.post("/switches/start")
async def back_to_the_start(board: Board) -> HTMLResponse:
    """Set the switches to what they were at start; what was received stays."""
    board.reset()
    return _to("/pa2/switches")


@dataclass(frozen=True)
class _Shown[Item]:
    """One page of a list: which one from 1 to `last`, and what else its address asks for."""

    items: Sequence[Item]
    number: int
    last: int
    total: int
    asked: dict[str, str]

    @classmethod
    def of(cls, items: Sequence[Item], number: int, **asked: str) -> "_Shown[Item]":
        """That page, or the last one where there are fewer."""
        last = max(1, -(-len(items) // ROWS))
        number = min(number, last)
        return cls(items[(number - 1) * ROWS : number * ROWS], number, last, len(items), asked)

    def at(self, number: int) -> str:
        """The address of another page of the same list."""
        return "?" + urlencode({**self.asked, "page": number})


def _read(kept: DraftKept) -> Draft:
    return Draft.model_validate(kept["body"])


def _draft(uuid: str, state: State, status: int = 200, problem: str = "") -> HTMLResponse:
    kept = state.draft(uuid)
    if not kept:
        raise _no("draft", uuid)
    loan = state.loan(uuid)
    read = _read(kept)
    photo = read.image_encoded if is_image(read.image_encoded or "") else None
    return _page("draft.html", status, kept=kept, draft=read, photo=photo, loan=loan, problem=problem)


def _switches(board: Switchboard, status: int = 200, problem: str = "") -> HTMLResponse:
    return _page(
        "switches.html",
        status,
        fields=Switches.model_fields,
        now=board.now.model_dump(),
        changed=_otherwise(board.now, board.start),
        start=board.start.model_dump(),
        words={name: words(name) for name in Switches.model_fields},
        numbers={name: number(name) for name in Switches.model_fields},
        problem=problem,
    )


def _otherwise(now: Switches, than: Switches) -> dict[str, object]:
    """What stands otherwise than in `than`."""
    return {name: value for name, value in now.model_dump().items() if value != getattr(than, name)}


def _said(name: str, value: str) -> str:
    if value == "" and name in Switches.model_fields and number(name):
        return next(iter(words(name)), value)
    return value


def _no(thing: str, of: object) -> HTTPException:
    words = f"The imitation has no {thing} {of}. One that was started anew without a file of its state has none."
    return HTTPException(404, words)


def _to(address: str) -> HTMLResponse:
    """See Other (RFC 9110 §15.4.4): what was posted is done, and loading the page again does not do it twice."""
    return HTMLResponse(status_code=303, headers={**_HEADERS, "Location": address})


def _money(amount: Decimal | float | None) -> str:
    if amount is None:
        return "none"
    # What is no amount of money is shown as it came: written out, its digits may be without end.
    return f"{amount:,.2f}" if -(10**15) < amount < 10**15 else str(amount)


def _time(received_at: str) -> str:
    return f"{received_at[:16].replace('T', ' ')} UTC"


_TEMPLATES = Environment(
    loader=FileSystemLoader([Path(__file__).parent / "pages", _FRAME]),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {"money": _money, "time": _time}
_TEMPLATES.globals |= {
    "root": "/pa2",
    "look": "imitation",
    "place": "An imitation of Kiva's PA2, on this machine. Nothing here is Kiva's, and nothing here reaches Kiva.",
    "status": "",
}


def _page(template: str, status_code: int = 200, **shown: object) -> HTMLResponse:
    page = _TEMPLATES.get_template(template).render(**shown)
    # Half a surrogate pair, which JSON can carry and UTF-8 cannot, becomes a question mark.
    return HTMLResponse(page.encode("utf-8", "replace"), status_code, headers=_HEADERS)
