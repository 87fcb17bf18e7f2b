"""A sandbox in this process, its clock in the test's hand, and a bearer who may do everything."""

import copy
import subprocess
import sys
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from kiva_sandbox.app import create_app
from kiva_sandbox.data import Partner, portfolio
from kiva_sandbox.state import State
from kiva_sandbox.switches import HEADER, Switches
from kiva_sandbox.tokens import Tokens, new_signing_key

AUDIENCE = "https://partner-api-stage.dk1.kiva.org"
PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNwaEgAAAIkASHFUYmIAAAAAElFTkSuQmCC"
)
INDIVIDUAL = {
    "activity_id": 61,
    "theme_type_id": 48,
    "description_language_id": 1,
    "location": "Kisumu: Kenya",
    "currency": "KES",
    "loanuse": "to restock her stall with maize flour.",
    "description": "Akinyi has run a food stall beside the bus park for six years.",
    "client_waiver_signed": True,
    "disburse_time": "2026-09-01",
    "entreps": [
        {
            "client_id": "C-20418",
            "loan_id": "L-77310-2",
            "first_name": "Akinyi",
            "last_name": "Odhiambo",
            "gender": "female",
            "amount": 60000.00,
        }
    ],
    "schedule": [
        {"date": "2026-10-01", "principal": 20000.00, "interest": 900.00},
        {"date": "2026-11-01", "principal": 40000.00, "interest": 600.00},
    ],
    "image_encoded": PNG,
}
GROUP = {
    **INDIVIDUAL,
    "location": "São Domingos: Guinea-Bissau",
    "currency": "XOF",
    "group_name": "Horta Nova",
    "internal_client_id": "G-0310",
    "internal_loan_id": "GL-0310-1",
    "entreps": [
        {"client_id": "C-501", "loan_id": "GL-0310-1-A", "first_name": "Fatumata", "last_name": "Baldé", "amount": 150},
        {"client_id": "C-502", "loan_id": "GL-0310-1-B", "first_name": "Inácio", "last_name": "Gomes", "amount": 120},
    ],
    "not_pictured": [False, True],
    "schedule": [{"date": "2026-11-15", "principal": 270, "interest": 5}],
}


ROOT = Path(__file__).parents[2]


class Clock:
    def __init__(self):
        self.time = datetime(2026, 9, 1, 8, tzinfo=UTC)

    def __call__(self):
        return self.time

    def advance(self, seconds):
        self.time += timedelta(seconds=seconds)


class Caller:
    """Somebody with a token; `http` is the bare client, for those without."""

    def __init__(self, http, headers, partner_id="9001"):
        self.http = http
        self.headers = headers
        self.base = f"/v3/partner/{partner_id}"

    def get(self, path, **query):
        return self.http.get(f"{self.base}/{path}", params=query, headers=self.headers)

    def post(self, path, body):
        return self.http.post(f"{self.base}/{path}", json=body, headers=self.headers)

    def seen(self, name):
        return self.http.get(f"/_sandbox/{name}").json()


@pytest.fixture
def start():
    """Starts the sandbox as people do: a process of its own, with these options. It ends with the test."""
    with ExitStack() as running:

        def run(*options):
            process = subprocess.Popen(  # noqa: S603 - our own module, with the options of the test
                [sys.executable, "-m", "kiva_sandbox", *options],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            running.callback(process.communicate)
            running.callback(process.kill)
            return process

        yield run


@pytest.fixture(scope="session")
def signing_key():
    return new_signing_key()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def http(signing_key, clock):
    with closing(State(portfolio(), clock)) as state:
        yield TestClient(create_app(state, Tokens(Partner(), signing_key, clock)), raise_server_exceptions=False)


@pytest.fixture
def form():
    return {
        "grant_type": "client_credentials",
        "client_id": "sandbox-client",
        "client_secret": "s3cr&t+/=",  # pragma: allowlist secret
        "audience": AUDIENCE,
    }


@pytest.fixture
def bearer(http, form):
    """Makes somebody who asked for these scopes (all when none are named) and calls as this partner."""

    def make(scope="", partner_id="9001"):
        token = http.post("/oauth/token", data={**form, "scope": scope}).json()["access_token"]
        return Caller(http, {"Authorization": f"Bearer {token}"}, partner_id)

    return make


@pytest.fixture
def kiva(bearer):
    return bearer()


@pytest.fixture(params=["header", "run time", "start"])
def told(request, http, form, signing_key, clock):
    """Makes somebody with a token at a sandbox that was told these switches, in each of the three ways."""

    def tell(**switches):
        client, headers = http, {}
        if request.param == "header":
            headers = {HEADER: ", ".join(f"{name}={value}" for name, value in switches.items())}
        elif request.param == "run time":
            assert http.patch("/_sandbox/switches", json=switches).status_code == 200
        else:
            app = create_app(State(portfolio(), clock), Tokens(Partner(), signing_key, clock), Switches().but(switches))
            client = TestClient(app)
        token = client.post("/oauth/token", data=form).json()["access_token"]
        return Caller(client, {"Authorization": f"Bearer {token}"} | headers)

    return tell


@pytest.fixture(
    params=["1e999999999", "-1e999999999", "1e400", "NaN", "sNaN", "Infinity", 10**400], ids=lambda it: str(it)[:12]
)
def no_amount(request):
    """What Python's decimals take for a number, and nobody can reckon with or show as JSON."""
    return request.param


@pytest.fixture
def individual():
    return copy.deepcopy(INDIVIDUAL)


@pytest.fixture
def group():
    return copy.deepcopy(GROUP)
