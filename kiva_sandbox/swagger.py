"""The OpenAPI document and the page that shows it, at the paths where Kiva's are: those of Spring's springdoc."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from kiva_sandbox.description import document
from kiva_sandbox.web import Answer, KeptState

_PAGES = Path(__file__).parent / "pages"
_ASSETS = files("fastapi_swagger.resources")
_HEADERS = {
    "Cache-Control": "no-cache",
    # Nothing from anywhere else, and nothing written into the page runs.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

swagger = APIRouter(include_in_schema=False)


@swagger.get("/v3/api-docs")
async def api_docs(request: Request, state: KeptState) -> Answer:
    """Describe the API."""
    return Answer(document(request.app.routes, state.now().date()))


@swagger.get("/swagger-ui")
@swagger.get("/swagger-ui/")
async def to_the_page() -> RedirectResponse:
    """Lead to the page."""
    return RedirectResponse("/swagger-ui/index.html", 303)


@swagger.get("/swagger-ui/index.html")
async def page() -> Response:
    """Show what the document says, and let people try it."""
    return _file((_PAGES / "swagger.html").read_bytes(), "text/html")


@swagger.get("/swagger-ui/swagger-initializer.js")
async def start() -> Response:
    """Start the page: a file of its own, since nothing that is written into the page may run."""
    return _file((_PAGES / "swagger-initializer.js").read_bytes(), "text/javascript")


@swagger.get("/swagger-ui/swagger-ui-bundle.js")
async def script() -> Response:
    """Send Swagger UI itself."""
    return _file(_asset("swagger-ui-bundle.js"), "text/javascript")


@swagger.get("/swagger-ui/swagger-ui.css")
async def look() -> Response:
    """Send Swagger UI's look."""
    return _file(_asset("swagger-ui.css"), "text/css")


@cache
def _asset(name: Literal["swagger-ui-bundle.js", "swagger-ui.css"]) -> bytes:
    return _ASSETS.joinpath(name).read_bytes()


def _file(content: bytes, media_type: str) -> Response:
    return Response(content, media_type=media_type, headers=_HEADERS)
