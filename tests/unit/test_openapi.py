import json
import re
from copy import replace
from datetime import date
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from kiva_partner import api
from kiva_partner.decisions import Choice, parse_decision
from kiva_partner.errors import InvalidMessage, NotDecidable, NotSent, Violation
from kiva_partner.ledger import Outcome, Row, State
from kiva_partner.messages import Kind, parse
from kiva_partner.openapi import document
from kiva_partner.pa2 import findings
from kiva_partner.settings import AmountMode
from template import cloudformation

ROOT = Path(__file__).parents[2]
EVENTS = ROOT / "events"
DOCUMENT = document()
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
DECISION = "/submissions/{kind}/{reference}/decision"
OPERATIONS = [
    (path, method, operation) for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
]

CONTENTS = [
    pytest.param(path, content, id=f"{method} {path} {where}")
    for path, method, operation in OPERATIONS
    for where, part in [("request", operation.get("requestBody", {})), *operation["responses"].items()]
    for content in part.get("content", {}).values()
    if "example" in content or "examples" in content
]
KINDS = {"/loan-drafts": Kind.LOAN_DRAFT, "/journal-updates": Kind.JOURNAL_UPDATE, "/repayments": Kind.REPAYMENT}


def validator(schema):
    """Checks an instance against a schema of the document, which may refer to the others."""
    return Draft202012Validator(
        {**schema, "components": DOCUMENT["components"]}, format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def request_content(path):
    return DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]


def request_schema(path):
    return request_content(path)["schema"]


