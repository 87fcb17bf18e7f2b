import json
from copy import replace
from datetime import UTC, datetime

import pytest
import requests
import responses

from fakes import PARTNER_URL, FakeTokens
from kiva_partner.client import KivaClient, new_ssl_context, post_form
from kiva_partner.errors import Misconfigured, NotSent, OutcomeUnknown, Rejected
from kiva_partner.findings import Finding
from kiva_partner.tokens import LEASE_SECONDS

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DRAFT = f"{PARTNER_URL}/loan_draft"
UUID = "7d0c9a52-1b7e-4f0e-8f39-5a8e4f3c2b61"


@pytest.fixture
def tokens():
    return FakeTokens()


@pytest.fixture
def http():
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture
def session(settings, tokens):
    with KivaClient(settings, tokens, new_ssl_context, now=lambda: NOW).session(lambda: 290.0) as session:
        yield session


@pytest.mark.parametrize("answer", [{"loan_draft_uuid": UUID}, {"loanDraftUuid": UUID}, [{"loan_draft_uuid": UUID}]])
@pytest.mark.parametrize("status", [200, 201])
def test_a_draft_is_created_whatever_the_spelling_of_the_answer(session, http, answer, status):
    http.post(DRAFT, json=answer, status=status)
    assert session.post_loan_draft({}).kiva == [{"loan_draft_uuid": UUID}]


def test_the_request_is_json_with_a_bearer_token_and_nothing_of_the_library(session, http):
    http.post(DRAFT, json={"loan_draft_uuid": UUID})
    session.post_loan_draft({"location": "São Domingos: Guinea-Bissau"})
    request = http.calls[0].request
    assert request.headers["Authorization"] == "Bearer token-1"
    assert request.headers["Content-Type"] == "application/json"
    assert "Cookie" not in request.headers
    assert json.loads(request.body) == {"location": "São Domingos: Guinea-Bissau"}


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_is_final_and_keeps_kivas_words(session, http, status):
    http.post(DRAFT, json={"code": "api.error", "message": "location is not defined"}, status=status)
    with pytest.raises(Rejected) as caught:
        session.post_loan_draft({})
    assert (caught.value.status, caught.value.text) == (status, "location is not defined")


LOANS = {"total_records": 0, "data": []}
WRONG_DOORS = [402, 404, 405, 406, 407, 410, 411, 414, 415, 418, 421, 431, 451, 499]


@pytest.mark.parametrize("status", WRONG_DOORS)
def test_a_refusal_that_says_nothing_of_the_content_is_kivas_where_kiva_can_be_read(session, http, status):
    http.post(DRAFT, json={"message": "no"}, status=status)
    http.get(f"{PARTNER_URL}/loans", json=LOANS)
    with pytest.raises(Rejected) as caught:
        session.post_loan_draft({})
    assert (caught.value.status, caught.value.text) == (status, "no")
    assert [(call.request.method, call.request.url) for call in http.calls][1:] == [
        ("GET", f"{PARTNER_URL}/loans?limit=1")
    ]


@pytest.mark.parametrize("status", WRONG_DOORS)
@pytest.mark.parametrize(
    "read",
    [
        {"status": 404},
        {"status": 403},
        {"status": 500},
        {"status": 302},
        {"body": b"<html>Welcome</html>"},
        {"body": requests.ConnectionError("refused")},
    ],
    ids=str,
)
def test_where_reading_fails_as_well_somebody_else_may_have_refused_it(session, http, status, read, tokens):
    http.post(DRAFT, json={"message": "no"}, status=status)
    http.get(f"{PARTNER_URL}/loans", **read)
    with pytest.raises(Misconfigured, match=f"HTTP {status}, and a read fails as well"):
        session.post_loan_draft({})
    assert tokens.discarded == []


def test_who_may_not_read_loans_reads_a_list(settings, http):
    class WithoutLoans(FakeTokens):
        def get(self, scope):
            return replace(super().get(scope), scopes=frozenset({"create:loan_draft"}))

    http.post(DRAFT, status=404)
    http.get(f"{PARTNER_URL}/config/themes", json={"themes": []})
    client = KivaClient(settings, WithoutLoans(), new_ssl_context)
    with client.session(lambda: 290.0) as session, pytest.raises(Rejected):
        session.post_loan_draft({})


