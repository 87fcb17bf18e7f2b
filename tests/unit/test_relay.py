import json
from dataclasses import replace

import pytest
import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError

from fakes import FakeTokens
from kiva_partner.client import KivaClient, new_ssl_context
from kiva_partner.errors import InvalidMessage, NotSent, Violation
from kiva_partner.ledger import Ledger, State
from kiva_partner.messages import Kind, parse
from kiva_partner.relay import LEASE_MARGIN, Relay, Verdict, masked


class ByReference(Relay):
    """The relay, its results looked up by reference: most tests have one submission for each."""

    def submit(self, *arguments):
        return {result.submission.reference: result for result in super().submit(*arguments)}


PHOTO = "data:image/png;base64,iVBORw0KGgo="


def drafts(rules, *loans, **fields):
    def one(loan):
        entrep = {"client_id": "C", "loan_id": loan, "first_name": "Akinyi", "gender": "female", "amount": 10}
        body = {"currency": "KES", "entreps": [entrep], **fields}
        return parse(Kind.LOAN_DRAFT, json.dumps(body), rules).submissions[0]

    return [one(loan) for loan in loans]


def repayments(rules, *loans, amount=10, period="2026-10"):
    rows = [{"loan_id": loan, "client_id": "C", "amount": amount} for loan in loans]
    return list(parse(Kind.REPAYMENT, json.dumps({"period": period, "repayments": rows}), rules).submissions)


def journals(rules, *loans):
    rows = [{"internal_loan_id": each, "internal_client_id": "C", "subject": "S", "body": "B"} for each in loans]
    return list(parse(Kind.JOURNAL_UPDATE, json.dumps({"journals": rows}), rules).submissions)


@pytest.fixture
def ledger(table, clock):
    return Ledger(lambda: table, "ledger", "stage#9001", clock=clock, sleep=clock.sleep)


@pytest.fixture
def tokens():
    return FakeTokens()


@pytest.fixture
def relay(settings, ledger, tokens, clock):
    def load_photo(photo):
        if photo.s3_key == "photos/missing":
            raise InvalidMessage(Violation("$.photo.s3_key", "names no object"))
        return PHOTO

    def new(**changes):
        changed = replace(settings, **changes)
        return ByReference(changed, ledger, KivaClient(changed, tokens, new_ssl_context), load_photo, clock=clock)

    return new


def never_connected():
    return requests.ConnectionError(MaxRetryError(None, "/", NewConnectionError(None, "refused")))


def states(results):
    return {reference: result.state for reference, result in results.items()}


@pytest.mark.parametrize(
    ("kind", "make", "reference"),
    [
        (Kind.LOAN_DRAFT, drafts, {"loan_draft_uuid": "00000000-0000-4000-8000-000000000001"}),
        (Kind.JOURNAL_UPDATE, journals, {"archive_id": "1", "confirm_url": "https://partners.kiva.org/confirm/1"}),
        (Kind.REPAYMENT, repayments, {"upload_id": "1"}),
    ],
)
def test_an_accepted_submission_is_written_down_with_kivas_reference(relay, kiva, ledger, rules, kind, make, reference):
    (submission,) = make(rules, "L-1")
    result = relay().submit(kind, [submission], lambda: 290)[submission.reference]
    assert (result.verdict, result.state) == (Verdict.STANDS, State.ACCEPTED)
    row = ledger.read(kind, submission.reference)
    assert (row.state, row.outcome.kiva) == (State.ACCEPTED, reference)


def test_the_claim_is_durable_before_a_byte_leaves_and_outlives_the_invocation(relay, kiva, ledger, rules, clock):
    (submission,) = drafts(rules, "L-1")
    seen = []
    kiva.while_posting = lambda: seen.append(ledger.read(submission.kind, submission.reference))
    relay().submit(Kind.LOAN_DRAFT, [submission], lambda: 290)
    assert seen[0].state is State.SENDING
    assert seen[0].lease_until == clock() + 290 + LEASE_MARGIN


def test_without_a_token_nothing_is_claimed(relay, kiva, ledger, tokens, rules):
    (submission,) = drafts(rules, "L-1")
    tokens.errors = [NotSent("no token")]
    with pytest.raises(NotSent):
        relay().submit(Kind.LOAN_DRAFT, [submission], lambda: 290)
    assert ledger.read(submission.kind, submission.reference) is None
    assert kiva.sent == []


