"""The functions and the client against the imitation of Kiva, over a real connection: what counts is what arrived."""

import json
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import pytest
import requests

from deployment import ENVIRONMENT, credentials, variables
from faults.in_process import S3, DynamoDb
from faults.poller import Queue, Sqs
from faults.stage import Secrets
from kiva_partner import runtime
from kiva_sandbox.app import create_app
from kiva_sandbox.data import Partner, portfolio
from kiva_sandbox.serving import serve_config
from kiva_sandbox.state import State
from kiva_sandbox.tokens import AUDIENCES, Tokens, new_signing_key
from serving import serving

PARTNER = Partner()
LOANS = 100
"""Of its portfolio: all statuses occur."""


def pytest_configure(config):
    config.addinivalue_line("markers", "bug(number): what another integrator got wrong, by its number in the list")


@dataclass(frozen=True)
class Request:
    """One request as it came in, before anybody understood it. Names of headers are small letters."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def form(self):
        return {name: value for name, (value,) in parse_qs(self.body.decode(), strict_parsing=True).items()}


class Wire:
    """Stands before the imitation and keeps what arrives.

    `status` takes the place of every answer's own, but for those to requests for a token.
    """

    def __init__(self, app):
        self._app = app
        self.forget()

    def forget(self):
        self.requests = []
        self.status = None
        self.before = lambda request: None

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"].startswith("/_sandbox"):
            await self._app(scope, receive, send)
            return
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        request = Request(
            scope["method"],
            scope["path"],
            scope["query_string"].decode(),
            {name.decode(): value.decode("latin-1") for name, value in scope["headers"]},
            b"".join(message.get("body", b"") for message in messages),
        )
        self.requests.append(request)
        self.before(request)
        left = iter(messages)

        async def receive_again():
            return next(left, None) or await receive()

        async def send_on(message):
            if message["type"] == "http.response.start" and request.path != "/oauth/token":
                message = {**message, "status": self.status or message["status"]}
            await send(message)

        await self._app(scope, receive_again, send_on)


class Clock:
    """The imitation's time, which can go ahead of ours: then our tokens are too old for it."""

    def __init__(self):
        self.ahead = timedelta()

    def __call__(self):
        return datetime.now(UTC) + self.ahead


class Kiva:
    """The imitation, as the tests see it."""

    def __init__(self, url, wire, clock):
        self.url = url
        self.wire = wire
        self.clock = clock

    @property
    def calls(self):
        """What came, but for requests for a token."""
        return [each for each in self.wire.requests if each.path != "/oauth/token"]

    @property
    def token_requests(self):
        return [each for each in self.wire.requests if each.path == "/oauth/token"]

    def sent(self, path=""):
        """The bodies that were posted, to the endpoint of this name or to any."""
        return [each.json for each in self.calls if each.method == "POST" and each.path.endswith(path)]

    def has(self, name):
        """What it holds: `drafts`, `journals`, `uploads` or `loans`."""
        return requests.get(f"{self.url}/_sandbox/{name}", timeout=10).json()["data"]

    def switch(self, **switches):
        """From now on it does these otherwise."""
        requests.patch(f"{self.url}/_sandbox/switches", json=switches, timeout=10).raise_for_status()

    def start_anew(self):
        requests.post(f"{self.url}/_sandbox/reset", timeout=10).raise_for_status()
        self.clock.ahead = timedelta()
        self.wire.forget()


@contextmanager
def _kiva(key, partner, loans):
    clock = Clock()
    with closing(State(portfolio(loans), clock)) as state:
        wire = Wire(create_app(state, Tokens(partner, key, clock)))
        with serving(wire, serve_config) as url:
            yield Kiva(url, wire, clock)


@pytest.fixture(scope="session")
def signing_key():
    return new_signing_key()


@pytest.fixture(scope="session")
def running_kiva(signing_key):
    with _kiva(signing_key, PARTNER, LOANS) as kiva:
        yield kiva


@pytest.fixture
def kiva(running_kiva):
    """One imitation for all tests, as good as new for each."""
    running_kiva.start_anew()
    return running_kiva


@pytest.fixture
def another_kiva(signing_key):
    """An imitation of a test's own, for another partner; a context."""
    return lambda partner: _kiva(signing_key, partner, LOANS)


class Stack:
    """What the functions find around them. Queues, table and bucket are of this process: moto would take most of the
    time of these tests, which are not about AWS.
    """

    def __init__(self, monkeypatch):
        self.ledger, self._secrets = DynamoDb(), Secrets()
        self.dead_letters = Queue("dead-letters", time.time)
        self.queue = Queue("queue", time.time, dead_letters=self.dead_letters)
        clients = {
            "dynamodb": self.ledger,
            "s3": S3(),
            "secretsmanager": self._secrets,
            "sqs": Sqs(self.queue, self.dead_letters),
        }
        monkeypatch.setattr(runtime, "aws", lambda service: lambda: clients[service])
        self._monkeypatch = monkeypatch
        self.set(**variables(self.queue.url, self.dead_letters.url))

    def set(self, **variables):
        """Deployed anew with these otherwise."""
        for name, value in variables.items():
            self._monkeypatch.setenv(name, str(value))
        runtime.forget()

    def lead_to(self, kiva, partner):
        """Deployed anew, for this partner at this imitation."""
        stored = credentials(partner.client_secret, client_id=partner.client_id, partner_id=partner.id)
        self._secrets.put_secret_value(SecretId=ENVIRONMENT["KIVA_CREDENTIALS_SECRET"], SecretString=stored)
        self.set(**addresses(kiva.url), KIVA_PARTNER_ID=partner.id)

    @property
    def token(self):
        """The token that the functions share."""
        stored = self._secrets.get_secret_value(SecretId=ENVIRONMENT["TOKEN_STORE_NAME"])["SecretString"]
        return json.loads(stored)["access_token"]

    @property
    def reasons(self):
        """Why messages are dead letters."""
        return [each.attributes["Reason"]["StringValue"] for each in self.dead_letters.messages]


def addresses(url):
    """The variables that say where Kiva is."""
    return {"KIVA_TOKEN_URL": f"{url}/oauth/token", "KIVA_API_BASE_URL": url, "KIVA_AUDIENCE": AUDIENCES[0]}


@pytest.fixture
def stack(kiva, monkeypatch):
    stack = Stack(monkeypatch)
    stack.lead_to(kiva, PARTNER)
    yield stack
    runtime.forget()


@pytest.fixture
def deployed(stack):
    """What the functions of these tests stand in, instead of moto's AWS and a Kiva of fakes."""
    return stack