def test_without_the_time_to_look_nothing_is_concluded(settings, tokens, http):
    times = iter([290.0, 10.0])
    http.post(DRAFT, status=404)
    with KivaClient(settings, tokens, new_ssl_context).session(lambda: next(times)) as session, pytest.raises(NotSent):
        session.post_loan_draft({})
    assert len(http.calls) == 1


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        ("application/json", b'{"title": "Bad", "errors": [{"field": "a", "message": "b"}]}', "Bad; a: b"),
        ("application/problem+json", b'{"detail": "no such location"}', "no such location"),
        ("text/plain;charset=UTF-8", "está mal".encode(), "está mal"),
        ("text/plain", b'{"message": "no such location"}', "no such location"),
        ("text/html", b"<html><h1>Maintenance</h1></html>", ""),
        ("application/json", b"[]", ""),
        ("application/json", b'{"loanId": "x", "defaultMessage": "odd"}', "odd"),
    ],
)
@pytest.mark.parametrize(("status", "error"), [(400, Rejected), (500, OutcomeUnknown), (409, OutcomeUnknown)])
def test_kivas_words_are_kept_whatever_their_form_and_whatever_they_mean(
    session, http, status, error, content_type, body, said
):
    http.post(DRAFT, body=body, status=status, content_type=content_type)
    with pytest.raises(error) as caught:
        session.post_loan_draft({})
    assert caught.value.text == said


@pytest.mark.parametrize("status", [301, 302, 303, 304, 408, 409, 500, 501, 502, 503, 504, 520, 599])
def test_where_nobody_can_tell_the_outcome_is_unknown(session, http, status):
    http.post(DRAFT, status=status, headers={"Location": "https://elsewhere.test/"})
    with pytest.raises(OutcomeUnknown) as caught:
        session.post_loan_draft({})
    assert caught.value.status == status


@pytest.mark.parametrize("status", [425, 429])
def test_asked_to_come_later_means_not_processed(session, http, status):
    http.post(DRAFT, status=status)
    with pytest.raises(NotSent) as caught:
        session.post_loan_draft({})
    assert caught.value.retry_after is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("0", 1),
        ("86400", 3600),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 1),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
    ],
)
def test_retry_after_is_honoured_between_a_second_and_an_hour(session, http, header, seconds):
    http.post(DRAFT, status=429, headers={"Retry-After": header})
    with pytest.raises(NotSent) as caught:
        session.post_loan_draft({})
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("status", [307, 308])
def test_a_moved_endpoint_is_a_misconfiguration_and_is_not_followed(session, http, status):
    http.post(DRAFT, status=status, headers={"Location": "https://elsewhere.test/"})
    with pytest.raises(Misconfigured):
        session.post_loan_draft({})
    assert len(http.calls) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>OK</html>",
        b'{"loan_draft_uuid": "7d0c9a52',
        b"[]",
        b"null",
        b'"7d0c9a52"',
        b"{}",
        b'{"loan_draft_uuid": null}',
        b'{"loan_draft_uuid": true}',
        b'{"loan_draft_uuid": 0}',
        b'{"loan_draft_uuid": "00000000-0000-0000-0000-000000000000"}',
        b'{"loan_draft_uuid": "00000000"}',
        b'{"loan_draft_uuid": "undefined"}',
        b'{"loan_draft_uuid": "--------"}',
        b'{"loan_draft_uuid": "7d0c9a52-1b7e", "loan_draft_uuid": "8d0c9a52-1b7e"}',
        b'{"loan_draft_uuid": "7d0c9a52-1b7e", "loanDraftUuid": "8d0c9a52-1b7e"}',
        b'{"loan_draft_uuid": "7d0c9a52-1b7e", "x": {"a": 1, "a": 2}}',
        b'{"loan_draft_uuid": "7d0c9a52-1b7e", "x": "\\ud800"}',
        b'{"loan_draft_uuid": "7d0c9a52-1b7e", "x": ' + b"1" * 5000 + b"}",
        b'[{"loan_draft_uuid": "7d0c9a52-1b7e"}, {"loan_draft_uuid": "7d0c9a52-1b7e"}]',
        b'{"loan_draft_uuid": "<script>"}',
        b'{"loan_draft_uuid": "7d0c9a52-1b7e", "code": "api.error"}',
        b"[" * 10_000,
        b"\xff\xfe",
        b'{"loan_draft_uuid": "7d0c9a52-1b7e", "x": "' + b"x" * 1_000_001 + b'"}',
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_2xx_without_a_readable_reference_is_unknown(session, http, body):
    http.post(DRAFT, body=body, status=200)
    with pytest.raises(OutcomeUnknown):
        session.post_loan_draft({})


def test_no_answer_is_unknown_and_the_error_repeats_nothing_of_the_request(session, http):
    http.post(DRAFT, body=requests.ConnectionError("reset while sending Akinyi"))
    with pytest.raises(OutcomeUnknown) as caught:
        session.post_loan_draft({"name": "Akinyi"})
    assert "Akinyi" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_replaced_once_and_the_post_goes_once_more(session, http, tokens, status):
    http.post(DRAFT, status=status)
    http.post(DRAFT, json={"loan_draft_uuid": UUID})
    assert session.post_loan_draft({}).kiva == [{"loan_draft_uuid": UUID}]
    assert tokens.discarded == ["token-1"]
    assert [call.request.headers["Authorization"] for call in http.calls] == ["Bearer token-1", "Bearer token-2"]


