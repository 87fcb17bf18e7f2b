"""Calls that meet a fault: what the caller gets instead of an answer, and what "Kiva" has done all the same."""

import json
import logging
import socket
from datetime import datetime

import httpx2
import pytest
from fastapi.testclient import TestClient

from kiva_sandbox.app import create_app
from kiva_sandbox.data import Partner, portfolio
from kiva_sandbox.serving import serve_config
from kiva_sandbox.state import State
from kiva_sandbox.tokens import Tokens

NOTHING_DONE = (429, 500, 502, 503)
DONE = (504, "not-json", "truncated")
JOURNALS = {"journals": [{"internal_loan_id": "L-70011-1", "subject": "A second stall", "body": "Rented."}]}
REPAYMENTS = {"repayments": [{"loan_id": "L-70011-1", "amount": 100}]}
BODIES = {"journals": JOURNALS, "repayments": REPAYMENTS}


def switch(kiva, **switches):
    answer = kiva.http.patch("/_sandbox/switches", json=switches)
    assert answer.status_code == 200


def stored(kiva):
    return [kiva.seen(name)["total"] for name in ("drafts", "journals", "uploads")]


@pytest.mark.parametrize("fault", NOTHING_DONE)
@pytest.mark.parametrize("call", ["loan_draft", "journals", "repayments"])
def test_a_fault_of_a_server_that_did_nothing_keeps_nothing_and_is_counted(kiva, individual, fault, call):
    switch(kiva, fault=fault)
    answer = kiva.post(call, BODIES.get(call, individual))
    assert answer.status_code == fault
    assert stored(kiva) == [0, 0, 0]
    assert kiva.seen("counters")["calls"][call] == 1


@pytest.mark.parametrize("fault", [429, 500, 503])
def test_what_the_api_itself_refuses_has_springs_form(kiva, fault):
    switch(kiva, fault=fault)
    body = kiva.get("loans").json()
    assert list(body) == ["timestamp", "status", "error", "message", "path"]
    assert (body["status"], body["path"]) == (fault, "/v3/partner/9001/loans")
    assert datetime.fromisoformat(body["timestamp"]).tzinfo


@pytest.mark.parametrize("fault", [502, 504])
def test_what_a_gateway_says_is_a_page(kiva, fault):
    switch(kiva, fault=fault)
    answer = kiva.get("loans")
    assert answer.status_code == fault
    assert answer.headers["Content-Type"].startswith("text/html")
    assert str(fault) in answer.text


@pytest.mark.parametrize("fault", [429, 503])
def test_only_a_fault_that_passes_says_when_if_it_is_told_to(kiva, fault):
    switch(kiva, fault=fault)
    assert "Retry-After" not in kiva.get("loans").headers
    switch(kiva, retry_after=7)
    assert kiva.get("loans").headers["Retry-After"] == "7"
    switch(kiva, retry_after=0)
    assert kiva.get("loans").headers["Retry-After"] == "0"
    switch(kiva, fault=500)
    assert "Retry-After" not in kiva.get("loans").headers


@pytest.mark.parametrize("fault", DONE)
def test_a_fault_on_the_way_back_leaves_it_done(kiva, individual, fault):
    switch(kiva, fault=fault)
    for call in ("loan_draft", "journals", "repayments"):
        kiva.post(call, BODIES.get(call, individual))
    assert stored(kiva) == [1, 1, 1]
    calls = kiva.seen("counters")["calls"]
    assert [calls[call] for call in ("loan_draft", "journals", "repayments")] == [1, 1, 1]


