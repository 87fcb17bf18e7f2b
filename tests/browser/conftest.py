"""A real Chromium without a window, and the coordinator's page served to it over HTTP."""

import json
from urllib.parse import urlsplit

import pytest

from cli.console import create_app
from relay_answers import NOW, FakeRelay, stack_with


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
def desk_at(serve, relay):
    """Serves the page of a stack with these parameters."""
    return lambda **parameters: serve(create_app(stack_with(relay, **parameters), now=lambda: NOW))


@pytest.fixture
def desk(desk_at):
    return desk_at()