def test_the_second_time_it_is_answered_from_the_ledger(relay, kiva, rules):
    submissions = drafts(rules, "L-1", "L-2")
    relay().submit(Kind.LOAN_DRAFT, submissions, lambda: 290)
    again = relay().submit(Kind.LOAN_DRAFT, submissions, lambda: 290)
    assert states(again) == {"L-1": State.ACCEPTED, "L-2": State.ACCEPTED}
    assert len(kiva.sent) == 2


@pytest.mark.parametrize(
    ("answer", "state", "verdict"),
    [
        ((400, {"message": "no"}), State.REJECTED, Verdict.STANDS),
        ((404, {}), State.REJECTED, Verdict.STANDS),
        ((429, {}), State.RETRY, Verdict.AGAIN),
        ((308, {}), State.RETRY, Verdict.AGAIN),
        ((500, {}), State.UNKNOWN, Verdict.STANDS),
        ((302, {}), State.UNKNOWN, Verdict.STANDS),
        ((200, {}), State.UNKNOWN, Verdict.STANDS),
        (requests.ReadTimeout("slow"), State.UNKNOWN, Verdict.STANDS),
        (never_connected(), State.RETRY, Verdict.AGAIN),
        (RuntimeError("a fault of ours"), State.UNKNOWN, Verdict.STANDS),
    ],
    ids=str,
)
def test_every_end_of_a_post_is_written_down(relay, kiva, ledger, rules, answer, state, verdict):
    (submission,) = drafts(rules, "L-1")
    kiva.answers = [answer]
    result = relay().submit(Kind.LOAN_DRAFT, [submission], lambda: 290)["L-1"]
    assert (result.state, result.verdict) == (state, verdict)
    assert ledger.read(submission.kind, "L-1").state is state


def test_what_was_not_processed_goes_when_it_comes_again(relay, kiva, rules):
    kiva.answers = [(429, {})]
    submissions = drafts(rules, "L-1")
    relay().submit(Kind.LOAN_DRAFT, submissions, lambda: 290)
    assert states(relay().submit(Kind.LOAN_DRAFT, submissions, lambda: 290)) == {"L-1": State.ACCEPTED}


def test_a_misconfiguration_stops_the_calls_that_would_follow(relay, kiva, rules):
    kiva.answers = [(401, {})] * 10
    results = relay(parallel_calls=1).submit(Kind.LOAN_DRAFT, drafts(rules, "L-1", "L-2", "L-3"), lambda: 290)
    assert {result.verdict for result in results.values()} == {Verdict.AGAIN}
    assert len(kiva.sent) == 2
    assert results["L-1"].outcome.misconfigured


def test_where_nobody_gets_through_the_next_are_spared(relay, kiva, rules):
    kiva.answers = [(429, {})] * 10
    results = relay(parallel_calls=2).submit(Kind.LOAN_DRAFT, drafts(rules, *"abcdef"), lambda: 290)
    assert len(kiva.sent) == 2
    assert {result.verdict for result in results.values()} == {Verdict.AGAIN}


def test_settled_stays_settled_when_the_time_runs_out_and_the_rest_comes_again(relay, kiva, rules):
    times = iter([290.0] * 6 + [100.0] * 50)
    results = relay(parallel_calls=1).submit(Kind.LOAN_DRAFT, drafts(rules, *"abcdef"), lambda: next(times))
    verdicts = [result.verdict for result in results.values()]
    assert 0 < verdicts.count(Verdict.STANDS) == len(kiva.sent) < 6
    assert verdicts.count(Verdict.AGAIN) == 6 - len(kiva.sent)


# --- packing ------------------------------------------------------------------------------------------------------


def test_repayments_are_packed_into_as_few_calls_as_they_fit(relay, kiva, rules):
    submissions = repayments(rules, *(f"L-{number}" for number in range(90)))
    results = relay(repayments_per_call=20).submit(Kind.REPAYMENT, submissions, lambda: 290)
    assert set(states(results).values()) == {State.ACCEPTED}
    assert sorted(len(body["repayments"]) for _, body in kiva.sent) == [10, 20, 20, 20, 20]


