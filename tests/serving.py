"""A web application on a port of this machine, for as long as a test needs it."""

import socket
from contextlib import contextmanager
from threading import Thread

import uvicorn


@contextmanager
def serving(app, config=uvicorn.Config):
    """Gives the address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
