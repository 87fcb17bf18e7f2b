"""The sandbox as one web application."""

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from kiva_sandbox.faults import Faults
from kiva_sandbox.inspection import inspection
from kiva_sandbox.partner_api import authorisation, partner, partners
from kiva_sandbox.screens import create_screens
from kiva_sandbox.state import State
from kiva_sandbox.switches import DEFAULTS, Switchboard, Switches
from kiva_sandbox.tokens import Tokens
from kiva_sandbox.web import add_refusals


def create_app(state: State, tokens: Tokens, switches: Switches = DEFAULTS) -> FastAPI:
    """Build the application: what it receives goes into `state`, whom it lets in is up to `tokens`.

    It starts with `switches`. Serve it with `serve_config`, or its fault `lost` is an error and not a lost answer.
    """
    board = Switchboard(switches)
    app = FastAPI(title="Kiva sandbox", openapi_url=None, redirect_slashes=False)
    app.state.kept = state
    app.state.tokens = tokens
    app.state.board = board
    app.add_middleware(Faults, board=board, state=state)
    for router in (authorisation, partner, partners, inspection):
        app.include_router(router)
    app.mount("/pa2", create_screens(state, board), name="pa2")
    add_refusals(app)

    @app.get("/")
    @app.get("/pa2")
    async def entrance() -> RedirectResponse:
        return RedirectResponse("/pa2/", 303)

    return app