def test_a_loan_comes_once_in_a_call(relay, kiva, rules):
    submissions = repayments(rules, "a", "b") + repayments(rules, "a", period="2026-11") + repayments(rules, "c")
    relay(parallel_calls=1).submit(Kind.REPAYMENT, submissions, lambda: 290)
    assert [[row["loan_id"] for row in body["repayments"]] for _, body in kiva.sent] == [["a", "b", "c"], ["a"]]


def test_journals_of_a_batch_share_calls_and_drafts_have_their_own(relay, kiva, rules):
    relay(journals_per_call=3).submit(Kind.JOURNAL_UPDATE, journals(rules, *"abcd"), lambda: 290)
    assert sorted(len(body["journals"]) for _, body in kiva.sent) == [1, 3]
    kiva.sent.clear()
    relay().submit(Kind.LOAN_DRAFT, drafts(rules, "a", "b"), lambda: 290)
    assert [path for path, _ in kiva.sent] == ["loan_draft", "loan_draft"]


def test_what_others_claimed_or_settled_is_left_out_of_the_call(relay, kiva, ledger, rules):
    submissions = repayments(rules, "a", "b", "c")
    ledger.claim(submissions[:1], "other", 10**10)
    results = relay().submit(Kind.REPAYMENT, submissions, lambda: 290)
    assert [row["loan_id"] for row in kiva.sent[0][1]["repayments"]] == ["b", "c"]
    assert results[submissions[0].reference].verdict is Verdict.AGAIN


def test_two_journals_of_a_loan_may_share_a_call(relay, kiva, rules):
    rows = [{"internal_loan_id": "a", "internal_client_id": "C", "subject": "S", "body": body} for body in "xy"]
    message = parse(Kind.JOURNAL_UPDATE, json.dumps({"journals": rows}), rules)
    relay().submit(Kind.JOURNAL_UPDATE, message.submissions, lambda: 290)
    assert len(kiva.sent) == 1


def test_proof_that_cannot_be_written_down_is_logged_and_nothing_is_sent_again(relay, kiva, ledger, rules, caplog):
    def fail(*_):
        raise OSError("no ledger")

    submissions = drafts(rules, "L-1")
    settle, ledger.settle = ledger.settle, fail
    with pytest.raises(OSError, match="no ledger"):
        relay().submit(Kind.LOAN_DRAFT, submissions, lambda: 290)
    assert "loan_draft L-1 is ACCEPTED {'loan_draft_uuid': '00000000-0000-4000-8000-000000000001'}" in caplog.text
    ledger.settle = settle
    assert relay().submit(Kind.LOAN_DRAFT, submissions, lambda: 290)["L-1"].verdict is Verdict.AGAIN
    assert len(kiva.sent) == 1


def test_rows_of_a_call_share_its_id(relay, kiva, rules):
    results = relay().submit(Kind.REPAYMENT, repayments(rules, "a", "b"), lambda: 290)
    assert len({result.outcome.call_id for result in results.values()}) == 1


# --- lists that Kiva refuses --------------------------------------------------------------------------------------


def test_a_refused_list_is_halved_until_the_bad_row_stands_alone(relay, kiva, rules):
    kiva.refuses = lambda body: any(row["loan_id"] == "bad" for row in body["repayments"])
    submissions = repayments(rules, *(f"L-{number}" for number in range(39)), "bad")
    results = relay().submit(Kind.REPAYMENT, submissions, lambda: 290)
    refused = [reference for reference, result in results.items() if result.state is State.REJECTED]
    assert refused == [submissions[-1].reference]
    assert set(states(results).values()) == {State.ACCEPTED, State.REJECTED}


@pytest.mark.parametrize("status", [404, 405, 415])
def test_a_refusal_of_the_call_itself_is_not_halved(relay, kiva, rules, status):
    kiva.answers = [(status, {})]
    results = relay().submit(Kind.REPAYMENT, repayments(rules, "a", "b"), lambda: 290)
    assert set(states(results).values()) == {State.REJECTED}
    assert len(kiva.sent) == 1


def test_rows_of_a_call_without_an_answer_are_unknown_together_and_not_halved(relay, kiva, rules):
    kiva.answers = [(502, {})]
    results = relay().submit(Kind.REPAYMENT, repayments(rules, "a", "b"), lambda: 290)
    assert set(states(results).values()) == {State.UNKNOWN}
    assert len(kiva.sent) == 1


