"""The OpenAPI document of the sandbox is valid, and what the sandbox answers is what it says."""

import re
from urllib.parse import urljoin

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from kiva_sandbox.data import CONFIG
from kiva_sandbox.switches import Switches

FORM = "application/x-www-form-urlencoded"
PARTNER = "/v3/partner/{partner_id}"
JOURNALS = {"journals": [{"internal_loan_id": "L-70001-1", "subject": "Rain", "body": "It came early."}]}
REPAYMENTS = {"repayments": [{"loan_id": "L-70001-1", "amount": 10}, {"loan_id": "L-1", "amount": 10}]}


@pytest.fixture
def document(http):
    return http.get("/v3/api-docs").json()


@pytest.fixture
def conforms(document):
    """Whether the document has this status, media type and body for an operation."""

    def conforms(method, path, answer):
        (response,) = [
            it
            for status, it in document["paths"][path][method]["responses"].items()
            if status == str(answer.status_code)
        ]
        media_type = answer.headers["Content-Type"].partition(";")[0]
        schema = response["content"][media_type].get("schema", {})
        body = answer.json() if media_type == "application/json" else answer.text
        Draft202012Validator({**schema, "components": document["components"]}).validate(body)
        return True

    return conforms


def operations(document):
    return [(path, method, it) for path, methods in document["paths"].items() for method, it in methods.items()]


def test_it_is_valid_openapi_3_1(document):
    assert document["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_it_describes_what_kiva_has_and_the_views_that_only_the_sandbox_has(document):
    kivas = {path for path in document["paths"] if not path.startswith("/_sandbox/")}

    assert kivas == {
        "/oauth/token",
        *(f"{PARTNER}/{name}" for name in ("loan_draft", "journals", "repayments", "loans", "config/{name}")),
    }


def test_every_field_of_a_body_is_described(document):
    schemas = document["components"]["schemas"]
    bodies = (
        "TokenRequest",
        "Draft",
        "Entrep",
        "Instalment",
        "Journals",
        "Journal",
        "Repayments",
        "Repayment",
        "Switches",
    )
    undescribed = [
        f"{body}.{name}"
        for body in bodies
        for name, field in schemas[body]["properties"].items()
        if "description" not in field
    ]

    assert undescribed == ["TokenRequest.grant_type"]  # its one value says it all


def test_every_operation_has_a_summary_that_is_a_name_of_its_own(document):
    summaries = [it["summary"] for _, _, it in operations(document)]
    ids = [it["operationId"] for _, _, it in operations(document)]

    assert len(set(summaries)) == len(summaries)
    assert len(set(ids)) == len(ids)
    assert not [it for it in ids if not re.fullmatch(r"[a-z_]+", it)]


def test_a_token_is_needed_for_all_that_is_the_partners(document):
    secured = {path for path, _, it in operations(document) if it.get("security") == [{"token": []}]}

    assert secured == {path for path in document["paths"] if path.startswith(PARTNER)}


def test_the_header_of_switches_can_be_sent_with_all_that_is_kivas_and_names_each(document):
    for path, _, it in operations(document):
        headers = [each for each in it.get("parameters", []) if each["in"] == "header"]
        assert [each["name"] for each in headers] == ([] if path.startswith("/_sandbox/") else ["Kiva-Sandbox"])
        assert all(f"`{name}`" in each["description"] for each in headers for name in Switches.model_fields)
        assert not any(each.get("required") for each in headers)


def test_every_example_of_a_body_is_taken_as_the_document_says_and_pa2_has_nothing_against_a_draft(
    document, kiva, conforms
):
    tried = 0
    for path, method, it in operations(document):
        for example in (
            it.get("requestBody", {}).get("content", {}).get("application/json", {}).get("examples", {}).values()
        ):
            at = path.replace("{partner_id}", "9001")
            answer = kiva.http.request(method, at, json=example["value"], headers=kiva.headers)
            assert answer.status_code == 200
            assert conforms(method, path, answer)
            tried += 1
    assert tried == 5
    assert [kept["pa2_messages"] for kept in kiva.seen("drafts")["data"]] == [[], []]


def test_every_example_of_an_answer_is_what_its_schema_says(document):
    shown = 0
    for _, _, it in operations(document):
        for response in it["responses"].values():
            for content in response.get("content", {}).values():
                if "example" in content:
                    schema = {**content["schema"], "components": document["components"]}
                    Draft202012Validator(schema).validate(content["example"])
                    shown += 1
    assert shown > 20


def test_the_examples_of_the_token_get_one(document, http, conforms):
    fields = document["components"]["schemas"]["TokenRequest"]["properties"]
    answer = http.post("/oauth/token", data={name: field["examples"][0] for name, field in fields.items()})

    assert answer.status_code == 200
    assert conforms("post", "/oauth/token", answer)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 200),
        ({"scope": "read:loans"}, 200),
        ({"client_id": "another"}, 401),
        ({"grant_type": "password"}, 400),
        ({"audience": "https://elsewhere.test"}, 400),
        ({"scope": "nothing"}, 400),
    ],
)
def test_answers_to_a_request_for_a_token(http, form, conforms, change, status):
    answer = http.post("/oauth/token", data={**form, **change})

    assert answer.status_code == status
    assert conforms("post", "/oauth/token", answer)