def test_two_refused_tokens_stop_it(session, http, tokens):
    http.post(DRAFT, status=401)
    http.post(DRAFT, status=403)
    with pytest.raises(Misconfigured):
        session.post_loan_draft({})
    assert len(http.calls) == 2


def test_no_post_starts_without_the_time_to_wait_for_its_answer(settings, tokens):
    left = settings.connect_timeout + settings.read_timeout
    with KivaClient(settings, tokens, new_ssl_context).session(lambda: left) as session, pytest.raises(NotSent):
        session.post_loan_draft({})


def test_a_second_post_after_401_needs_the_time_as_well(settings, tokens, http):
    times = iter([290.0, 10.0])
    http.post(DRAFT, status=401)
    with KivaClient(settings, tokens, new_ssl_context).session(lambda: next(times)) as session, pytest.raises(NotSent):
        session.post_loan_draft({})
    assert len(http.calls) == 1


# --- journals and repayments ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("archive_id", ["48213", 48213])
def test_journals_go_in_a_wrapper_and_give_archive_and_confirm_url(session, http, archive_id):
    url = "https://partners.staging.kiva.org/pa2/journals/confirm/48213"
    http.post(f"{PARTNER_URL}/journals", json=[{"archive_id": archive_id, "confirm_url": url}], status=201)
    answer = session.post_journals([{"subject": "A"}, {"subject": "B"}])
    assert answer.kiva == [{"archive_id": "48213", "confirm_url": url}] * 2
    assert json.loads(http.calls[0].request.body) == {"journals": [{"subject": "A"}, {"subject": "B"}]}


def archive(number, **more):
    return {"code": "api.success", "archive_id": str(number), **more}


TWO = [{"internal_loan_id": "a"}, {"internal_loan_id": "b"}]


@pytest.mark.parametrize(
    ("answers", "archives"),
    [
        ([archive(1), archive(2)], ["1", "2"]),
        ([archive(1), archive(1)], ["1", "1"]),
        ([archive(1, internal_loan_id="a"), archive(2, internalLoanId="b")], ["1", "2"]),
        ([archive(1, loan_id="b"), archive(2, loan_id="a")], ["2", "1"]),
        ([archive(1)], ["1", "1"]),
        (archive(1), ["1", "1"]),
    ],
)
def test_an_answer_for_each_journal_is_understood_in_order_or_by_name(session, http, answers, archives):
    http.post(f"{PARTNER_URL}/journals", json=answers)
    assert [each["archive_id"] for each in session.post_journals(TWO).kiva] == archives


@pytest.mark.parametrize(
    "answers",
    [
        [],
        [archive(1), archive(2), archive(3)],
        [archive(1, loan_id="a")],
        [archive(1, loan_id="a"), archive(2, loan_id="a")],
        [archive(1, loan_id="a"), archive(2, loan_id="c")],
        [archive(1, loan_id="a"), archive(2)],
        [archive(1, loan_id=["a"]), archive(2, loan_id={"b": 1})],
        [archive(1), archive(2, code="api.error")],
        [archive(1), {"code": "api.success"}],
        [archive(1), archive("undefined")],
        [archive(1), "odd"],
        [[archive(1)], [archive(2)]],
    ],
)
def test_answers_that_are_not_one_for_each_journal_are_a_doubt(session, http, answers):
    http.post(f"{PARTNER_URL}/journals", json=answers)
    with pytest.raises(OutcomeUnknown):
        session.post_journals(TWO)


@pytest.mark.parametrize("upload_id", [0, "0", "none", "null", "nil", "undefined", "-1", "", " ", None, True, 1.5, [1]])
def test_what_is_no_id_proves_nothing(session, http, upload_id):
    http.post(f"{PARTNER_URL}/repayments", json={"upload_id": upload_id, "message": "3 rows received"})
    with pytest.raises(OutcomeUnknown, match="without a upload_id") as caught:
        session.post_repayments([{"loan_id": "L-1"}])
    assert caught.value.text == "3 rows received"


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "http://partners.kiva.org/x",
        "https://kiva.org.evil.test/x",
        "https://evilkiva.org/x",
        "https://partners.kiva.org/\r\nx",
        "https://partners.kiva.org/" + "x" * 500,
        None,
        5,
        "https://[",
        "https://kiva.org@evil.example/",
        "https://somebody@kiva.org/",
        r"https://evil.example\@kiva.org/",
        r"https://evil.example\.kiva.org/",
        "https://kiva.org:99999999/",
        "https://kiva.org.evil.example/",
    ],
)
def test_a_confirm_url_that_nobody_should_click_is_not_shown(session, http, url):
    http.post(f"{PARTNER_URL}/journals", json={"archive_id": "1", "confirm_url": url})
    assert session.post_journals([{}]).kiva == [{"archive_id": "1"}]