def test_a_page_in_place_of_json_is_a_success_by_its_status(kiva):
    switch(kiva, fault="not-json")
    answer = kiva.post("repayments", REPAYMENTS)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_a_truncated_answer_is_the_first_half_of_it_and_says_so_little_of_itself(kiva):
    whole = kiva.get("config/themes")
    switch(kiva, fault="truncated")
    half = kiva.get("config/themes")
    assert (half.status_code, half.headers["Content-Type"]) == (200, "application/json")
    assert half.content == whole.content[: len(whole.content) // 2]
    assert half.headers["Content-Length"] == str(len(half.content))
    with pytest.raises(json.JSONDecodeError):
        half.json()


def test_a_refusal_is_truncated_as_a_success_is(kiva):
    switch(kiva, fault="truncated")
    answer = kiva.post("repayments", {})
    assert answer.status_code == 400
    assert answer.content.startswith(b'{"code":"api.err')


def test_a_lost_answer_is_an_error_of_the_connection_and_what_was_asked_is_done(kiva, individual):
    patient = TestClient(kiva.http.app)
    headers = kiva.headers | {"Kiva-Sandbox": "fault=lost"}
    with pytest.raises(ConnectionResetError):
        patient.post("/v3/partner/9001/loan_draft", json=individual, headers=headers)
    assert stored(kiva) == [1, 0, 0]


@pytest.mark.parametrize("call", ["loan_draft", "journals", "repayments", "loans", "config"])
def test_a_fault_can_be_kept_to_one_call(kiva, individual, call):
    switch(kiva, fault=503, fault_on=call)
    answers = {
        "loan_draft": kiva.post("loan_draft", individual),
        "journals": kiva.http.post("/v3/partners/9001/journals", json=JOURNALS, headers=kiva.headers),
        "repayments": kiva.post("repayments", REPAYMENTS),
        "loans": kiva.get("loans"),
        "config": kiva.get("config/themes"),
    }
    assert [name for name, answer in answers.items() if answer.status_code == 503] == [call]
    assert {answer.status_code for answer in answers.values()} == {200, 503}


def test_a_token_request_meets_faults_too(http, form):
    http.patch("/_sandbox/switches", json={"fault": 503, "fault_on": "token"})
    assert http.post("/oauth/token", data=form).status_code == 503
    assert http.get("/_sandbox/counters").json()["token_requests"] == 1


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("call", ["loan_draft", "journals", "repayments"])
def test_a_new_token_can_be_refused_as_if_it_had_expired_and_then_nothing_is_done(kiva, individual, call, status):
    switch(kiva, fault="expired", fault_times=1, refused_token=status)
    refused, taken = (kiva.post(call, BODIES.get(call, individual)) for _ in range(2))
    assert (refused.status_code, refused.json()["error_description"]) == (status, "Access token expired")
    assert taken.status_code == 200
    assert sum(stored(kiva)) == 1


def test_a_request_for_a_token_shows_none_that_could_have_expired(http, form):
    http.patch("/_sandbox/switches", json={"fault": "expired", "fault_times": 1})
    assert http.post("/oauth/token", data=form).status_code == 200
    assert http.get("/_sandbox/switches").json()["fault_times"]["value"] == 1


def test_faults_end_by_themselves_after_so_many_calls(kiva):
    switch(kiva, fault=503, fault_times=2, latency=0.01)
    assert [kiva.get("loans").status_code for _ in range(4)] == [503, 503, 200, 200]
    switches = kiva.seen("switches")
    assert [switches[name]["value"] for name in ("fault", "latency", "fault_times")] == ["off", 0, "always"]


def test_only_calls_that_meet_a_fault_count_towards_its_end(kiva, individual):
    switch(kiva, fault=503, fault_on="journals", fault_times=1)
    assert kiva.get("loans").status_code == 200
    assert kiva.http.get("/v3/partner/9001/nothing", headers=kiva.headers).status_code == 404
    own = kiva.headers | {"Kiva-Sandbox": "fault=off"}
    assert kiva.http.post(f"{kiva.base}/journals", json=JOURNALS, headers=own).status_code == 200
    assert kiva.seen("switches")["fault_times"]["value"] == 1
    assert kiva.post("journals", JOURNALS).status_code == 503
    assert kiva.post("journals", JOURNALS).status_code == 200


def test_a_header_is_about_its_own_request_whatever_faults_there_are_now(kiva):
    switch(kiva, fault=503, fault_on="journals", fault_times=5)
    own = kiva.headers | {"Kiva-Sandbox": "fault=429, fault_times=1"}
    assert [kiva.http.get(f"{kiva.base}/loans", headers=own).status_code for _ in range(2)] == [429, 429]
    assert kiva.get("loans").status_code == 200
    elsewhere = kiva.headers | {"Kiva-Sandbox": "fault=429, fault_on=journals"}
    assert kiva.http.get(f"{kiva.base}/loans", headers=elsewhere).status_code == 200
    assert kiva.seen("switches")["fault_times"]["value"] == 5


def test_pages_and_inspection_meet_no_fault(kiva):
    switch(kiva, fault=500)
    assert kiva.http.get("/_sandbox/health").status_code == 200
    assert kiva.http.get("/pa2/").status_code == 200
    assert kiva.http.get("/v3/partner/9001/nothing", headers=kiva.headers).status_code == 404


class Waits:
    """Stands for `asyncio.timeout`: notes the seconds, and what "Kiva" held when the waiting began."""

    def __init__(self, kiva_state):
        self.seconds = []
        self.drafts = []
        self._state = kiva_state

    def __call__(self, seconds):
        self.seconds.append(seconds)
        self.drafts.append(len(self._state.drafts()))
        return self

    async def __aenter__(self):
        raise TimeoutError

    async def __aexit__(self, *_):
        """Nothing was entered."""


@pytest.mark.parametrize(
    ("fault", "kept"), [("off", 1), (504, 1), ("truncated", 1), ("not-json", 1), (429, 0), (500, 0), (502, 0), (503, 0)]
)
def test_latency_comes_between_what_was_done_and_its_answer(kiva, individual, monkeypatch, fault, kept):
    waits = Waits(kiva.http.app.state.kept)
    monkeypatch.setattr("kiva_sandbox.faults.asyncio.timeout", waits)
    switch(kiva, fault=fault, latency=599.5)
    kiva.post("loan_draft", individual)
    assert (waits.seconds, waits.drafts) == ([599.5], [kept])


@pytest.fixture
def state(clock):
    return State(portfolio(3), clock)


@pytest.fixture
def address(serve, state, signing_key, clock):
    """Where the sandbox is served on a socket, as people start it."""
    return serve(create_app(state, Tokens(Partner(), signing_key, clock)), serve_config)


@pytest.fixture
def wire(address, form):
    """A client on that socket, with a token; and nothing may be logged as an error by the end."""
    with httpx2.Client(base_url=address, trust_env=False, timeout=30) as http:
        token = http.post("/oauth/token", data=form).json()["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        yield http


@pytest.fixture
def complaints(caplog):
    """What uvicorn logs as wrong."""
    return lambda: [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]


def test_on_a_socket_a_lost_answer_is_a_connection_that_ends_without_a_byte(wire, individual, state, complaints):
    headers = {"Kiva-Sandbox": "fault=lost"}
    request = wire.build_request("POST", "/v3/partner/9001/loan_draft", json=individual, headers=headers)
    head = b"".join(b"%b: %b\r\n" % field for field in request.headers.raw)
    with socket.create_connection((request.url.host, request.url.port), timeout=30) as connection:
        connection.sendall(b"POST %b HTTP/1.1\r\n%b\r\n%b" % (request.url.raw_path, head, request.content))
        assert connection.recv(1) == b""
    assert len(state.drafts()) == 1
    assert wire.get("/_sandbox/counters").json()["calls"]["loan_draft"] == 1
    assert complaints() == []


def test_a_client_sees_a_lost_answer_as_a_server_that_hung_up_and_the_next_call_is_answered(wire, complaints):
    with pytest.raises(httpx2.RemoteProtocolError):
        wire.get("/v3/partner/9001/loans", headers={"Kiva-Sandbox": "fault=lost, latency=0.01"})
    assert wire.get("/v3/partner/9001/loans").status_code == 200
    assert complaints() == []


def test_a_client_that_waits_no_longer_finds_its_draft_kept(wire, individual, state, complaints):
    slow = {"Kiva-Sandbox": "latency=600"}
    with pytest.raises(httpx2.ReadTimeout):
        wire.post("/v3/partner/9001/loan_draft", json=individual, headers=slow, timeout=0.5)
    assert len(state.drafts()) == 1
    assert wire.get("/v3/partner/9001/loans").status_code == 200
    assert complaints() == []


@pytest.mark.parametrize("fault", ["truncated", "not-json", 504, 502, 503])
def test_every_other_fault_is_a_whole_answer_on_the_wire_and_the_connection_goes_on(wire, fault, complaints):
    wire.patch("/_sandbox/switches", json={"fault": fault, "fault_on": "repayments"})
    answer = wire.post("/v3/partner/9001/repayments", json=REPAYMENTS)
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert wire.get("/v3/partner/9001/loans").status_code == 200
    assert complaints() == []