def test_no_form_at_all_is_a_refusal_as_described(http, conforms):
    assert conforms("post", "/oauth/token", http.post("/oauth/token", json={}))


CALLS = [
    ("post", "loan_draft", {"json": {}}),
    ("post", "journals", {"json": JOURNALS}),
    ("post", "repayments", {"json": REPAYMENTS}),
    ("get", "loans", {}),
    *(("get", f"config/{name}", {}) for name in CONFIG),
]


@pytest.fixture(params=CALLS, ids=[f"{method} {name}" for method, name, _ in CALLS])
def call(request, http, kiva, conforms):
    """Calls an endpoint, perhaps with something else than what is right; the status of an answer that conforms."""
    method, name, right = request.param
    described = "config/{name}" if name.startswith("config/") else name

    def call(partner_id="9001", headers=None, **given):
        sent = {"headers": kiva.headers if headers is None else headers, **(right | given)}
        answer = http.request(method, f"/v3/partner/{partner_id}/{name}", **sent)
        assert conforms(method, f"{PARTNER}/{described}", answer)
        return answer.status_code

    call.method = method
    return call


def test_what_is_right(call):
    assert call() == 200


def test_no_token_and_a_token_that_is_none(call):
    assert call(headers={}) == 401
    assert call(headers={"Authorization": "Bearer none"}) == 401


def test_another_partner(call):
    assert call(partner_id="1") == 403


def test_a_scope_that_lacks(call, bearer):
    lacking = {call(headers=bearer(scope).headers) for scope in ("read:loans", "create:repayment")}

    assert lacking <= {200, 403}


def test_a_switch_that_does_not_exist(call, kiva):
    assert call(headers={**kiva.headers, "Kiva-Sandbox": "nothing=1"}) == 400


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_fault(call, kiva, status):
    assert call(headers={**kiva.headers, "Kiva-Sandbox": f"fault={status}"}) == status


@pytest.mark.parametrize("content", [b"{", b"[]", b"1", b"null", b'{"journals": []}', b'{"repayments": [{}]}'])
def test_a_body_that_is_wrong(call, kiva, content):
    headers = {**kiva.headers, "Content-Type": "application/json"}

    if call.method == "post":
        assert call(headers=headers, json=None, content=content) in (200, 400)


def test_a_body_that_is_no_json(call, kiva):
    if call.method == "post":
        assert call(headers={**kiva.headers, "Content-Type": "text/plain"}, json=None, content=b"{}") == 415


@pytest.mark.parametrize("query", [{"limit": "many"}, {"offset": -1}, {"limit": 0}, {"status": "none"}, {"limit": 500}])
def test_a_query_for_loans(kiva, conforms, query):
    assert conforms("get", f"{PARTNER}/loans", kiva.get("loans", **query))