def test_repayments_give_an_upload_and_what_was_found_in_each_row(session, http):
    problem = {"loanId": "L-1", "details": "No loan", "code": "x", "severity": "error"}
    http.post(f"{PARTNER_URL}/repayments", json={"uploadId": 90217, "problems": [problem]})
    answer = session.post_repayments([{"loan_id": "L-0"}, {"loan_id": "L-1"}])
    assert answer.kiva == [{"upload_id": "90217"}] * 2
    assert answer.findings.of_rows == [[], [Finding("L-1", "error", "x", "No loan")]]


# --- reading ----------------------------------------------------------------------------------------------------------


def test_loans_are_asked_for_with_the_given_filters_only(session, http):
    http.get(f"{PARTNER_URL}/loans", json={"totalRecords": 1, "data": [{"kivaId": "1", "fundedAmount": 475.0}]})
    page = session.loans(status="payingBack", limit=5)
    assert (page.total_records, page.loans) == (1, [{"kiva_id": "1", "funded_amount": 475.0}])
    assert http.calls[0].request.params == {"status": "payingBack", "offset": "0", "limit": "5"}


def test_all_pages_are_read_and_rows_that_shifted_between_pages_come_once(session, http):
    ids = [str(number) for number in range(700)]
    pages = [ids[:300], ids[299:599], ids[598:]]
    for page in pages:
        http.get(f"{PARTNER_URL}/loans", json={"total_records": 702, "data": [{"kiva_id": each} for each in page]})
    assert [loan["kiva_id"] for loan in session.all_loans()] == ids
    assert [call.request.params["offset"] for call in http.calls] == ["0", "300", "600"]


@pytest.mark.parametrize("row", [{"activity_id": 61, "activity": "Food"}, {"activityId": 61, "activityName": "Food"}])
def test_config_lists_read_alike_in_both_spellings(session, http, row):
    http.get(f"{PARTNER_URL}/config/activities", json={"as_of_date_time": "2026-09-01T08:00:00Z", "activities": [row]})
    assert session.config("activities") == {
        "as_of_date_time": "2026-09-01T08:00:00Z",
        "activities": [{"activity_id": 61, "activity": "Food"}],
    }


@pytest.mark.parametrize(("status", "body"), [(500, b""), (302, b""), (200, b"<html>"), (200, b"{}"), (404, b"{}")])
def test_every_doubt_about_a_reading_may_be_read_again(session, http, status, body):
    http.get(f"{PARTNER_URL}/loans", status=status, body=body)
    with pytest.raises(NotSent):
        session.loans()


# --- the token request ------------------------------------------------------------------------------------------------


def test_the_token_service_is_not_waited_for_longer_than_the_lease_lasts(settings, http):
    http.post(settings.token_url, json={})
    post_form(settings, new_ssl_context, settings.token_url, {"a": "b"})
    connect, read = http.calls[0].request.req_kwargs["timeout"]
    assert connect + read <= LEASE_SECONDS < settings.read_timeout


def test_a_token_request_that_has_little_time_takes_no_more_in_all(settings, http):
    http.post(settings.token_url, json={})
    post_form(settings, new_ssl_context, settings.token_url, {"a": "b"}, 8)
    connect, read = http.calls[0].request.req_kwargs["timeout"]
    assert 2 * connect + read <= 8  # sending may take as long as connecting


@pytest.mark.parametrize("location", ["http://[", "https://evil.test/", "/"])
@pytest.mark.parametrize(("status", "error"), [(302, OutcomeUnknown), (307, Misconfigured)])
def test_a_redirect_to_nowhere_is_neither_followed_nor_looked_at(session, http, location, status, error):
    """requests itself reads the whole body of a redirect, and stumbles over some of its targets."""
    http.post(f"{PARTNER_URL}/loan_draft", status=status, headers={"Location": location})
    with pytest.raises(error):
        session.post_loan_draft({})


@pytest.mark.parametrize(
    "trouble", [requests.ReadTimeout("slow"), requests.ConnectionError("reset")], ids=["slow", "reset"]
)
def test_a_read_without_an_answer_may_be_asked_again(session, http, trouble):
    http.get(f"{PARTNER_URL}/loans", body=trouble)
    with pytest.raises(NotSent):
        session.loans()
