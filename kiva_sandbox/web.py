"""What the routes share: how answers and refusals look on the wire, and where the sandbox itself is found."""

import json
import math
from http import HTTPStatus
from typing import Annotated, cast, override

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from kiva_sandbox.state import State
from kiva_sandbox.switches import NoSuchSwitch, Switchboard, Switches
from kiva_sandbox.tokens import OAuthError, Tokens


class Answer(JSONResponse):
    """JSON in UTF-8. Half a surrogate pair, which JSON can carry and UTF-8 cannot, goes out as it came: escaped."""

    @override
    def render(self, content: object) -> bytes:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


class ApiError(Exception):
    """The request was read, and the Partner API will not have it."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def no_such_route() -> HTTPException:
    """The refusal of a path that nothing answers."""
    return HTTPException(404, "No message available")


def unreadable() -> HTTPException:
    """The refusal of a body that cannot be read as what it should be."""
    return HTTPException(400, "JSON parse error")


def media_type(request: Request) -> str:
    """What the body of a request is said to be, in lower case and without parameters."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


async def _state(request: Request) -> State:
    return cast("State", request.app.state.kept)


async def _tokens(request: Request) -> Tokens:
    return cast("Tokens", request.app.state.tokens)


async def _board(request: Request) -> Switchboard:
    return cast("Switchboard", request.app.state.board)


async def _switches(request: Request) -> Switches:
    return cast("Switches", request.state.switches)


KeptState = Annotated[State, Depends(_state)]
TokensOfPartner = Annotated[Tokens, Depends(_tokens)]
Board = Annotated[Switchboard, Depends(_board)]
SwitchesOfCall = Annotated[Switches, Depends(_switches)]
"""As `Faults` worked them out for this request."""


async def _json_body(request: Request) -> object:
    if media_type(request) != "application/json":
        raise HTTPException(415, "Content type not supported")
    try:
        return json.loads(await request.body(), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        raise unreadable() from None


JsonBody = Annotated[object, Depends(_json_body)]


async def sent_from_here(request: Request) -> None:
    """Let nobody's page elsewhere make a browser publish or reset anything (cross-site request forgery).

    Browsers say where a request comes from: in `Sec-Fetch-Site` (W3C Fetch Metadata) when they trust the address, as
    they do the loopback; else in `Origin`, with all but GET and HEAD (Fetch §3.2). Programs say neither and are let in.

    Raises:
        HTTPException: 403.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    own = site in ("same-origin", "none") if site else origin in (None, str(request.base_url).rstrip("/"))
    if request.method not in ("GET", "HEAD") and not own:
        raise HTTPException(403, "This came from a page elsewhere, so nothing was done.")


def bad_switch(error: NoSuchSwitch) -> Answer:
    """The refusal of a switch or value that does not exist: nothing was done."""
    return Answer({"error": "bad_switch", "message": str(error)}, 400)


def add_refusals(app: FastAPI) -> None:
    """Give each kind of refusal its form: OAuth's, the Partner API's own, and Spring's for all the rest."""

    @app.exception_handler(OAuthError)
    async def not_allowed(_: Request, error: OAuthError) -> Answer:
        return Answer(error.body, error.status)

    @app.exception_handler(ApiError)
    async def not_accepted(_: Request, error: ApiError) -> Answer:
        return Answer({"code": "api.error", "message": str(error)}, error.status)

    @app.exception_handler(NoSuchSwitch)
    async def not_switched(_: Request, error: NoSuchSwitch) -> Answer:
        return bad_switch(error)

    @app.exception_handler(StarletteHTTPException)
    async def not_served(request: Request, error: StarletteHTTPException) -> Answer:
        return springs(request, error.status_code, error.detail)

    @app.exception_handler(RequestValidationError)
    async def bad_query(request: Request, _: RequestValidationError) -> Answer:
        return springs(request, 400, "Bad Request")

    @app.exception_handler(Exception)
    async def broken(request: Request, _: Exception) -> Answer:
        return springs(request, 500)


def springs(request: Request, status: int, message: str = "No message available") -> Answer:
    """An error as Spring Boot words it, which Kiva's API is made with."""
    now = cast("State", request.app.state.kept).now()
    body = {
        "timestamp": now.isoformat(timespec="milliseconds"),
        "status": status,
        "error": HTTPStatus(status).phrase,
        "message": message,
        "path": request.url.path,
    }
    return Answer(body, status)


def _finite(text: str) -> float:
    """A JSON number as float. NaN and Infinity are no JSON, and what overflows could not be shown again as JSON."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number
