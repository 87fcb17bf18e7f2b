"""What the imitation can be told to do otherwise: how it is told, and that each switch does what it says."""

import json

import pytest
from fastapi.testclient import TestClient

from kiva_sandbox.app import create_app
from kiva_sandbox.data import Partner, portfolio
from kiva_sandbox.state import State
from kiva_sandbox.switches import NoSuchSwitch, Switchboard, Switches, choices, of_header
from kiva_sandbox.tokens import Tokens

HEADER = "Kiva-Sandbox"


def patch(http, body, **headers):
    headers["Content-Type"] = "application/json"
    return http.patch("/_sandbox/switches", content=json.dumps(body), headers=headers)


def values(http):
    return {name: switch["value"] for name, switch in http.get("/_sandbox/switches").json().items()}


def test_every_switch_is_shown_with_its_value_default_choices_and_what_it_does(http):
    shown = http.get("/_sandbox/switches").json()
    assert list(shown) == list(Switches.model_fields)
    assert shown["fault"] == {
        "value": "off",
        "default": "off",
        "choices": "off, 429, 500, 502, 503, 504, lost, not-json, truncated",
        "description": Switches.model_fields["fault"].description,
    }
    assert shown["retry_after"]["choices"] == "a number from 0 to 86400, none"
    assert all(switch["description"] for switch in shown.values())


def test_some_are_set_at_run_time_and_a_reset_goes_back_to_those_of_the_start(signing_key, clock):
    start = Switches(journal_success=201, fault="lost", fault_times=2)
    app = create_app(State(portfolio(3), clock), Tokens(Partner(), signing_key, clock), start)
    http = TestClient(app)
    assert values(http) == start.model_dump()
    answer = patch(http, {"naming": "camel", "fault": 503, "latency": 0.5})
    assert answer.json() == http.get("/_sandbox/switches").json()
    assert values(http) == start.model_dump() | {"naming": "camel", "fault": 503, "latency": 0.5}
    assert http.post("/_sandbox/reset").status_code == 200
    assert values(http) == start.model_dump()


WRONG = [
    ({"nmaing": "camel"}, "nmaing"),
    ({"naming": "kebab"}, "naming must be one of: snake, camel"),
    ({"naming": None}, "naming"),
    ({"fault": 418}, "fault must be one of: off, 429"),
    ({"fault": True}, "fault"),
    ({"fault": [503]}, "fault"),
    ({"latency": -1}, "latency must be one of: a number from 0 to 600"),
    ({"latency": 601}, "latency"),
    ({"latency": True}, "latency"),
    ({"latency": "NaN"}, "latency"),
    ({"latency": "1e2"}, "latency"),
    ({"retry_after": 86_401}, "retry_after must be one of: a number from 0 to 86400, none"),
    ({"retry_after": "Wed, 25 Nov 2026 08:00:00 GMT"}, "retry_after"),
    ({"fault_times": 0}, "fault_times must be one of: a number from 1, always"),
    ({"fault_times": 1.5}, "fault_times"),
    ({"fault_on": "drafts"}, "fault_on"),
    ({"": 1}, "''"),
    ({"a\ud800": 1}, "'a\\ud800'"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG, ids=lambda value: ascii(value))
def test_what_does_not_exist_is_named_and_nothing_is_changed(http, wrong, words):
    refused = patch(http, {"journal_success": 201} | wrong)
    assert refused.status_code == 400
    assert refused.json()["error"] == "bad_switch"
    assert words in refused.json()["message"]
    assert values(http) == Switches().model_dump()


@pytest.mark.parametrize("body", ["[]", '"fault"', "503", "{", '{"latency": NaN}', '{"latency": 1e999}'])
def test_switches_that_are_no_json_object_are_refused(http, body):
    answer = http.patch("/_sandbox/switches", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert values(http) == Switches().model_dump()


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://elsewhere.example"}])
def test_no_page_elsewhere_switches_anything(http, headers):
    assert patch(http, {"fault": 503}, **headers).status_code == 403
    assert values(http)["fault"] == "off"


def test_a_header_speaks_for_its_request_alone(kiva):
    journals = {"journals": [{"internal_loan_id": "L-70011-1", "subject": "s", "body": "b"}]}
    headers = kiva.headers | {HEADER: " journal_success = 201 ,answers=list,"}
    answer = kiva.http.post(f"{kiva.base}/journals", json=journals, headers=headers)
    assert (answer.status_code, type(answer.json())) == (201, list)
    assert kiva.post("journals", journals).status_code == 200
    assert kiva.seen("switches")["journal_success"]["value"] == 200


def test_a_header_that_comes_twice_is_read_as_one(kiva):
    headers = [*kiva.headers.items(), (HEADER, "naming=camel"), (HEADER, "fault=truncated")]
    answer = kiva.http.get(f"{kiva.base}/config/themes", headers=headers)
    assert answer.content.startswith(b'{"asOfDateTime"')
    with pytest.raises(ValueError, match="Expecting"):
        answer.json()


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("naming", "name=value"),
        ("naming=", "name=value"),
        ("=camel", "name=value"),
        ("naming=camel, naming=snake", "each name once"),
        ("naming=camel; fault=503", "naming must be one of: snake, camel"),
        ("namings=camel", "there is no switch 'namings'"),
        ("fault=418", "fault must be one of"),
        ("fault=²", "fault must be one of"),
    ],
)
def test_a_bad_header_is_refused_and_nothing_is_done_or_counted(kiva, individual, header, words):
    headers = kiva.headers | {HEADER: header.encode("latin-1")}
    refused = kiva.http.post(f"{kiva.base}/loan_draft", json=individual, headers=headers)
    assert (refused.status_code, refused.json()["error"]) == (400, "bad_switch")
    assert words in refused.json()["message"]
    assert kiva.seen("drafts")["total"] == 0
    assert kiva.seen("counters")["calls"]["loan_draft"] == 0


def test_a_bad_header_of_a_token_request_is_refused_too(http, form):
    assert http.post("/oauth/token", data=form, headers={HEADER: "fault=1"}).json()["error"] == "bad_switch"
    assert http.get("/_sandbox/counters").json()["token_requests"] == 0


def test_digits_in_a_text_are_a_number():
    switches = Switches().but({"fault": "503", "retry_after": "30", "latency": "0.5", "fault_times": "3"})
    assert (switches.fault, switches.retry_after, switches.latency, switches.fault_times) == (503, 30, 0.5, 3)


def test_every_choice_of_every_switch_can_be_made_in_a_header():
    for name in Switches.model_fields:
        for choice in choices(name).split(", "):
            if not choice.startswith("a number"):
                assert str(getattr(Switches().but(of_header(f"{name}={choice}")), name)) == choice


def test_only_what_a_call_meets_of_the_switches_of_now_counts_towards_their_end():
    board = Switchboard(Switches(fault=503, fault_on="journals", latency=2, fault_times=3))
    assert board.for_call("loans", "").fault == "off"
    assert board.for_call(None, "fault=429").fault == "off"
    assert board.for_call("journals", "fault=off, latency=0").latency == 0
    with pytest.raises(NoSuchSwitch):
        board.for_call("journals", "fault=418")
    assert board.now.fault_times == 3
    met = board.for_call("journals", "fault=429")
    assert (met.fault, met.latency, board.now.fault_times) == (429, 2, 2)
    board.for_call("journals", "")
    board.for_call("journals", "")
    assert board.now == Switches(fault_on="journals")
    board.reset()
    assert board.now == board.start