def everything(value):
    """Every object inside a JSON value."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from everything(item)


def posts():
    """Path and message of every POST in events/, valid or not."""
    for file in sorted((EVENTS / "api").glob("*.json")):
        event = json.loads(file.read_text())
        if event["httpMethod"] == "POST":
            yield pytest.param(event["resource"], json.loads(event["body"]), id=file.stem)


def test_it_is_plain_json():
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_the_committed_document_is_current():
    current = json.dumps(DOCUMENT, indent=2, ensure_ascii=False) + "\n"
    assert (ROOT / "docs" / "openapi.json").read_text() == current, "docs/openapi.json is stale: run make openapi"


def test_it_is_valid_openapi_3_1():
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []
    for requirement in DOCUMENT["security"]:
        assert requirement.keys() <= DOCUMENT["components"]["securitySchemes"].keys()


def test_no_description_breaks_a_line_but_between_paragraphs_and_in_tables():
    """Swagger UI shows every line end as a break."""
    described = [part["description"] for part in everything(DOCUMENT) if isinstance(part.get("description"), str)]

    assert [text for text in described if re.search(r"[^|\n]\n[^|\n]", text)] == []


def test_every_operation_is_filed_under_one_tag_that_is_explained():
    explained = {tag["name"] for tag in DOCUMENT["tags"] if tag["description"]}

    assert {tag for _, _, operation in OPERATIONS for tag in operation["tags"]} == explained
    assert all(len(operation["tags"]) == 1 for _, _, operation in OPERATIONS)


def test_the_servers_address_is_the_stacks_once_its_variables_are_filled_in():
    (server,) = DOCUMENT["servers"]
    output = cloudformation.read()["Outputs"]["ApiUrl"]["Value"]["Fn::Sub"]

    filled = server["url"].format(api="${RelayApi}", region="${AWS::Region}")
    assert filled == output.replace("${AWS::URLSuffix}", "amazonaws.com")
    assert set(server["variables"]) == set(re.findall(r"\{(\w+)\}", server["url"]))


@pytest.mark.parametrize(("path", "content"), CONTENTS)
def test_every_example_is_valid_by_its_schema(path, content):
    values = [each["value"] for each in content.get("examples", {}).values()]
    values += [content["example"]] if "example" in content else []

    for value in values:
        assert [error.message for error in validator(content["schema"]).iter_errors(value)] == []


@pytest.mark.parametrize("columns", ["rules", "two_columns"])
@pytest.mark.parametrize("mode", list(AmountMode))
@pytest.mark.parametrize(("path", "kind"), KINDS.items())
def test_every_message_that_is_shown_would_be_taken(path, kind, columns, mode, request):
    rules = replace(request.getfixturevalue(columns), amount_mode=mode)
    shown = request_content(path)["examples"]
    if mode is AmountMode.INSTALMENT:
        shown = {name: each for name, each in shown.items() if name != "month"}

    assert shown
    for each in shown.values():
        assert parse(kind, json.dumps(each["value"]), rules).submissions


def test_the_drafts_that_are_shown_leave_nothing_to_be_mended_in_pa2(rules):
    for each in request_content("/loan-drafts")["examples"].values():
        (draft,) = parse(Kind.LOAN_DRAFT, json.dumps(each["value"]), rules).submissions
        assert list(findings(draft, None, date(2026, 11, 25))) == []


def test_every_decision_that_can_be_taken_is_shown():
    shown = [parse_decision(json.dumps(each["value"])) for each in request_content(DECISION)["examples"].values()]

    assert list(dict.fromkeys(decision.decision for decision in shown)) == list(Choice)


@pytest.mark.parametrize("path", KINDS)
def test_the_answers_that_a_producer_meets_most_are_shown(path):
    responses = DOCUMENT["paths"][path]["post"]["responses"]
    shown = {status for status, response in responses.items() for it in response["content"].values() if "example" in it}

    assert shown == {"200", "202", "400", "409", "422"}


def test_every_operation_has_a_name_of_its_own_and_says_what_each_answer_means():
    assert {method for _, method, _ in OPERATIONS} <= METHODS
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(names) == len(set(names))
    for _, _, operation in OPERATIONS:
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5][0-9]{2}", status)
            assert response["description"]


def test_every_parameter_of_a_path_is_described():
    for path, _, operation in OPERATIONS:
        parameters = operation.get("parameters", [])
        described = {each["name"] for each in parameters if each["in"] == "path"}

        assert described == set(re.findall(r"\{(\w+)\}", path))
        assert all(each["required"] for each in parameters if each["in"] == "path")
        assert len({(each["in"], each["name"]) for each in parameters}) == len(parameters)


def test_every_reference_leads_somewhere():
    for part in everything(DOCUMENT):
        if reference := part.get("$ref"):
            name = reference.removeprefix("#/components/schemas/")
            assert name in DOCUMENT["components"]["schemas"]


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_every_schema_is_valid_json_schema(name):
    Draft202012Validator.check_schema(DOCUMENT["components"]["schemas"][name])


def test_it_describes_the_routes_that_are_deployed():
    deployed = {
        (route["Properties"]["Path"], route["Properties"]["Method"].lower())
        for function in cloudformation.of_type(cloudformation.read(), "AWS::Serverless::Function").values()
        for route in function.get("Events", {}).values()
        if route["Type"] == "Api"
    }

    assert {(path, method) for path, method, _ in OPERATIONS} == deployed


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_a_route_to_submit_it(kind):
    assert f"submit_{kind}" in {operation["operationId"] for _, _, operation in OPERATIONS}


@pytest.mark.parametrize(("path", "message"), [each for each in posts() if "invalid" not in each.id])
def test_a_message_that_is_taken_is_valid_by_the_schema(path, message):
    assert [error.message for error in validator(request_schema(path)).iter_errors(message)] == []


@pytest.mark.parametrize("amount", [0, 1, 0.07, 4.35, 19.99, 33.33, 999_999_999_999.99])
def test_no_amount_that_is_taken_is_refused_by_the_schema(amount):
    report = {"period": "2026-10", "repayments": [{"loan_id": "L-1", "client_id": "C-1", "amount": amount}]}

    assert validator(request_schema("/repayments")).is_valid(report)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/loan-drafts", {"currency": "KES"}),
        ("/loan-drafts", {"currency": "kes", "entreps": []}),
        ("/journal-updates", {"journals": []}),
        ("/journal-updates", {"journals": [{"internal_loan_id": "L-1", "subject": "s", "body": "b", "title": "t"}]}),
        (
            "/journal-updates",
            {"journals": [{"internal_loan_id": "L-1", "subject": "s", "body": "b", "image_url": "http://a.example/1"}]},
        ),
        ("/repayments", {"repayments": [{"loan_id": "L-1"}]}),
        ("/repayments", {"repayments": [{"loan_id": "L-\x001", "amount": 1}]}),
        ("/repayments", {"repayments": [{"loan_id": "L-1", "amount": "1"}]}),
        ("/repayments", {"repayments": [{"loan_id": "L-1", "amount": -1}]}),
        ("/repayments", {"period": "2026-13", "repayments": [{"loan_id": "L-1", "amount": 1}]}),
        (DECISION, {"decision": "send-again"}),
        (DECISION, {"decision": "resend", "reason": "not in PA2"}),
        (DECISION, {"decision": "abandon", "reason": ""}),
        (DECISION, {"decision": "abandon", "reason": "one line\nand another"}),
        (DECISION, {"decision": "accepted", "reason": "found in PA2", "kiva_reference": "a b"}),
        (DECISION, {"decision": "abandon", "reason": "not in PA2", "by": "somebody else"}),
    ],
)
def test_a_client_that_checks_by_the_schema_finds_most_mistakes_before_it_sends(path, message):
    assert not validator(request_schema(path)).is_valid(message)


@pytest.mark.parametrize(
    "answer",
    [
        api.problem(InvalidMessage(Violation("$.currency", "is missing"))),
        api.problem(InvalidMessage(Violation("$", "must be smaller"), too_large=True)),
        api.problem(NotSent("Kiva does not answer")),
        api.problem(NotDecidable("it is ACCEPTED")),
        api.conflict(["L-1"]),
        api.not_found("No such path"),
        api.server_problem(),
    ],
    ids=lambda answer: str(answer.status),
)
def test_every_problem_is_answered_as_described(answer):
    assert [
        error.message for error in validator({"$ref": "#/components/schemas/Problem"}).iter_errors(answer.body)
    ] == []
    assert answer.as_proxy_result()["headers"]["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("state", list(State))
def test_a_submission_is_shown_as_described_and_with_nothing_that_is_not(state):
    decision = {"decision": "accepted", "reason": "found in PA2", "by": "policy", "at": "2026-11-24T11:22:00+00:00"}
    row = Row(
        Kind.REPAYMENT,
        "2026-10:L-1:1.00",
        "L-1",
        state,
        fingerprint="f",
        updated_at="2026-11-24T11:22:00.000000+00:00",
        created_at="2026-11-24T09:22:00.000000+00:00",
        outcome=Outcome(state, "a reason", {"upload_id": "90001"}, ({"severity": "warning"},), 200, "a-call"),
        decisions=(decision, decision | {"decision": "send-again", "kiva_reference": "90001"}),
        warnings=("a warning",),
        reopened=True,
    )

    schema = DOCUMENT["components"]["schemas"]["Submission"]
    assert [error.message for error in validator(schema).iter_errors(api.show(row))] == []
    assert api.show(row).keys() <= schema["properties"].keys()
