"""What the imitation can be told to do otherwise: how it is told, and that each switch does what it says."""

import json
from argparse import ArgumentParser
from uuid import UUID

import jwt
import pytest
from fastapi.testclient import TestClient

from kiva_sandbox import pa2
from kiva_sandbox.app import create_app
from kiva_sandbox.bodies import Draft
from kiva_sandbox.data import CONFIG, Partner, portfolio
from kiva_sandbox.state import State
from kiva_sandbox.switches import (
    NoSuchSwitch,
    Switchboard,
    Switches,
    add_switch_options,
    choices,
    of_header,
    switches_of,
)
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
        "choices": "off, expired, 429, 500, 502, 503, 504, lost, not-json, truncated",
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
    ({"fault": 418}, "fault must be one of: off, expired, 429"),
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


@pytest.mark.parametrize(("wrong", "words"), WRONG, ids=ascii)
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


def options(*arguments):
    parser = ArgumentParser()
    add_switch_options(parser)
    return switches_of(parser.parse_args(arguments))


def test_every_switch_has_an_option_at_start_with_the_same_default():
    assert options() == Switches()
    told = options("--journal-success", "201", "--latency", "0.5", "--fault-times", "3", "--retry-after", "none")
    assert told == Switches(journal_success=201, latency=0.5, fault_times=3)
    assert options("--naming=camel", "--fault", "lost") == Switches(naming="camel", fault="lost")


@pytest.mark.parametrize("option", [("--fault", "418"), ("--latency", "-1"), ("--fault-times", "0"), ("--naming", "")])
def test_a_bad_value_at_start_is_one_line_that_says_what_there_is(capsys, option):
    with pytest.raises(SystemExit) as stopped:
        options(*option)
    assert stopped.value.code == 2
    name = option[0].removeprefix("--").replace("-", "_")
    assert f"error: argument {option[0]}: {name} must be one of: {choices(name)}" in capsys.readouterr().err


def test_help_tells_of_every_switch_what_it_does_and_can_be(capsys):
    with pytest.raises(SystemExit):
        options("--help")
    shown = " ".join(capsys.readouterr().out.split())
    for name, field in Switches.model_fields.items():
        assert f"{field.description}. Choices: {choices(name)} (default: {field.default})" in shown


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
    assert not answer.content.endswith(b"}")


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


JOURNALS = {"journals": [{"internal_loan_id": "L-70011-1", "subject": "A second stall", "body": "Rented."}]}
REPAYMENTS = {"repayments": [{"loan_id": "L-70011-1", "amount": 100}]}
NO_SCOPE = {"scope": "create:nothing"}
TOKEN_KEYS_OF_2025 = ["access_token", "token_type", "expires_in", "scope", "iss", "partnerId", "jti"]


def test_names_in_camel_case_are_those_of_swagger_and_no_others(told, kiva, individual):
    camel = told(naming="camel")
    assert list(camel.post("loan_draft", individual).json()) == ["code", "message", "loanDraftUuid"]
    loans = camel.get("loans", limit=1).json()
    assert list(loans) == ["totalRecords", "data"]
    assert loans["data"] == portfolio()[:1]
    names = {
        "themes": {"themeTypeId", "themeType"},
        "activities": {"activityId", "activityName"},
        "locales": {"currency", "languageCode", "languageId", "languageName"},
        "locations": {"country", "location", "fullName"},
    }
    for name, keys in names.items():
        answer = camel.get(f"config/{name}").json()
        assert list(answer) == ["asOfDateTime", name, "code", "message"]
        assert [list(row.values()) for row in answer[name]] == [list(row.values()) for row in CONFIG[name]]
        assert {key for row in answer[name] for key in row} == keys
    assert list(camel.post("journals", JOURNALS).json()) == ["code", "message", "archive_id", "confirm_url"]
    assert list(camel.post("repayments", REPAYMENTS).json()) == ["code", "message", "upload_id", "problems"]


