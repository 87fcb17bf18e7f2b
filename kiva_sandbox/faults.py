"""Around the whole application: which switches a call has, and the faults that it meets instead of its answer."""

import asyncio
import re
from contextlib import suppress
from typing import cast

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kiva_sandbox.state import State
from kiva_sandbox.switches import HEADER, Call, NoSuchSwitch, Switchboard, Switches
from kiva_sandbox.tokens import expired
from kiva_sandbox.web import Answer, bad_switch, springs

_API = re.compile(r"/oauth/token|/v3/partners?/.*", re.DOTALL)
_CALL = re.compile(
    r"POST /oauth/(token)|POST /v3/partner/[^/]+/(loan_draft|repayments)|POST /v3/partners?/[^/]+/(journals)"
    r"|GET /v3/partner/[^/]+/(loans)|GET /v3/partner/[^/]+/(config)/[^/]+"
)


class Faults:
    """ASGI middleware: puts the switches of a call into its state, counts it, and lets it meet fault and latency."""

    def __init__(self, app: ASGIApp, board: Switchboard, state: State) -> None:
        self._app = app
        self._board = board
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            ConnectionResetError: the answer is lost, and the server has no way to end the connection without one.
        """
        if scope["type"] != "http" or not _API.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        call = _call(request)
        try:
            switches = self._board.for_call(call, ",".join(request.headers.getlist(HEADER)))
        except NoSuchSwitch as error:
            await bad_switch(error)(scope, receive, send)
            return
        request.state.switches = switches
        if call:
            self._state.count(call)

        instead = _before(request, switches)
        if instead is None and switches.fault == "off" and not switches.latency:
            await self._app(scope, receive, send)
            return
        if instead is None:
            instead = _after(await _answer(self._app, scope, receive), switches)
        await _wait(switches.latency, receive)
        if instead is None:
            await _hang_up(request)
        else:
            await instead(scope, receive, send)


def _call(request: Request) -> Call | None:
    found = _CALL.fullmatch(f"{request.method} {request.scope['path']}")
    return cast("Call", found[found.lastindex or 0]) if found else None


def _before(request: Request, switches: Switches) -> Response | None:
    """The answer of those faults that do nothing else."""
    match switches.fault:
        case "expired":
            return Answer(expired(switches.refused_token).body, switches.refused_token)
        case 429 | 503:  # the statuses that RFC 6585 §4 and RFC 9110 §15.6.4 give a Retry-After
            answer = springs(request, switches.fault)
            if switches.retry_after != "none":
                answer.headers["Retry-After"] = str(switches.retry_after)
            return answer
        case 500:
            return springs(request, 500)
        case 502:
            return _page(502, "502 Bad Gateway")
        case _:
            return None


def _after(answer: Response, switches: Switches) -> Response | None:
    """What takes the place of the answer of something that was done; None when nothing does."""
    match switches.fault:
        case 504:
            return _page(504, "504 Gateway Time-out")
        case "not-json":
            return _page(200, "Please sign in")
        case "truncated":
            body = bytes(answer.body)
            return Response(body[: len(body) // 2], answer.status_code, media_type="application/json")
        case "lost":
            return None
        case _:
            return answer


async def _answer(app: ASGIApp, scope: Scope, receive: Receive) -> Response:
    """What the application answers, kept back."""
    answer = Response()
    body = bytearray()

    async def keep(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status_code = message["status"]
            answer.raw_headers = list(message["headers"])
        else:
            body.extend(message.get("body", b""))

    await app(scope, receive, keep)
    answer.body = bytes(body)
    return answer


async def _wait(seconds: float, receive: Receive) -> None:
    """Return after that time, or when the client has hung up."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await _end(receive)


async def _hang_up(request: Request) -> None:
    """End the connection without an answer, by what `serving` puts into the state of every request."""
    hang_up = getattr(request.state, "hang_up", None)
    if hang_up is None:
        raise ConnectionResetError("the answer is lost (Kiva-Sandbox: fault=lost)")
    hang_up()
    # An application that returns before the server has noticed would be one that has failed to answer.
    await _end(request.receive)


async def _end(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _page(status: int, title: str) -> Response:
    """A page such as gateways and sign-ins put in the way."""
    return HTMLResponse(
        f"<html>\n<head><title>{title}</title></head>\n<body>\n<center><h1>{title}</h1></center>\n</body>\n</html>\n",
        status,
    )
