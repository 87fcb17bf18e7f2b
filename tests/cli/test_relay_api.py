"""The relay's API as it is called: signed, at one address, and every failure with its meaning."""

import json

import pytest
import requests
import responses
from botocore.credentials import Credentials

from cli.relay_api import NoAnswer, Refused, RelayApi, every_loan, every_submission, whole

URL = "https://abc.execute-api.eu-west-1.amazonaws.com/v1"


@pytest.fixture
def aws():
    with responses.RequestsMock() as answers:
        yield answers


@pytest.fixture
def api():
    return RelayApi(f"{URL}/", Credentials("AKIDEXAMPLE", "canary-secret", "a-session"), "eu-west-1")


def test_a_request_is_signed_for_the_api_in_its_region(aws, api):
    aws.get(f"{URL}/waiting?days=7", json={"days": 7})
    assert api.get("waiting", days=7, text="") == {"days": 7}
    headers = aws.calls[0].request.headers
    assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert "/eu-west-1/execute-api/aws4_request" in headers["Authorization"]
    assert headers["X-Amz-Security-Token"] == "a-session"
    assert "canary" not in str(headers)


def test_no_netrc_takes_the_place_of_the_signature(aws, api, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("default login somebody password canary\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    aws.get(f"{URL}/check", json={})
    api.get("check")
    assert aws.calls[0].request.headers["Authorization"].startswith("AWS4-HMAC-SHA256")


@pytest.mark.parametrize(("url", "proxy"), [(URL, "http://proxy.test:3128"), ("http://127.0.0.1:4566/api", None)])
def test_a_proxy_leads_to_aws_and_never_to_this_machine(aws, monkeypatch, url, proxy):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")
    aws.get(f"{url}/check", json={})
    RelayApi(url, Credentials("a", "b"), "eu-west-1").get("check")
    proxies = aws.calls[0].request.req_kwargs["proxies"]
    assert proxies.get(url.partition(":")[0]) == proxy


def test_what_stands_in_a_path_leads_nowhere_else(aws, api):
    aws.get(f"{URL}/submissions/loan_draft/..%2F..%2Fcheck%3Fa%3D1", json={})
    api.get("submissions", "loan_draft", "../../check?a=1")


def test_a_post_gives_status_body_and_location(aws, api):
    aws.post(f"{URL}/repayments", json={"state": "QUEUED"}, status=202, headers={"Location": "submissions/repayment/R"})
    reply = api.post("repayments", body=b"{}", Prefer="wait")
    assert (reply.status, reply.body, reply.location) == (202, {"state": "QUEUED"}, "submissions/repayment/R")
    assert aws.calls[0].request.headers["Content-Type"] == "application/json"
    assert aws.calls[0].request.body == b"{}"


@pytest.mark.parametrize(
    ("status", "problem", "said"),
    [
        (400, {"title": "It breaks a rule", "errors": [{"field": "$.a", "rule": "is missing"}]}, "$.a is missing"),
        (409, {"title": "It cannot be decided now", "detail": "it is ACCEPTED"}, "decided now: it is ACCEPTED"),
        (403, {"message": "Forbidden"}, "Forbidden"),
        (500, [], "HTTP 500"),
    ],
)
def test_a_refusal_says_why(aws, api, status, problem, said):
    aws.get(f"{URL}/check", json=problem, status=status)
    with pytest.raises(Refused, match=said.replace("$", r"\$")) as refused:
        api.get("check")
    assert refused.value.status == status


@pytest.mark.parametrize(
    "trouble",
    [
        {"body": requests.ConnectionError("canary: https://user:password@proxy")},
        {"body": requests.Timeout()},
        {"body": "<html>", "status": 502},
        {"status": 301, "headers": {"Location": "https://elsewhere.test/"}},
    ],
)
def test_without_a_readable_answer_there_is_none_and_nothing_is_followed(aws, api, trouble):
    aws.get(f"{URL}/check", **trouble)
    with pytest.raises(NoAnswer) as none:
        api.get("check")
    assert "canary" not in str(none.value)
    assert len(aws.calls) == 1


def test_submissions_are_read_page_by_page(aws, api):
    aws.get(f"{URL}/submissions?limit=1000&state=UNKNOWN", json={"submissions": [{"n": 1}], "cursor": "c"})
    aws.get(f"{URL}/submissions?limit=1000&state=UNKNOWN&cursor=c", json={"submissions": [{"n": 2}]})
    assert [each["n"] for each in every_submission(api, state="UNKNOWN")] == [1, 2]


def test_a_loan_that_shifts_between_two_pages_comes_once(aws, api):
    pages = [["1", "2"], ["2", "3"]]
    for offset, page in zip((0, 2), pages, strict=True):
        loans = [{"kiva_id": each} for each in page]
        aws.get(f"{URL}/loans?offset={offset}&limit=300", body=json.dumps({"total_records": 4, "loans": loans}))
    assert [each["kiva_id"] for each in every_loan(api)] == ["1", "2", "3"]


def test_a_message_that_comes_in_pages_is_read_whole(aws, api):
    first = {
        "kind": "repayment",
        "reference": "R7",
        "states": {"ACCEPTED": 3},
        "submissions": [1, 2],
        "more": 1,
        "cursor": "R7:b",
    }
    last = {**first, "submissions": [3]}
    del last["cursor"], last["more"]
    aws.get(f"{URL}/submissions/repayment/R7?cursor=R7%3Ab", json=last)
    assert whole(api, first) == {**last, "submissions": [1, 2, 3]}
    assert whole(api, last) == last