def test_problem_rows_decide_about_their_own_loan_only(relay, kiva, rules):
    problems = [
        {"loan_id": "a", "severity": "warning", "code": "low", "details": "lower than before"},
        {"loan_id": "b", "severity": "error", "code": "none", "details": "no such loan"},
        {"loan_id": "b", "severity": "warning", "code": "low", "details": "also low"},
    ]
    kiva.answers = [(200, {"upload_id": 7, "problems": problems})]
    submissions = repayments(rules, "a", "b", "c")
    a, b, c = (relay().submit(Kind.REPAYMENT, submissions, lambda: 290)[each.reference] for each in submissions)
    assert (a.state, a.outcome.problem["code"]) == (State.ACCEPTED, "low")
    assert (b.state, b.outcome.problem["code"]) == (State.REJECTED, "none")
    assert (c.state, c.outcome.problem) == (State.ACCEPTED, None)


# --- references ---------------------------------------------------------------------------------------------------


def test_the_same_submission_twice_in_a_batch_is_sent_once(relay, kiva, rules):
    relay().submit(Kind.LOAN_DRAFT, drafts(rules, "L-1", "L-1"), lambda: 290)
    assert len(kiva.sent) == 1


def test_of_two_contents_under_one_reference_in_a_batch_the_first_goes_and_the_other_conflicts(relay, kiva, rules):
    first, other, again = [
        *drafts(rules, "L-1"),
        *drafts(rules, "L-1", loanuse="to buy seed"),
        *drafts(rules, "L-1"),
    ]
    results = Relay.submit(relay(), Kind.LOAN_DRAFT, [first, other, again], lambda: 290)
    assert [result.verdict for result in results] == [Verdict.STANDS, Verdict.CONFLICT, Verdict.STANDS]
    assert [result.new for result in results] == [True, False, False]
    assert len(kiva.sent) == 1
    assert "loanuse" not in kiva.sent[0][1]


def test_other_content_after_acceptance_is_a_conflict_and_never_goes(relay, kiva, rules):
    relay().submit(Kind.LOAN_DRAFT, drafts(rules, "L-1"), lambda: 290)
    results = relay().submit(Kind.LOAN_DRAFT, drafts(rules, "L-1", loanuse="to buy seed"), lambda: 290)
    assert results["L-1"].verdict is Verdict.CONFLICT
    assert len(kiva.sent) == 1


# --- photos -------------------------------------------------------------------------------------------------------


def test_a_photo_beside_the_message_is_put_into_the_draft(relay, kiva, rules):
    relay().submit(Kind.LOAN_DRAFT, drafts(rules, "L-1", photo={"s3_key": "photos/1.png"}), lambda: 290)
    assert kiva.sent[0][1]["image_encoded"] == PHOTO
    assert "photo" not in kiva.sent[0][1]


def test_a_missing_photo_claims_nothing_and_its_neighbours_go(relay, kiva, ledger, rules):
    submissions = [*drafts(rules, "L-1", photo={"s3_key": "photos/missing"}), *drafts(rules, "L-2")]
    results = relay().submit(Kind.LOAN_DRAFT, submissions, lambda: 290)
    assert results["L-1"].verdict is Verdict.INVALID
    assert results["L-2"].state is State.ACCEPTED
    assert ledger.read(Kind.LOAN_DRAFT, "L-1") is None


# --- Kiva's words -------------------------------------------------------------------------------------------------


def test_kivas_words_are_shown_without_the_borrower(relay, kiva, ledger, rules):
    kiva.answers = [(400, {"message": "Akinyi must not be AKINYI; location is not defined"})]
    relay().submit(Kind.LOAN_DRAFT, drafts(rules, "L-1"), lambda: 290)
    reason = ledger.read(Kind.LOAN_DRAFT, "L-1").outcome.reason
    assert "location is not defined" in reason
    assert "akinyi" not in reason.lower()


def test_kivas_words_are_one_short_line(rules):
    text = masked("a\r\nb\x1b[31m\u2028c" + "x" * 1000, drafts(rules, "L-1"))
    assert len(text) == 256
    assert text.startswith("a??b??31m?c")
