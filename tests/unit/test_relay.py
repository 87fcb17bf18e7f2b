import json
from collections import Counter
from copy import replace

import pytest
import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError

from fakes import FakeTokens
from kiva_partner.breaker import Breaker
from kiva_partner.client import KivaClient, new_ssl_context
from kiva_partner.errors import InvalidMessage, NotSent, Violation
from kiva_partner.ledger import Ledger, State
from kiva_partner.messages import Kind, parse
from kiva_partner.relay import LEASE_MARGIN, Relay, Verdict


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


class Bucket:
    """The payload bucket as the relay sees it: what is in it lies open, and it can refuse to take anything."""

    def __init__(self):
        self.kept = {}
        self.broken = False
        self.loaded = 0

    def load_photo(self, photo):
        self.loaded += 1
        if photo.s3_key == "photos/missing":
            raise InvalidMessage(Violation("$.photo.s3_key", "names no object"))
        return PHOTO

    def keep(self, submission):
        if self.broken:
            raise OSError("the bucket takes nothing")
        key = f"unknown/{submission.reference}"
        self.kept[key] = submission
        return key


@pytest.fixture
def bucket():
    return Bucket()


@pytest.fixture
def relay(settings, ledger, tokens, bucket, sending, clock):
    breaker = Breaker(sending, clock=clock, sleep=clock.sleep)

    def new(**changes):
        changed = replace(settings, **changes)
        client = KivaClient(changed, tokens, new_ssl_context)
        return ByReference(changed, ledger, client, bucket, sending, breaker, clock=clock, sleep=clock.sleep)

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
    assert seen[0].call_id == ledger.read(submission.kind, submission.reference).outcome.call_id


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
        ((200, {"loan_draft_uuid": "00000000-0000-0000-0000-000000000000"}), State.UNKNOWN, Verdict.STANDS),
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


def test_what_is_claimed_when_the_time_runs_out_goes_back_and_says_so(relay, kiva, ledger, rules):
    remaining = lambda: 290 if len(kiva.sent) < 1 else 100  # noqa: E731
    results = relay(parallel_calls=1).submit(Kind.LOAN_DRAFT, drafts(rules, *"abc"), remaining)
    assert len(kiva.sent) == 1
    assert [ledger.read(Kind.LOAN_DRAFT, each).state for each in "abc"] == [State.ACCEPTED, State.RETRY, State.RETRY]
    assert {results[each].reason for each in "bc"} == {"no time left in this invocation"}


def test_nothing_more_is_claimed_when_the_time_runs_out(relay, kiva, ledger, rules, monkeypatch):
    loans = [f"L-{number}" for number in range(60)]
    relay().submit(Kind.LOAN_DRAFT, drafts(rules, *loans[:50]), lambda: 290)
    claims, claim = [], ledger.claim
    monkeypatch.setattr(ledger, "claim", lambda *arguments: claims.append(1) or claim(*arguments))
    results = relay().submit(Kind.LOAN_DRAFT, drafts(rules, *loans), lambda: 100 if claims else 290)
    assert len(kiva.sent) == 50
    assert {results[loan].verdict for loan in loans[50:]} == {Verdict.AGAIN}
    assert [ledger.read(Kind.LOAN_DRAFT, loan) for loan in loans[50:]] == [None] * 10


def test_what_was_claimed_and_is_spared_goes_back(relay, kiva, ledger, rules):
    kiva.answers = [(429, {"Retry-After": "7"})]
    results = relay(parallel_calls=1).submit(Kind.LOAN_DRAFT, drafts(rules, *"abc"), lambda: 290)
    assert len(kiva.sent) == 1
    rows = [ledger.read(Kind.LOAN_DRAFT, each) for each in "abc"]
    assert [(row.state, row.attempts) for row in rows] == [(State.RETRY, 1)] * 3
    assert {result.verdict for result in results.values()} == {Verdict.AGAIN}
    assert set(states(relay().submit(Kind.LOAN_DRAFT, drafts(rules, *"abc"), lambda: 290)).values()) == {State.ACCEPTED}


