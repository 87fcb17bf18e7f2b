"""A real Chromium without a window, and the coordinator's page served to it over HTTP."""

import json
import os
import socket
import threading
from urllib.parse import urlsplit

import pytest
import uvicorn

from chromium import not_installed, start_chromium
from cli.console import create_app
from relay_answers import NOW, FakeRelay, stack_with


@pytest.fixture(scope="session")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory, downloads):
    """The browser of the whole session. Where there is none these tests are left out, but not where CI says so."""
    if missing := not_installed():
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(f"THE PAGES WERE NOT TRIED: {missing}")
    with start_chromium(tmp_path_factory.mktemp("chromium"), downloads) as browser:
        yield browser


@pytest.fixture
def browser(chromium):
    """The browser, at a desk's width and in the light. It has then asked nobody else and complained of nothing."""
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    forget(chromium)
    yield chromium
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = [it["params"]["request"]["url"] for it in events if it["method"] == "Network.requestWillBeSent"]
    assert asked
    # What a page brings itself, like a photo, is asked of nobody.
    assert {urlsplit(url).hostname for url in asked if not url.startswith("data:")} == {"127.0.0.1"}
    assert [entry["message"] for entry in chromium.get_log("browser")] == []


def forget(browser):
    """Leave the page, and what was logged until now."""
    browser.get("about:blank")
    for kind in ("performance", "browser"):
        browser.get_log(kind)


@pytest.fixture
def relay():
    return FakeRelay()


@pytest.fixture
def serve():
    """Serves an application on a port of its own until the test is over; gives its address."""
    running = []

    def start(app):
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((server, thread, listener))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for server, thread, listener in running:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def desk_at(serve, relay):
    """Serves the page of a stack with these parameters."""
    return lambda **parameters: serve(create_app(stack_with(relay, **parameters), now=lambda: NOW))


@pytest.fixture
def desk(desk_at):
    return desk_at()
