"""How the sandbox is served: by uvicorn, whose connections it can end without an answer."""

import asyncio
from typing import Any, override

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol


class _CanHangUp(H11Protocol):
    """Gives every request the means to end its connection: ASGI has none, and a test of a lost answer needs it."""

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "hang_up": transport.close}

    @override
    def shutdown(self) -> None:
        """Told to stop, give the calls under way half a second, which only one that waits out a latency needs more of.

        Such a call is cancelled by uvicorn otherwise, which makes a traceback of it.
        """
        super().shutdown()
        self.loop.call_later(0.5, self.transport.close)


def serve_config(app: FastAPI, **settings: Any) -> uvicorn.Config:
    """Say how uvicorn is to serve the sandbox; `settings` are uvicorn's own. Told to stop, it stops within seconds."""
    return uvicorn.Config(app, http=_CanHangUp, **{"timeout_graceful_shutdown": 3, **settings})
