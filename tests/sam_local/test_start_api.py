"""Every route, good and bad: `sam local start-api`. It checks no signatures; that is for the stack in e2e/."""

import itertools
import json
import signal
import time
from dataclasses import dataclass
from urllib.parse import urljoin

import pytest
import requests

from e2e.world import NAME, SURNAME, World, loans
from local.processes import free_port
from local.stack import PARTNER
from sam_local.sam import FILES, containers

JSON = "application/json"


@dataclass(frozen=True)
class Request:
    """A request and the status that answers it. In its path and body stands `{uuid}` for a draft that Kiva has."""

    route: str
    path: str
    status: int
    body: str = ""
    media_type: str = JSON

    def __str__(self):
        return f"{self.route.partition(' ')[0]} {self.path}: {self.status}"


POSTS = {"POST /loan-drafts": "loan_draft", "POST /journal-updates": "journal_update", "POST /repayments": "repayment"}
GOOD = [
    Request("GET /submissions", "/submissions?kind=loan_draft&state=ACCEPTED", 200),
    Request("GET /submissions/{kind}/{reference}", "/submissions/loan_draft/sam-local", 200),
    Request(
        "POST /submissions/{kind}/{reference}/decision",
        "/submissions/loan_draft/sam-local/decision",
        409,
        '{"decision": "accepted", "kiva_reference": "{uuid}", "reason": "found in PA2 > Loans > Drafts"}',
    ),
    Request("GET /waiting", "/waiting", 200),
    Request("POST /waiting/{kind}/{reference}/done", "/waiting/loan_draft/{uuid}/done", 200),
    Request("POST /pause", "/pause", 200, '{"kind": "repayment", "reason": "a test"}'),
    Request("POST /resume", "/resume", 200, '{"kind": "repayment", "reason": "the test is over"}'),
    Request("GET /check", "/check", 200),
    Request("GET /health", "/health", 200),
    Request("GET /loans", "/loans?limit=1", 200),
    Request("GET /config/{name}", "/config/themes", 200),
    Request("GET /openapi.json", "/openapi.json", 200),
]
BAD = [
    *(Request(route, route.partition(" ")[2], 400, '{"reference": ') for route in POSTS),
    *(Request(route, route.partition(" ")[2], 415, "loan_id,amount", "text/csv") for route in POSTS),
    Request("GET /submissions", "/submissions?kind=loan_draft&state=DREAMT", 400),
    Request("GET /submissions/{kind}/{reference}", "/submissions/loan_draft/nobody-sent-this", 404),
    Request("GET /submissions/{kind}/{reference}", "/submissions/dream/nobody-sent-this", 400),
    Request("POST /submissions/{kind}/{reference}/decision", "/submissions/loan_draft/sam-local/decision", 400, "{}"),
    Request(
        "POST /submissions/{kind}/{reference}/decision",
        "/submissions/loan_draft/nobody-sent-this/decision",
        404,
        '{"decision": "abandon", "reason": "nobody sent this"}',
    ),
    Request("GET /waiting", "/waiting?days=never", 400),
    Request("POST /waiting/{kind}/{reference}/done", "/waiting/dream/{uuid}/done", 400),
    Request("POST /pause", "/pause", 400, "{}"),
    Request("POST /resume", "/resume", 400, "{}"),
    Request("GET /loans", "/loans?limit=all", 400),
    Request("GET /config/{name}", "/config/dreams", 404),
]


@pytest.fixture(scope="session")
def world(sam):
    """Messages about loans of which no file of events/ speaks."""
    return World(sam.stack, itertools.count(600))


@pytest.fixture(scope="session")
def api(sam):
    with sam.api(free_port(3000, insisted=None, option="")) as running:
        yield running


@pytest.fixture
def ask(api, tell):
    """Asks the API, past every proxy, and tells how long the answer took."""

    def ask(method, path, body="", **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        started = time.monotonic()
        with requests.Session() as session:
            session.trust_env = False
            response = session.request(method, urljoin(api[0], path), data=body.encode(), headers=named, timeout=120)
        tell("start-api", f"{method} {path}", str(response.status_code), time.monotonic() - started)
        return response

    return ask


@pytest.fixture(scope="session")
def uuid(world):
    """What Kiva calls the draft with the reference `sam-local`."""
    return world.post("loan_draft", world.draft(reference="sam-local"), Prefer="wait").json()["kiva"]["loan_draft_uuid"]


@pytest.mark.parametrize("route", POSTS)
def test_a_message_is_taken_in_and_is_at_kiva_once_however_often_it_comes(world, ask, route):
    method, path = route.split()
    kind = POSTS[route]
    message = world.message(kind)
    body = json.dumps(message)

    taken_in = ask(method, path, body, Content_Type=JSON)

    assert taken_in.status_code == 202
    assert world.ended(*taken_in.headers["Location"].split("/")[-2:])["state"] == "ACCEPTED"
    repeated = ask(method, path, body, Content_Type=JSON, Prefer="wait")
    assert (repeated.status_code, repeated.json()["state"]) == (200, "ACCEPTED")
    assert len(world.at_kiva(kind, loans(kind, message)[0])) == 1


@pytest.mark.parametrize("route", POSTS)
def test_who_prefers_to_wait_gets_the_outcome_from_kiva_at_once(world, ask, route):
    method, path = route.split()
    kind = POSTS[route]
    message = world.message(kind)

    response = ask(method, path, json.dumps(message), Content_Type=JSON, Prefer="wait")

    assert (response.status_code, response.json()["state"]) == (200, "ACCEPTED")
    assert len(world.at_kiva(kind, loans(kind, message)[0])) == 1


@pytest.mark.parametrize("request_", [*GOOD, *BAD], ids=str)
def test_every_route_answers_good_and_bad(ask, uuid, request_):
    path, body = (text.replace("{uuid}", uuid) for text in (request_.path, request_.body))

    response = ask(request_.route.partition(" ")[0], path, body, Content_Type=request_.media_type)

    assert response.status_code == request_.status, response.text
    assert response.json()


def test_it_ends_when_it_is_told_to_and_leaves_no_container(api):
    _, process = api
    assert containers()

    process.send_signal(signal.SIGTERM)

    assert process.wait() == 0
    assert containers() == []


def test_what_the_containers_wrote_holds_no_borrower_no_token_and_no_secret(sam, world):
    secret = world.stack.physical_id("TokenSecret")
    kept = world.stack.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"]
    beginning_of_every_token = json.loads(kept)["access_token"].partition(".")[0]

    written = sam.logs()

    assert '"message":"submission"' in written
    for hidden in (NAME, SURNAME, beginning_of_every_token, PARTNER.client_secret, *borrowers()):
        assert hidden not in written


def borrowers():
    """The names in the drafts of events/, and what its journals tell."""
    for file in FILES:
        event = json.loads(file.read_text())
        for each in event.get("Records", [event]):
            try:
                message = json.loads(each["body"])
            except (KeyError, TypeError, ValueError):
                continue  # it carries none, or none that is JSON
            for borrower in message.get("entreps", []):
                yield from (borrower["first_name"], borrower["last_name"])
            yield from (journal["body"] for journal in message.get("journals", []))