def test_names_are_those_of_the_wire_by_default(kiva, individual):
    assert "loan_draft_uuid" in kiva.post("loan_draft", individual).json()
    assert "total_records" in kiva.get("loans").json()
    assert kiva.get("config/activities").json()["activities"] == CONFIG["activities"]


def test_a_token_of_2025_has_other_keys_first_and_a_short_id(told, form):
    caller = told(token_answer=2025)
    answer = caller.http.post("/oauth/token", data=form, headers=caller.headers).json()
    assert list(answer) == TOKEN_KEYS_OF_2025
    assert len(answer["jti"]) == 27
    assert jwt.decode(answer["access_token"], options={"verify_signature": False})["jti"] == answer["jti"]
    caller.headers["Authorization"] = f"Bearer {answer['access_token']}"
    assert caller.get("loans").status_code == 200


def test_a_token_of_2026_has_a_uuid(http, form):
    answer = http.post("/oauth/token", data=form).json()
    assert list(answer) != TOKEN_KEYS_OF_2025
    assert str(UUID(answer["jti"])) == answer["jti"]


def test_a_refused_token_can_be_a_403(told, clock):
    caller = told(refused_token=403)
    clock.advance(43_199)
    expired = caller.get("loans")
    assert (expired.status_code, expired.json()["error"]) == (403, "invalid_token")
    for value in ("", "Bearer not.a.token"):
        caller.headers["Authorization"] = value
        assert caller.get("config/themes").status_code == 403


def test_a_token_for_no_scope_can_be_had_and_opens_nothing_that_needs_one(told, form):
    caller = told(empty_scope=200)
    answer = caller.http.post("/oauth/token", data=form | NO_SCOPE, headers=caller.headers)
    assert (answer.status_code, answer.json()["scope"]) == (200, "")
    token = answer.json()["access_token"]
    assert jwt.decode(token, options={"verify_signature": False})["scope"] == []
    caller.headers["Authorization"] = f"Bearer {token}"
    assert caller.get("loans").json()["error"] == "insufficient_scope"
    assert caller.get("config/themes").status_code == 200


def test_a_token_for_no_scope_is_refused_by_default(http, form):
    assert http.post("/oauth/token", data=form | NO_SCOPE).status_code == 400


def test_a_request_with_a_scope_that_the_client_lacks_gets_the_others_or_is_refused(told, form):
    some = {"scope": "read:loans create:nothing"}
    caller = told(partial_scope=400)
    refused = caller.http.post("/oauth/token", data=form | some, headers=caller.headers)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_scope")
    for scope in ("read:loans", "read:loans create:repayment", ""):
        answer = caller.http.post("/oauth/token", data=form | {"scope": scope}, headers=caller.headers)
        assert answer.status_code == 200


def test_a_scope_that_the_client_lacks_is_left_out_by_default(http, form):
    answer = http.post("/oauth/token", data=form | {"scope": "read:loans create:nothing"})
    assert (answer.status_code, answer.json()["scope"]) == (200, "read:loans")


def test_journals_can_have_one_path_only(told):
    caller = told(journal_path="singular")
    plural = caller.http.post("/v3/partners/9001/journals", json=JOURNALS, headers=caller.headers)
    assert plural.status_code == 404
    assert (plural.json()["message"], plural.json()["path"]) == ("No message available", "/v3/partners/9001/journals")
    assert caller.seen("journals")["total"] == 0
    assert caller.post("journals", JOURNALS).status_code == 200


def test_journals_can_have_one_form_only(told):
    caller = told(journal_body="wrapper")
    assert caller.post("journals", JOURNALS["journals"]).status_code == 400
    assert caller.seen("journals")["total"] == 0
    assert caller.post("journals", JOURNALS).status_code == 200


def test_journals_can_be_answered_with_201_and_their_refusal_is_no_other(told):
    caller = told(journal_success=201)
    assert caller.post("journals", JOURNALS).status_code == 201
    assert caller.post("journals", []).status_code == 400
    assert caller.post("repayments", REPAYMENTS).status_code == 200