def test_a_breaker_that_cannot_be_told_costs_no_outcome(relay, kiva, ledger, rules, monkeypatch):
    def broken(*_, **__):
        raise TimeoutError("DynamoDB")

    monkeypatch.setattr(Breaker, "note", broken)
    results = relay(parallel_calls=1).submit(Kind.LOAN_DRAFT, drafts(rules, *"abc"), lambda: 290)
    assert ledger.read(Kind.LOAN_DRAFT, "a").state is State.ACCEPTED
    assert len(kiva.sent) == 1
    assert [results[each].verdict for each in "abc"] == [Verdict.STANDS, Verdict.AGAIN, Verdict.AGAIN]
    assert ledger.read(Kind.LOAN_DRAFT, "b").state is State.RETRY


# --- packing ------------------------------------------------------------------------------------------------------


def test_drafts_are_claimed_and_settled_fifty_at_a_time(relay, kiva, rules, table):
    transactions = []
    table.meta.events.register("before-call.dynamodb.TransactWriteItems", lambda **_: transactions.append(1))
    loans = [f"L-{number}" for number in range(120)]
    relay(parallel_calls=4).submit(Kind.LOAN_DRAFT, drafts(rules, *loans), lambda: 290)
    assert len(kiva.sent) == 120
    assert len(transactions) == 2 * 3


