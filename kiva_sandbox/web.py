"""What the routes share: how answers and refusals look on the wire, and where the sandbox itself is found."""

import json
from http import HTTPStatus
from typing import Annotated, cast, override

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from kiva_sandbox.state import State
from kiva_sandbox.tokens import OAuthError, Tokens


class Answer(JSONResponse):
    """JSON in UTF-8. Half a surrogate pair, which JSON can carry and UTF-8 cannot, goes out as it came: escaped."""

    @override
    def render(self, content: object) -> bytes:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


class ApiError(Exception):
    """The request was read, and the Partner API will not have it."""


def no_such_route() -> HTTPException:
    """The refusal of a path that nothing answers."""
    return HTTPException(404, "No message available")


async def _state(request: Request) -> State:
    return cast("State", request.app.state.kept)


async def _tokens(request: Request) -> Tokens:
    return cast("Tokens", request.app.state.tokens)


KeptState = Annotated[State, Depends(_state)]
TokensOfPartner = Annotated[Tokens, Depends(_tokens)]


async def sent_from_here(request: Request) -> None:
    """Let nobody's page elsewhere make a browser publish or reset anything (cross-site request forgery).

    Browsers say where a request comes from: in `Sec-Fetch-Site` (W3C Fetch Metadata) when they trust the address, as
    they do the loopback; else in `Origin`, with every POST (RFC 6454 §7). Programs say neither and are let in.

    Raises:
        HTTPException: 403.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    own = site in ("same-origin", "none") if site else origin in (None, str(request.base_url).rstrip("/"))
    if request.method == "POST" and not own:
        raise HTTPException(403, "This came from a page elsewhere, so nothing was done.")


def add_refusals(app: FastAPI) -> None:
    """Give each kind of refusal its form: OAuth's, the Partner API's own, and Spring's for all the rest."""

    @app.exception_handler(OAuthError)
    async def not_allowed(_: Request, error: OAuthError) -> Answer:
        return Answer(error.body, error.status)

    @app.exception_handler(ApiError)
    async def not_accepted(_: Request, error: ApiError) -> Answer:
        return Answer({"code": "api.error", "message": str(error)}, 400)

    @app.exception_handler(StarletteHTTPException)
    async def not_served(request: Request, error: StarletteHTTPException) -> Answer:
        return _spring(request, error.status_code, error.detail)

    @app.exception_handler(RequestValidationError)
    async def bad_query(request: Request, _: RequestValidationError) -> Answer:
        return _spring(request, 400, "Bad Request")

    @app.exception_handler(Exception)
    async def broken(request: Request, _: Exception) -> Answer:
        return _spring(request, 500, "No message available")


def _spring(request: Request, status: int, message: str) -> Answer:
    now = cast("State", request.app.state.kept).now()
    body = {
        "timestamp": now.isoformat(timespec="milliseconds"),
        "status": status,
        "error": HTTPStatus(status).phrase,
        "message": message,
        "path": request.url.path,
    }
    return Answer(body, status)
