"""The sandbox as one web application."""

from fastapi import FastAPI

from local.kiva_sandbox.inspection import inspection
from local.kiva_sandbox.partner_api import authorisation, partner, partners
from local.kiva_sandbox.state import State
from local.kiva_sandbox.tokens import Tokens
from local.kiva_sandbox.web import add_refusals


def create_app(state: State, tokens: Tokens) -> FastAPI:
    """Build the application: what it receives goes into `state`, whom it lets in is up to `tokens`."""
    app = FastAPI(title="Kiva sandbox", openapi_url=None, redirect_slashes=False)
    app.state.kept = state
    app.state.tokens = tokens
    for router in (authorisation, partner, partners, inspection):
        app.include_router(router)
    add_refusals(app)
    return app
