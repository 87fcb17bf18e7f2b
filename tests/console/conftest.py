"""The coordinator's page in this process, in front of a fake of the relay's API."""

import pytest
from fastapi.testclient import TestClient

from cli.console import create_app
from relay_answers import NOW, FakeRelay, stack_with

ORIGIN = "http://127.0.0.1:8090"


class Visitor(TestClient):
    """Somebody with a browser: its forms carry the page's token and what a browser says of where they come from."""

    def token(self):
        return self.app.state.desk.token

    def fill_in(self, path, data=None, **headers):
        said = {"Sec-Fetch-Site": "same-origin", "Origin": "null", **headers}
        return self.post(path, data={"token": self.token(), **(data or {})}, headers=said)

    def fill_in_and_read(self, path, data=None):
        """Post a form and follow where it leads."""
        answer = self.fill_in(path, data)
        assert answer.status_code == 303, answer.text
        return self.get(answer.headers["location"])


@pytest.fixture
def relay():
    return FakeRelay()


@pytest.fixture
def desk_of(relay):
    """Makes a visitor of the page of a stack with these parameters."""

    def make(**parameters):
        app = create_app(stack_with(relay, **parameters), now=lambda: NOW)
        return Visitor(app, base_url=ORIGIN, follow_redirects=False, raise_server_exceptions=False)

    return make


@pytest.fixture
def desk(desk_of):
    return desk_of()