@pytest.mark.parametrize(("per_call", "waves", "of_a_wave"), [(1, 2, 2), (20, 2, 3), (60, 1, 3)])
def test_lists_are_claimed_together_up_to_as_many_calls_as_run_at_a_time(
    relay, kiva, rules, table, per_call, waves, of_a_wave
):
    """A claim, a settlement and, where several rows share one, the proofs in front of it."""
    transactions = []
    table.meta.events.register("before-call.dynamodb.TransactWriteItems", lambda **_: transactions.append(1))
    loans = [f"L-{number}" for number in range(60)]
    relay(parallel_calls=1, journals_per_call=per_call).submit(
        Kind.JOURNAL_UPDATE, journals(rules, *loans), lambda: 290
    )
    assert len(kiva.sent) == -(-60 // per_call)
    assert len(transactions) == of_a_wave * waves


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


class BrokenSettling:
    """A ledger that takes claims and, so many times, no outcomes."""

    def __init__(self, ledger, times):
        self.settle, self.times, self.tried = ledger.settle, times, 0
        ledger.settle = self

    def __call__(self, *arguments):
        self.tried += 1
        if self.tried <= self.times:
            raise OSError("no ledger")
        return self.settle(*arguments)


def test_an_outcome_is_written_down_as_soon_as_the_ledger_takes_it(relay, kiva, ledger, rules, clock):
    broken = BrokenSettling(ledger, times=5)
    submissions = drafts(rules, "L-1")
    end = clock() + 290
    result = relay().submit(Kind.LOAN_DRAFT, submissions, lambda: end - clock())["L-1"]
    assert (result.verdict, result.state, broken.tried) == (Verdict.STANDS, State.ACCEPTED, 6)
    assert ledger.read(Kind.LOAN_DRAFT, "L-1").state is State.ACCEPTED


def test_proof_that_cannot_be_written_down_in_time_is_logged_and_nothing_is_sent_again(
    relay, kiva, ledger, rules, caplog, clock
):
    broken = BrokenSettling(ledger, times=1000)
    submissions = drafts(rules, "L-1")
    end = clock() + 290
    assert relay().submit(Kind.LOAN_DRAFT, submissions, lambda: end - clock())["L-1"].verdict is Verdict.AGAIN
    assert end - 290 < clock() < end
    proof = "loan_draft L-1 is ACCEPTED {'loan_draft_uuid': '00000000-0000-4000-8000-000000000001'}"
    assert caplog.text.count(proof) == 1
    ledger.settle = broken.settle
    assert relay().submit(Kind.LOAN_DRAFT, submissions, lambda: 290)["L-1"].verdict is Verdict.AGAIN
    clock.advance(1000)
    assert relay().submit(Kind.LOAN_DRAFT, submissions, lambda: 290)["L-1"].state is State.UNKNOWN
    assert len(kiva.sent) == 1


# --- what nobody can tell -----------------------------------------------------------------------------------------


def test_what_is_unknown_is_kept_whole(relay, kiva, ledger, bucket, rules):
    (submission,) = drafts(rules, "L-1", photo={"s3_key": "photos/1.png"})
    kiva.answers = [(500, {})]
    relay().submit(Kind.LOAN_DRAFT, [submission], lambda: 290)
    (kept,) = bucket.kept.values()
    assert kept.content == {**submission.content, "image_encoded": PHOTO}
    assert (kept.reference, kept.fingerprint, kept.photo) == ("L-1", submission.fingerprint, None)
    assert ledger.read(Kind.LOAN_DRAFT, "L-1").payload == "unknown/L-1"


def test_what_has_an_answer_is_not_kept(relay, kiva, bucket, rules):
    kiva.answers = [(400, {}), (429, {}), (200, {"loan_draft_uuid": "00000000-0000-4000-8000-000000000001"})]
    relay().submit(Kind.LOAN_DRAFT, drafts(rules, *"abc"), lambda: 290)
    assert bucket.kept == {}


def test_what_cannot_be_kept_comes_again_and_is_kept_then(relay, kiva, ledger, bucket, rules):
    submissions = repayments(rules, "a", "b")
    kiva.answers = [(500, {})]
    bucket.broken = True
    results = relay().submit(Kind.REPAYMENT, submissions, lambda: 290)
    assert {(result.verdict, result.state) for result in results.values()} == {(Verdict.AGAIN, State.UNKNOWN)}
    bucket.broken = False
    results = relay().submit(Kind.REPAYMENT, submissions, lambda: 290)
    assert {(result.verdict, result.state) for result in results.values()} == {(Verdict.STANDS, State.UNKNOWN)}
    assert len(bucket.kept) == 2
    assert len(kiva.sent) == 1


def test_what_a_dead_sender_left_is_kept_by_whoever_meets_it(relay, kiva, ledger, bucket, rules, clock):
    submissions = repayments(rules, "a", "b")
    ledger.claim(submissions, "dead", clock() + 10)
    clock.advance(11)
    results = relay().submit(Kind.REPAYMENT, submissions, lambda: 290)
    assert {(result.verdict, result.state) for result in results.values()} == {(Verdict.STANDS, State.UNKNOWN)}
    assert len(bucket.kept) == 2
    assert kiva.sent == []


# --- an outage ----------------------------------------------------------------------------------------------------


def test_three_doubts_in_a_row_stop_everything_that_would_follow(relay, kiva, rules):
    kiva.answers = [(503, {})] * 20
    results = relay(parallel_calls=2).submit(Kind.LOAN_DRAFT, drafts(rules, *"abcdefgh"), lambda: 290)
    assert len(kiva.sent) == 4
    assert [result.state for result in results.values()].count(State.UNKNOWN) == 4
    waiting = [result for result in results.values() if result.verdict is Verdict.AGAIN]
    assert [result.retry_after for result in waiting] == [60] * 4
    with pytest.raises(NotSent) as raised:
        relay().submit(Kind.LOAN_DRAFT, drafts(rules, "z"), lambda: 290)
    assert raised.value.retry_after == 60
    assert len(kiva.sent) == 4


def test_rows_of_one_call_are_one_doubt(relay, kiva, ledger, rules):
    kiva.answers = [(503, {})]
    relay().submit(Kind.REPAYMENT, repayments(rules, *"abcdef"), lambda: 290)
    assert relay().submit(Kind.REPAYMENT, repayments(rules, "g"), lambda: 290)


def test_dead_senders_and_what_was_not_processed_are_no_doubts_about_kiva(relay, kiva, ledger, rules, clock):
    submissions = drafts(rules, *"abcdef")
    ledger.claim(submissions[:4], "dead", clock() + 10)
    clock.advance(11)
    kiva.answers = [(429, {}), (429, {})]
    relay(parallel_calls=6).submit(Kind.LOAN_DRAFT, submissions, lambda: 290)
    assert set(states(relay().submit(Kind.LOAN_DRAFT, submissions[4:], lambda: 290)).values()) == {State.ACCEPTED}


@pytest.fixture
def after_an_outage(relay, kiva, rules, clock):
    """The breaker is open, and its pause is over."""
    kiva.answers = [(503, {})] * 3
    relay(parallel_calls=1).submit(Kind.LOAN_DRAFT, drafts(rules, "x", "y", "z"), lambda: 290)
    clock.advance(61)
    kiva.sent.clear()


def test_the_first_to_come_back_is_one_alone_and_the_others_follow(relay, kiva, rules, after_an_outage):
    at_once = []
    kiva.while_posting = lambda: at_once.append(len(kiva.sent))
    results = relay(parallel_calls=4).submit(Kind.LOAN_DRAFT, drafts(rules, *"abcdef"), lambda: 290)
    assert set(states(results).values()) == {State.ACCEPTED}
    assert (kiva.reads, len(kiva.sent)) == (1, 6)


def test_while_kiva_does_not_even_answer_a_read_nothing_is_sent(relay, kiva, ledger, rules, after_an_outage):
    kiva.read_status = 503
    with pytest.raises(NotSent) as raised:
        relay().submit(Kind.LOAN_DRAFT, drafts(rules, "a"), lambda: 290)
    assert raised.value.retry_after == pytest.approx(120)
    assert kiva.sent == []
    assert ledger.read(Kind.LOAN_DRAFT, "a") is None


def test_a_trial_that_leaves_a_doubt_costs_one_submission(relay, kiva, rules, after_an_outage):
    kiva.answers = [(503, {})] * 9
    results = relay(parallel_calls=4).submit(Kind.LOAN_DRAFT, drafts(rules, *"abcdef"), lambda: 290)
    assert len(kiva.sent) == 1
    assert [result.verdict for result in results.values()].count(Verdict.AGAIN) == 5


@pytest.mark.parametrize(("kind", "make"), [(Kind.JOURNAL_UPDATE, journals), (Kind.REPAYMENT, repayments)])
def test_a_trial_of_a_list_is_made_with_one_of_it(relay, kiva, rules, clock, kind, make):
    kiva.answers = [(503, {})] * 3
    for loan in "xyz":
        relay().submit(kind, make(rules, loan), lambda: 290)
    clock.advance(61)
    kiva.answers, kiva.sent = [(503, {})], []
    results = relay().submit(kind, make(rules, *"abcdef"), lambda: 290)
    assert [result.state for result in results.values()] == [State.UNKNOWN] + [None] * 5
    clock.advance(121)
    results = relay().submit(kind, make(rules, *"abcdef"), lambda: 290)
    assert [result.state for result in results.values()] == [State.UNKNOWN] + [State.ACCEPTED] * 5
    assert [sum(map(len, body.values())) for _, body in kiva.sent] == [1, 1, 4]


def test_a_conflict_with_what_waits_is_no_sign_that_kiva_takes_nothing(relay, kiva, rules, after_an_outage, clock):
    """The row in the way is RETRY, and on trial it is alone in its wave."""
    (original,) = drafts(rules, "L-1")
    kiva.answers = [(429, {})]
    relay().submit(Kind.LOAN_DRAFT, [original], lambda: 290)
    clock.advance(61)
    (impostor,) = drafts(rules, "L-1", loanuse="to buy seed")
    results = relay(parallel_calls=1).submit(Kind.LOAN_DRAFT, [impostor, *drafts(rules, "L-2")], lambda: 290)
    assert results["L-1"].verdict is Verdict.CONFLICT
    assert results["L-2"].state is State.ACCEPTED


def test_what_needs_no_call_does_not_use_the_trial_up(relay, kiva, rules, after_an_outage):
    known = drafts(rules, "x", "y")
    results = relay().submit(Kind.LOAN_DRAFT, [*known, *drafts(rules, "a", "b")], lambda: 290)
    assert set(states(results).values()) == {State.UNKNOWN, State.ACCEPTED}
    assert len(kiva.sent) == 2


def test_a_trial_without_any_call_leaves_the_next_one_to_others(relay, kiva, rules, after_an_outage, clock):
    relay().submit(Kind.LOAN_DRAFT, drafts(rules, "x", "y"), lambda: 290)
    assert kiva.sent == []
    clock.advance(61)
    results = relay().submit(Kind.LOAN_DRAFT, drafts(rules, "a"), lambda: 290)
    assert states(results) == {"a": State.ACCEPTED}


# --- calls --------------------------------------------------------------------------------------------------------


def test_what_kiva_wants_to_have_later_waits_as_long(relay, kiva, rules):
    kiva.answers = [(429, {}, {"Retry-After": "70"}), (429, {}, {"Retry-After": "90"})]
    results = relay(parallel_calls=2).submit(Kind.LOAN_DRAFT, drafts(rules, *"abc"), lambda: 290)
    assert sorted(result.retry_after for result in results.values()) == [70, 90, 90]


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


def test_a_gateway_that_knows_nothing_of_kiva_burns_no_reference(relay, kiva, ledger, rules):
    """Seen: a 404 for a minute refused every row of a report for ever."""
    kiva.answers, kiva.read_status = [(404, {})] * 9, 404
    submissions = repayments(rules, *(f"L-{number}" for number in range(9)))
    results = relay(repayments_per_call=3, parallel_calls=1).submit(Kind.REPAYMENT, submissions, lambda: 290)
    assert {(result.state, result.verdict) for result in results.values()} == {(State.RETRY, Verdict.AGAIN)}
    assert any(result.outcome and result.outcome.misconfigured for result in results.values())
    assert len(kiva.sent) == 1
    kiva.answers, kiva.read_status = [], 200
    results = relay().submit(Kind.REPAYMENT, submissions, lambda: 290)
    assert set(states(results).values()) == {State.ACCEPTED}


def test_a_list_of_which_kiva_takes_nothing_is_not_asked_about_row_by_row(relay, kiva, ledger, rules):
    """It took 499 calls for a list of 250."""
    kiva.refuses = lambda _: True
    submissions = repayments(rules, *(f"L-{number}" for number in range(250)))
    results = relay(repayments_per_call=250).submit(Kind.REPAYMENT, submissions, lambda: 290)
    assert len(kiva.sent) < 30
    assert Counter(states(results).values()) == {State.REJECTED: 8, State.RETRY: 242}
    assert {it.verdict for it in results.values() if it.state is State.RETRY} == {Verdict.AGAIN}
    (said,) = {it.reason for it in results.values() if it.state is State.RETRY}
    assert "refused 8 submissions" in said
    kiva.refuses = lambda _: False
    assert set(states(relay().submit(Kind.REPAYMENT, submissions[8:], lambda: 290)).values()) == {State.ACCEPTED}


def test_after_such_a_list_the_next_ones_are_not_tried(relay, kiva, rules):
    kiva.refuses = lambda _: True
    submissions = repayments(rules, *(f"L-{number}" for number in range(100)))
    results = relay(repayments_per_call=20, parallel_calls=1).submit(Kind.REPAYMENT, submissions, lambda: 290)
    assert Counter(states(results).values()) == {State.REJECTED: 8, State.RETRY: 32, None: 60}


def test_where_kiva_takes_some_rows_every_bad_one_is_found(relay, kiva, rules):
    kiva.refuses = lambda body: any(row["loan_id"] != "good" for row in body["repayments"])
    submissions = repayments(rules, "good", *(f"L-{number}" for number in range(19)))
    results = relay().submit(Kind.REPAYMENT, submissions, lambda: 290)
    assert Counter(states(results).values()) == {State.ACCEPTED: 1, State.REJECTED: 19}


def test_refusals_for_different_reasons_are_about_each_row(relay, kiva, rules):
    words = ["closed", "paid", "late", "early", "odd"]

    def refuse(body):
        kiva.answers = [(400, {"message": words[len(kiva.sent) % 5]})] if body["repayments"] else []
        return True

    kiva.refuses = lambda _: True
    kiva.while_posting = lambda: refuse(kiva.sent[-1][1])
    submissions = repayments(rules, *(f"L-{number}" for number in range(12)))
    results = relay().submit(Kind.REPAYMENT, submissions, lambda: 290)
    assert set(states(results).values()) == {State.REJECTED}


def test_a_reason_that_quotes_its_row_is_the_same_reason(relay, kiva, rules):
    def refuse():
        kiva.answers = [(400, {"message": f"loan {kiva.sent[-1][1]['repayments'][0]['loan_id']} is unknown"})]

    kiva.while_posting = refuse
    submissions = repayments(rules, *(f"L-{number}" for number in range(40)))
    results = relay().submit(Kind.REPAYMENT, submissions, lambda: 290)
    assert Counter(states(results).values()) == {State.REJECTED: 8, State.RETRY: 32}


def test_a_list_whose_halves_get_through_no_more_is_sent_later(relay, kiva, rules):
    kiva.answers = [(400, {}), (429, {}, {"Retry-After": "7"})]
    results = relay().submit(Kind.REPAYMENT, repayments(rules, *"abcd"), lambda: 290)
    assert {(it.state, it.retry_after) for it in results.values()} == {(State.RETRY, 7)}
    assert len(kiva.sent) == 2


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
    assert (a.state, [each["code"] for each in a.outcome.problems]) == (State.ACCEPTED, ["low"])
    assert (b.state, [each["code"] for each in b.outcome.problems]) == (State.REJECTED, ["none", "low"])
    assert (c.state, c.outcome.problems) == (State.ACCEPTED, ())


@pytest.mark.parametrize(
    "problem",
    [
        {"loan_id": "c", "severity": "error"},
        {"loan_id": None, "severity": "error"},
        {"severity": "error"},
        "a was refused",
        {"loan_id": "odd", "severity": "odd"},
    ],
    ids=str,
)
def test_a_finding_that_fits_no_row_makes_the_call_unknown_and_is_kept_with_it(
    relay, kiva, ledger, bucket, rules, problem
):
    kiva.answers = [(200, {"upload_id": 7, "problems": [problem]})]
    submissions = repayments(rules, "a", "b")
    results = relay().submit(Kind.REPAYMENT, submissions, lambda: 290)
    assert set(states(results).values()) == {State.UNKNOWN}
    for submission in submissions:
        outcome = ledger.read(Kind.REPAYMENT, submission.reference).outcome
        assert (dict(outcome.kiva), len(outcome.problems)) == ({"upload_id": "7"}, 1)
        assert outcome.reason.startswith("Kiva made it, but nobody can tell what it holds: ")
    assert len(bucket.kept) == 2


def test_a_warning_that_fits_no_row_stands_with_each(relay, kiva, rules):
    kiva.answers = [(200, {"upload_id": 7, "problems": [{"severity": "Warning", "details": "the report is late"}]})]
    results = relay().submit(Kind.REPAYMENT, repayments(rules, "a", "b"), lambda: 290)
    assert set(states(results).values()) == {State.ACCEPTED}
    assert [[it["details"] for it in result.outcome.problems] for result in results.values()] == [
        ["the report is late"]
    ] * 2


@pytest.mark.parametrize(
    ("severity", "state"),
    [
        ("ERROR", State.REJECTED),
        ("fatal", State.REJECTED),
        ("WARN", State.ACCEPTED),
        ("odd", State.UNKNOWN),
        (None, State.UNKNOWN),
    ],
)
def test_a_row_is_judged_by_words_that_are_known(relay, kiva, rules, severity, state):
    kiva.answers = [(200, {"upload_id": 7, "problems": [{"loan_id": "a", "severity": severity, "code": "x"}]})]
    a, b = relay().submit(Kind.REPAYMENT, repayments(rules, "a", "b"), lambda: 290).values()
    assert (a.state, b.state) == (state, State.ACCEPTED)
    assert a.outcome.problems[0]["code"] == "x"
    assert dict(a.outcome.kiva) == {"upload_id": "7"}


def test_a_row_that_nobody_can_tell_of_is_no_doubt_about_kiva(relay, kiva, rules):
    problem = {"loan_id": "a", "severity": "odd"}
    kiva.answers = [(200, {"upload_id": 7 + number, "problems": [problem]}) for number in range(4)]
    for month in range(1, 5):
        relay().submit(Kind.REPAYMENT, repayments(rules, "a", "b", period=f"2026-0{month}"), lambda: 290)
    assert len(kiva.sent) == 4


def test_the_worst_finding_counts_and_ten_are_kept(relay, kiva, rules):
    problems = [{"loan_id": "a", "severity": "warning", "code": str(number)} for number in range(20)]
    kiva.answers = [
        (200, {"upload_id": 7, "problems": [*problems, {"loan_id": "a", "severity": "error", "code": "e"}]})
    ]
    (a,) = relay().submit(Kind.REPAYMENT, repayments(rules, "a"), lambda: 290).values()
    assert (a.state, len(a.outcome.problems), a.outcome.problems[0]["code"]) == (State.REJECTED, 10, "e")


@pytest.mark.parametrize(("kind", "make"), [(Kind.LOAN_DRAFT, drafts), (Kind.JOURNAL_UPDATE, journals)])
def test_findings_on_what_is_no_report_are_not_dropped_either(relay, kiva, rules, kind, make):
    ids = {"loan_draft_uuid": "00000000-0000-4000-8000-000000000009", "archive_id": "9"}
    kiva.answers = [(200, {**ids, "problems": [{"severity": "error", "details": "no"}]})]
    (result,) = relay().submit(kind, make(rules, "a"), lambda: 290).values()
    assert (result.state, result.outcome.problems[0]["details"]) == (State.UNKNOWN, "no")


def test_what_a_finding_quotes_of_a_borrower_is_hidden(relay, kiva, rules):
    uuid = {"loan_draft_uuid": "00000000-0000-4000-8000-000000000009"}
    kiva.answers = [
        (200, {**uuid, "problems": [{"loan_id": "Akinyi", "severity": "error", "details": "Akinyi is odd"}]})
    ]
    (result,) = relay().submit(Kind.LOAN_DRAFT, drafts(rules, "a"), lambda: 290).values()
    assert "akinyi" not in str(result.outcome).lower()


# --- proofs -------------------------------------------------------------------------------------------------------


def test_an_id_that_proves_another_call_already_proves_nothing(relay, kiva, ledger, bucket, rules):
    uuid = {"loan_draft_uuid": "00000000-0000-4000-8000-000000000009"}
    kiva.answers = [(200, uuid), (200, uuid)]
    results = relay(parallel_calls=1).submit(Kind.LOAN_DRAFT, drafts(rules, "a"), lambda: 290)
    results |= relay(parallel_calls=1).submit(Kind.LOAN_DRAFT, drafts(rules, "b"), lambda: 290)
    assert states(results) == {"a": State.ACCEPTED, "b": State.UNKNOWN}
    assert "proves nothing" in ledger.read(Kind.LOAN_DRAFT, "b").outcome.reason
    assert list(bucket.kept) == ["unknown/b"]


def test_of_two_calls_at_a_time_with_one_id_nobody_can_tell_which_it_is_of(relay, kiva, rules):
    uuid = {"loan_draft_uuid": "00000000-0000-4000-8000-000000000009"}
    kiva.answers = [(200, uuid), (200, uuid)]
    results = relay(parallel_calls=2).submit(Kind.LOAN_DRAFT, drafts(rules, "a", "b", "c"), lambda: 290)
    assert Counter(states(results).values()) == {State.UNKNOWN: 2, State.ACCEPTED: 1}


@pytest.mark.parametrize(
    ("kind", "make", "ids"),
    [(Kind.REPAYMENT, repayments, {"upload_id": 7}), (Kind.JOURNAL_UPDATE, journals, {"archive_id": "7"})],
)
def test_a_list_whose_id_proves_another_list_is_unknown_as_a_whole(relay, kiva, rules, kind, make, ids):
    kiva.answers = [(200, ids), (200, ids)]
    relay().submit(kind, make(rules, "a", "b"), lambda: 290)
    loans = [f"L-{number}" for number in range(150)]
    results = relay(repayments_per_call=200, journals_per_call=200).submit(kind, make(rules, *loans), lambda: 290)
    assert Counter(states(results).values()) == {State.UNKNOWN: 150}
    assert set(states(relay().submit(kind, make(rules, "z"), lambda: 290)).values()) == {State.ACCEPTED}


def test_kinds_have_ids_of_their_own(relay, kiva, rules):
    kiva.answers = [(200, {"upload_id": 7}), (200, {"archive_id": 7})]
    results = relay().submit(Kind.REPAYMENT, repayments(rules, "a"), lambda: 290)
    results |= relay().submit(Kind.JOURNAL_UPDATE, journals(rules, "a"), lambda: 290)
    assert set(states(results).values()) == {State.ACCEPTED}


# --- references ---------------------------------------------------------------------------------------------------


def test_the_same_submission_twice_in_a_batch_is_sent_once(relay, kiva, rules):
    relay().submit(Kind.LOAN_DRAFT, drafts(rules, "L-1", "L-1"), lambda: 290)
    assert len(kiva.sent) == 1


def test_of_two_contents_under_one_reference_in_a_batch_the_first_goes_and_the_ledger_judges_the_other_next_time(
    relay, kiva, rules
):
    first, other, again = [
        *drafts(rules, "L-1"),
        *drafts(rules, "L-1", loanuse="to buy seed"),
        *drafts(rules, "L-1"),
    ]
    results = Relay.submit(relay(), Kind.LOAN_DRAFT, [first, other, again], lambda: 290)
    assert [result.verdict for result in results] == [Verdict.STANDS, Verdict.AGAIN, Verdict.STANDS]
    assert [result.new for result in results] == [True, False, False]
    assert len(kiva.sent) == 1
    assert "loanuse" not in kiva.sent[0][1]
    assert relay().submit(Kind.LOAN_DRAFT, [other], lambda: 290)["L-1"].verdict is Verdict.CONFLICT


def test_a_content_that_comes_in_front_of_the_one_that_has_the_reference_takes_nothing_from_it(relay, kiva, rules):
    (original,) = drafts(rules, "L-1")
    kiva.answers = [(429, {})]
    relay().submit(Kind.LOAN_DRAFT, [original], lambda: 290)
    (impostor,) = drafts(rules, "L-1", loanuse="to buy seed")
    results = Relay.submit(relay(), Kind.LOAN_DRAFT, [impostor, original], lambda: 290)
    assert [result.verdict for result in results] == [Verdict.CONFLICT, Verdict.AGAIN]
    assert relay().submit(Kind.LOAN_DRAFT, [original], lambda: 290)["L-1"].state is State.ACCEPTED
    assert [body.get("loanuse") for _, body in kiva.sent] == [None, None]


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


def test_never_more_photos_lie_in_memory_than_calls_are_made_at_a_time(relay, kiva, bucket, rules):
    loaded = []
    kiva.while_posting = lambda: loaded.append(bucket.loaded)
    loans = [f"L-{number}" for number in range(9)]
    photo = {"s3_key": "photos/1.png"}
    relay(parallel_calls=2).submit(
        Kind.LOAN_DRAFT, [*drafts(rules, *loans, photo=photo), *drafts(rules, "L")], lambda: 290
    )
    assert len(kiva.sent) == 10
    assert all(seen <= (number // 2 + 1) * 2 for number, seen in enumerate(loaded))


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