def test_journals_and_repayments_can_be_answered_by_a_list_of_one(told, individual):
    caller = told(answers="list")
    (journals,) = caller.post("journals", JOURNALS).json()
    (repayments,) = caller.post("repayments", REPAYMENTS).json()
    assert (journals["archive_id"], repayments["upload_id"]) == ("48001", 90001)
    assert isinstance(caller.post("loan_draft", individual).json(), dict)
    assert isinstance(caller.post("repayments", {}).json(), dict)


def test_a_second_draft_for_a_loan_id_can_be_refused(told, individual, group):
    caller = told(duplicate_draft=409)
    for body in (individual, group):
        assert caller.post("loan_draft", body).status_code == 200
        again = caller.post("loan_draft", body)
        assert (again.status_code, again.json()["code"]) == (409, "api.error")
    individual["entreps"][0]["loan_id"] = "L-70011-1"
    assert caller.post("loan_draft", individual).status_code == 409  # a loan has it
    for _ in range(2):
        assert caller.post("loan_draft", {}).status_code == 200  # no id is nobody's
    assert caller.seen("drafts")["total"] == 4


def test_a_second_draft_is_another_draft_by_default(kiva, individual):
    assert [kiva.post("loan_draft", individual).status_code for _ in range(2)] == [200, 200]
    assert kiva.seen("drafts")["total"] == 2


def test_a_draft_that_pa2_would_not_publish_can_be_refused_with_all_that_pa2_says(told, individual, clock):
    caller = told(drafts="strict")
    assert caller.post("loan_draft", individual).status_code == 200
    wrong = individual | {"group_name": "Horta Nova", "location": "Atlantis: Sea", "loanuse": ""}
    refused = caller.post("loan_draft", wrong)
    said = pa2.messages(Draft.model_validate(wrong), clock().date())
    assert len(said) == 3
    assert (refused.status_code, refused.json()) == (400, {"code": "api.error", "message": "; ".join(said)})
    assert caller.seen("drafts")["total"] == 1


@pytest.mark.parametrize("field", ["first_name", "last_name", "location", "loanuse", "group_name"])
def test_strictly_an_empty_text_is_refused_and_leniently_kept(kiva, individual, group, field):
    body = group if field == "group_name" else individual
    (body["entreps"][0] if field.endswith("t_name") else body)[field] = ""
    assert kiva.post("loan_draft", body).status_code == 200
    kiva.headers[HEADER] = "drafts=strict"
    refused = kiva.post("loan_draft", body)
    assert refused.status_code == 400
    assert f"{field} is missing" in refused.json()["message"]
    assert kiva.seen("drafts")["total"] == 1


def test_a_report_of_too_many_rows_can_be_refused(told):
    caller = told(too_many_rows=400)
    rows = [{"loan_id": f"L-{number}", "amount": 1} for number in range(301)]
    refused = caller.post("repayments", {"repayments": rows})
    assert (refused.status_code, refused.json()["code"]) == (400, "api.error")
    assert caller.seen("uploads")["total"] == 0
    assert caller.post("repayments", {"repayments": rows[:300]}).status_code == 200


def test_a_group_can_be_reported_by_its_members(told):
    caller = told(group_repayments="members")
    rows = [{"loan_id": loan_id, "amount": 100} for loan_id in ("L-70010-1", "L-70010-1-A")]
    answer = caller.post("repayments", {"repayments": rows}).json()
    assert [problem["loan_id"] for problem in answer["problems"]] == ["L-70010-1"]


def test_a_group_is_reported_by_its_own_id_by_default(kiva):
    rows = [{"loan_id": loan_id, "amount": 100} for loan_id in ("L-70010-1", "L-70010-1-A")]
    answer = kiva.post("repayments", {"repayments": rows}).json()
    assert [problem["loan_id"] for problem in answer["problems"]] == ["L-70010-1-A"]


def test_faults_are_met_however_they_are_told(told):
    assert told(fault=503, fault_on="loans").get("loans").status_code == 503