def test_a_list_that_is_none(kiva, conforms):
    answer = kiva.get("config/nothing")

    assert answer.status_code == 404
    assert conforms("get", f"{PARTNER}/config/{{name}}", answer)


def test_the_views_and_refusals_of_the_sandbox_itself(document, kiva, individual, conforms):
    kiva.post("loan_draft", individual)
    kiva.post("journals", JOURNALS)
    kiva.post("repayments", REPAYMENTS)
    draft = kiva.seen("drafts")["data"][0]["loan_draft_uuid"]
    for name in ("health", "drafts", "journals", "uploads", "loans", "counters", "switches"):
        assert conforms("get", f"/_sandbox/{name}", kiva.http.get(f"/_sandbox/{name}"))
    for path, known in (
        ("drafts/{uuid}/publish", draft),
        ("journals/{archive_id}/confirm", "48001"),
        ("uploads/{upload_id}/finalise", "90001"),
    ):
        for each in (known, known, "0", "none"):
            answer = kiva.http.post("/_sandbox/" + re.sub(r"\{\w+\}", each, path))
            assert conforms("post", f"/_sandbox/{path}", answer)
    for sent in ({"json": {"naming": "camel"}}, {"json": {"naming": "none"}}, {"json": []}, {"content": b"x"}):
        assert conforms("patch", "/_sandbox/switches", kiva.http.patch("/_sandbox/switches", **sent))
    assert conforms("post", "/_sandbox/reset", kiva.http.post("/_sandbox/reset"))
    elsewhere = kiva.http.post("/_sandbox/reset", headers={"Origin": "https://elsewhere.test"})
    assert conforms("post", "/_sandbox/reset", elsewhere)


@pytest.mark.parametrize("path", ["/swagger-ui", "/swagger-ui/"])
def test_the_folder_of_the_page_leads_to_the_page(http, path):
    assert http.get(path, follow_redirects=False).headers["Location"] == "/swagger-ui/index.html"


def test_the_page_brings_all_it_needs_and_lets_nothing_else_in(http):
    page = http.get("/swagger-ui/index.html")
    needed = [each for each in re.findall(r'(?:src|href)="([^"]+)"', page.text) if each != "data:,"]

    assert {"swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"} < set(needed)
    assert all(http.get(urljoin("/swagger-ui/index.html", each)).status_code == 200 for each in needed)
    assert not re.search(r"<script(?![^>]*\bsrc=)|style=|\bon\w+=", page.text)
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")


@pytest.mark.parametrize(
    ("switch", "status", "path", "sent"),
    [
        ("journal_success=201", 201, "journals", JOURNALS),
        ("duplicate_draft=409", 409, "loan_draft", {"entreps": [{"loan_id": "L-1"}]}),
        ("drafts=strict", 400, "loan_draft", {}),
        ("too_many_rows=400", 400, "repayments", {"repayments": REPAYMENTS["repayments"] * 200}),
        ("journal_body=wrapper", 400, "journals", JOURNALS["journals"]),
    ],
)
def test_an_answer_that_is_only_by_a_switch(kiva, conforms, switch, status, path, sent):
    if status == 409:
        kiva.post(path, sent)
    headers = {**kiva.headers, "Kiva-Sandbox": switch}
    answer = kiva.http.post(f"/v3/partner/9001/{path}", json=sent, headers=headers)

    assert answer.status_code == status
    assert conforms("post", f"{PARTNER}/{path}", answer)


@pytest.mark.parametrize(
    ("switch", "status", "scope"), [("token_answer=2025", 200, ""), ("empty_scope=200", 200, "nothing")]
)
def test_a_token_that_is_only_by_a_switch(http, form, conforms, switch, status, scope):
    answer = http.post("/oauth/token", data={**form, "scope": scope}, headers={"Kiva-Sandbox": switch})

    assert answer.status_code == status
    assert conforms("post", "/oauth/token", answer)


def test_a_refused_token_is_a_403_by_a_switch(http, conforms):
    answer = http.get("/v3/partner/9001/loans", headers={"Kiva-Sandbox": "refused_token=403"})

    assert answer.status_code == 403
    assert conforms("get", f"{PARTNER}/loans", answer)
