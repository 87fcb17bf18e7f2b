import json
from copy import replace
from datetime import datetime
from itertools import count
from threading import Event

import boto3
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from kiva_partner.errors import InvalidMessage, Violation
from kiva_partner.ledger import ClaimResult, Ledger, Outcome, State
from kiva_partner.messages import Kind, parse

LEASE = 300


def repayments(rules, *loans, amount=10, period="2026-10"):
    rows = [{"loan_id": loan, "client_id": "C", "amount": amount} for loan in loans]
    return parse(Kind.REPAYMENT, json.dumps({"period": period, "repayments": rows}), rules).submissions


def draft(rules, loan="L-1", amount=10, **fields):
    entrep = {"client_id": "C", "loan_id": loan, "first_name": "Akinyi", "gender": "female", "amount": amount}
    body = {"currency": "KES", "entreps": [entrep], **fields}
    return parse(Kind.LOAN_DRAFT, json.dumps(body), rules).submissions[0]


@pytest.fixture
def ledger(table, clock):
    return Ledger(lambda: table, "ledger", "stage#9001", clock=clock, sleep=clock.sleep)


@pytest.fixture
def one(rules):
    return draft(rules)


def claim(ledger, submission, owner="me", lease=LEASE):
    return ledger.claim([submission], owner, ledger._clock() + lease)[submission.reference]


def settle(ledger, submission, state, owner="me", **fields):
    """Whether it was written down."""
    (written,) = ledger.settle([(submission, Outcome(state, **fields))], owner)
    return written is not None


def test_a_claim_is_had_once(ledger, one):
    assert claim(ledger, one)[0] is ClaimResult.CLAIMED
    assert claim(ledger, one, "other")[0] is ClaimResult.BUSY


def test_a_claim_whose_answer_was_lost_is_still_ours(ledger, one):
    claim(ledger, one)
    assert claim(ledger, one)[0] is ClaimResult.CLAIMED


def test_a_queued_submission_can_be_claimed_and_a_claimed_one_not_queued(ledger, one):
    ledger.enqueue([one])
    assert ledger.read(one.kind, one.reference).state is State.QUEUED
    assert claim(ledger, one)[0] is ClaimResult.CLAIMED
    ledger.enqueue([one])
    assert ledger.read(one.kind, one.reference).state is State.SENDING


@pytest.mark.parametrize("state", [State.ACCEPTED, State.REJECTED, State.UNKNOWN, State.ABANDONED])
def test_what_has_an_outcome_is_not_sent_again(ledger, one, state):
    claim(ledger, one)
    settle(ledger, one, state)
    result, row = claim(ledger, one, "other")
    assert (result, row.state) == (ClaimResult.STANDS, state)


def test_what_was_certainly_not_processed_can_be_claimed_again(ledger, one):
    claim(ledger, one)
    settle(ledger, one, State.RETRY)
    assert claim(ledger, one, "other")[0] is ClaimResult.CLAIMED
    assert ledger.read(one.kind, one.reference).attempts == 2


@pytest.mark.parametrize("state", [State.RETRY, State.ACCEPTED, State.UNKNOWN])
def test_other_content_under_a_used_reference_is_a_conflict(ledger, rules, one, state):
    claim(ledger, one)
    settle(ledger, one, state)
    assert claim(ledger, draft(rules, amount=11))[0] is ClaimResult.CONFLICT


def test_other_content_while_the_first_is_being_sent_is_a_conflict(ledger, rules, one):
    claim(ledger, one)
    assert claim(ledger, draft(rules, amount=11), "other")[0] is ClaimResult.CONFLICT


@pytest.mark.parametrize("state", [State.REJECTED, State.ABANDONED])
def test_a_refused_reference_may_be_used_again_for_other_content(ledger, rules, one, state):
    claim(ledger, one)
    settle(ledger, one, state, reason="no such location", kiva={"x": "y"})
    corrected = draft(rules, amount=11)
    assert claim(ledger, corrected)[0] is ClaimResult.CLAIMED
    row = ledger.read(one.kind, one.reference)
    assert (row.fingerprint, row.outcome) == (corrected.fingerprint, None)


def test_a_claim_whose_lease_ran_out_becomes_unknown_and_never_goes_again(ledger, one, clock):
    claim(ledger, one)
    clock.advance(LEASE + 1)
    result, row = claim(ledger, one, "other")
    assert (result, row.state) == (ClaimResult.EXPIRED, State.UNKNOWN)
    assert claim(ledger, one, "third")[0] is ClaimResult.STANDS


def test_until_its_last_second_a_lease_holds(ledger, one, clock):
    claim(ledger, one)
    clock.advance(LEASE)
    assert claim(ledger, one, "other")[0] is ClaimResult.BUSY


def test_only_the_owner_settles(ledger, one):
    claim(ledger, one)
    assert not settle(ledger, one, State.ACCEPTED, "other")
    assert ledger.read(one.kind, one.reference).state is State.SENDING
    assert settle(ledger, one, State.ACCEPTED)


def test_late_proof_of_the_owner_lifts_unknown_to_accepted_and_to_nothing_else(ledger, one, clock):
    claim(ledger, one)
    clock.advance(LEASE + 1)
    claim(ledger, one, "other")
    assert not settle(ledger, one, State.RETRY)
    assert not settle(ledger, one, State.ACCEPTED, "other")
    assert settle(ledger, one, State.ACCEPTED, kiva={"loan_draft_uuid": "u"})
    assert ledger.read(one.kind, one.reference).outcome.kiva == {"loan_draft_uuid": "u"}


def test_a_settlement_written_twice_is_written_once(ledger, one):
    claim(ledger, one)
    settle(ledger, one, State.ACCEPTED)
    assert settle(ledger, one, State.ACCEPTED)
    assert not settle(ledger, one, State.REJECTED)


def test_an_expired_claim_that_was_settled_meanwhile_stays_settled(ledger, one, clock):
    claim(ledger, one)
    row = ledger.read(one.kind, one.reference)
    settle(ledger, one, State.ACCEPTED)
    clock.advance(LEASE + 1)
    assert ledger.expire_claim(row).state is State.ACCEPTED


def test_a_claim_that_ran_out_keeps_the_call_it_was_for(ledger, one, clock):
    ledger.claim([one], "me", clock() + LEASE, {one.reference: "call-1"})
    clock.advance(LEASE + 1)
    _, row = claim(ledger, one, "other")
    assert (row.state, row.outcome.call_id) == (State.UNKNOWN, "call-1")


# --- what nobody can tell -----------------------------------------------------------------------------------------


@pytest.fixture
def unknown(ledger, one, clock):
    """A submission that was sent, of which nobody knows whether Kiva has it; its lease is over."""
    claim(ledger, one)
    settle(ledger, one, State.UNKNOWN, call_id="call-1")
    clock.advance(LEASE + 1)
    return ledger.read(one.kind, one.reference)


DECISION = {"decision": "abandon", "reason": "the loan was cancelled", "by": "wanjiku", "at": "2026-11-24T10:00:00"}


def test_it_is_kept_while_it_is_unknown_and_only_then(ledger, one, unknown):
    ledger.keep([(one, "unknown/1")])
    assert ledger.read(one.kind, one.reference).payload == "unknown/1"
    ledger.resolve([(unknown, Outcome(State.ACCEPTED))])
    assert ledger.read(one.kind, one.reference).payload == ""
    ledger.keep([(one, "unknown/1")])
    assert ledger.read(one.kind, one.reference).payload == ""


def test_a_decision_is_remembered_with_who_and_why_and_earlier_ones_stay(ledger, one, unknown):
    again = {**DECISION, "decision": "send-again"}
    assert ledger.resolve([(unknown, Outcome(State.RETRY))], decision=again) == [True]
    claim(ledger, one, "other")
    settle(ledger, one, State.UNKNOWN, "other")
    row = ledger.read(one.kind, one.reference)
    assert ledger.resolve([(row, Outcome(State.ABANDONED))], decision=DECISION) == [True]
    assert ledger.read(one.kind, one.reference).decisions == (again, DECISION)


@pytest.mark.parametrize("state", [State.ACCEPTED, State.RETRY, State.ABANDONED])
def test_what_has_its_outcome_by_now_is_not_decided(ledger, unknown, state):
    assert ledger.resolve([(unknown, Outcome(state))]) == [True]
    assert ledger.resolve([(unknown, Outcome(State.ACCEPTED))], decision=DECISION) == [False]
    assert ledger.read(unknown.kind, unknown.reference).decisions == ()


def test_a_row_that_was_sent_again_meanwhile_is_not_decided_by_what_was_known_before(ledger, one, unknown):
    ledger.resolve([(unknown, Outcome(State.RETRY))])
    claim(ledger, one, "other")
    settle(ledger, one, State.UNKNOWN, "other")
    assert ledger.resolve([(unknown, Outcome(State.RETRY))]) == [False]


def test_a_row_whose_lease_still_runs_is_left_alone(ledger, unknown, clock):
    assert ledger.resolve([(unknown, Outcome(State.RETRY))], claimed_until=unknown.lease_until - 1) == [False]
    assert ledger.resolve([(unknown, Outcome(State.RETRY))], claimed_until=unknown.lease_until) == [True]


def test_what_is_to_be_sent_again_waits_for_its_message_until_somebody_claims_it(ledger, one, unknown):
    ledger.resolve([(unknown, Outcome(State.RETRY))])
    row = ledger.read(one.kind, one.reference)
    assert row.requeue
    ledger.requeued(row)
    assert not ledger.read(one.kind, one.reference).requeue
    assert claim(ledger, one, "other")[0] is ClaimResult.CLAIMED


def test_a_claim_ends_the_waiting_for_a_message(ledger, one, unknown):
    ledger.resolve([(unknown, Outcome(State.RETRY))])
    claim(ledger, one, "other")
    settle(ledger, one, State.RETRY, "other")
    assert not ledger.read(one.kind, one.reference).requeue


# --- what no message brings to Kiva any more ----------------------------------------------------------------------


def wait_in(ledger, submission, state):
    """Let it wait for its message."""
    if state is State.QUEUED:
        ledger.enqueue([submission])
    else:
        claim(ledger, submission)
        settle(ledger, submission, state, reason="Kiva answered HTTP 429")
    return ledger.read(submission.kind, submission.reference)


@pytest.fixture(params=[State.QUEUED, State.RETRY])
def waiting(request, ledger, one):
    return wait_in(ledger, one, request.param)


@pytest.fixture
def stuck(ledger, waiting):
    ledger.mark_stuck([(waiting, "its message is a dead letter")])
    return ledger.read(waiting.kind, waiting.reference)


def test_what_needs_its_message_is_stuck_without_it_and_says_why(stuck):
    assert (stuck.state, stuck.outcome.reason) == (State.STUCK, "its message is a dead letter")
    assert not stuck.state.is_final


def test_only_what_became_stuck_just_now_is_given_back(ledger, waiting):
    assert [row.reference for row in ledger.mark_stuck([(waiting, "why")])] == [waiting.reference]
    assert ledger.mark_stuck([(waiting, "why")]) == []
    assert ledger.mark_stuck([]) == []


@pytest.mark.parametrize("state", [State.ACCEPTED, State.REJECTED, State.UNKNOWN, State.ABANDONED, None])
def test_what_was_sent_meanwhile_is_not_stuck(ledger, one, waiting, state):
    claim(ledger, one)
    if state:
        settle(ledger, one, state)
    assert ledger.mark_stuck([(waiting, "why")]) == []
    assert ledger.read(one.kind, one.reference).state is (state or State.SENDING)


def test_what_was_not_processed_once_more_meanwhile_waits_on(ledger, one, waiting, clock):
    clock.advance(1)
    wait_in(ledger, one, State.RETRY)
    assert ledger.mark_stuck([(waiting, "why")]) == []
    assert ledger.read(one.kind, one.reference).state is State.RETRY


def test_what_was_decided_to_be_sent_again_needs_no_message_of_its_own(ledger, one, unknown):
    ledger.resolve([(unknown, Outcome(State.RETRY))])
    decided = ledger.read(one.kind, one.reference)
    assert not decided.needs_its_message
    ledger.requeued(decided)
    assert ledger.read(one.kind, one.reference).needs_its_message


def test_a_message_that_comes_after_all_claims_what_is_stuck(ledger, one, stuck):
    assert claim(ledger, one)[0] is ClaimResult.CLAIMED
    row = ledger.read(one.kind, one.reference)
    assert (row.state, row.attempts, row.outcome) == (State.SENDING, stuck.attempts + 1, None)


def test_what_is_stuck_is_queued_again_and_keeps_what_was_known_of_it(ledger, one, stuck):
    ledger.enqueue([one])
    row = ledger.read(one.kind, one.reference)
    assert (row.state, row.outcome) == (State.QUEUED, None)
    assert (row.attempts, row.created_at) == (stuck.attempts, stuck.created_at)


def test_other_content_under_a_reference_that_is_stuck_is_a_conflict(ledger, rules, one, stuck):
    other = draft(rules, amount=11)
    assert claim(ledger, other)[0] is ClaimResult.CONFLICT
    ledger.enqueue([other])
    assert ledger.read(one.kind, one.reference).fingerprint == one.fingerprint


def test_abandoning_what_is_stuck_frees_its_reference_and_not_its_content(ledger, rules, one, stuck):
    assert ledger.resolve([(stuck, Outcome(State.ABANDONED))], decision=DECISION) == [True]
    assert claim(ledger, one)[0] is ClaimResult.STANDS
    assert claim(ledger, draft(rules, amount=11))[0] is ClaimResult.CLAIMED
    assert claim(ledger, one, "other")[0] is ClaimResult.CONFLICT


def test_what_was_claimed_meanwhile_is_not_abandoned(ledger, one, stuck):
    claim(ledger, one)
    assert ledger.resolve([(stuck, Outcome(State.ABANDONED))], decision=DECISION) == [False]


def test_a_list_ends_before_a_moment_if_one_is_given(ledger, rules, clock):
    for loan in ("L-1", "L-2", "L-3"):
        ledger.enqueue([draft(rules, loan)])
        clock.advance(10)
    first = ledger.read(Kind.LOAN_DRAFT, "L-1")

    def before(seconds):
        page = ledger.list_by_state(first.kind, State.QUEUED, before=clock() - seconds)
        return [row.reference for row in page.rows]

    assert [before(30), before(29), before(15), before(0)] == [[], ["L-1"], ["L-2", "L-1"], ["L-3", "L-2", "L-1"]]


# --- DynamoDB without an answer -----------------------------------------------------------------------------------


class Unclear:
    """DynamoDB whose transactions may be done, but whose answers to them never come."""

    def __init__(self, table, *, done=True):
        self._table = table
        self.done = done
        self.unreachable = False

    def __getattr__(self, name):
        return getattr(self._table, name)

    def transact_write_items(self, **call):
        if self.done:
            self._table.transact_write_items(**call)
        raise ReadTimeoutError(endpoint_url="dynamodb")

    def batch_get_item(self, **call):
        if self.unreachable:
            raise ReadTimeoutError(endpoint_url="dynamodb")
        return self._table.batch_get_item(**call)


@pytest.fixture
def unclear(table):
    return Unclear(table)


@pytest.fixture
def deaf(unclear, clock):
    return Ledger(lambda: unclear, "ledger", "stage#9001", clock=clock, sleep=clock.sleep)


def test_a_claim_without_an_answer_is_read_back_and_is_ours_if_it_is_there(deaf, one):
    assert claim(deaf, one) == (ClaimResult.CLAIMED, None)


def test_a_claim_that_is_not_there_is_not_ours_even_if_it_may_still_come(deaf, unclear, one):
    unclear.done = False
    with pytest.raises(ReadTimeoutError):
        claim(deaf, one)


def test_where_not_even_reading_works_nothing_is_ours(deaf, unclear, one):
    unclear.unreachable = True
    with pytest.raises(ReadTimeoutError):
        claim(deaf, one)


def test_of_an_unclear_claim_everything_that_is_not_ours_keeps_its_meaning(deaf, unclear, ledger, rules, monkeypatch):
    mine, busy, waits, settled, other, absent, free = (draft(rules, loan) for loan in "abcdefg")
    for submission in (busy, settled, other, waits, free):
        claim(ledger, submission, "somebody")
    settle(ledger, settled, State.ACCEPTED, "somebody")
    settle(ledger, waits, State.RETRY, "somebody")
    settle(ledger, free, State.REJECTED, "somebody")
    claim(ledger, mine)
    unclear.done = False
    asked = [mine, busy, waits, settled, draft(rules, "e", amount=11), absent, draft(rules, "g", amount=11)]
    results = deaf.claim(asked, "me", 10**10)
    assert [result for result, _ in results.values()] == [
        ClaimResult.CLAIMED,
        ClaimResult.BUSY,
        ClaimResult.UNCLEAR,
        ClaimResult.STANDS,
        ClaimResult.CONFLICT,
        ClaimResult.UNCLEAR,
        ClaimResult.UNCLEAR,
    ]


# --- keeping rows -------------------------------------------------------------------------------------------------


def test_no_open_row_ever_expires_and_settled_ones_do(ledger, rules, table):
    states = [State.ACCEPTED, State.REJECTED, State.RETRY, State.UNKNOWN, State.ABANDONED]
    submissions = [draft(rules, f"L-{state}") for state in states]
    for submission, state in zip(submissions, states, strict=True):
        claim(ledger, submission)
        settle(ledger, submission, state)
    claim(ledger, draft(rules, "L-SENDING"))
    ledger.enqueue([draft(rules, "L-QUEUED"), draft(rules, "L-STUCK")])
    ledger.mark_stuck([(ledger.read(Kind.LOAN_DRAFT, "L-STUCK"), "why")])
    expiring = {item["state"]["S"] for item in table.scan(TableName="ledger")["Items"] if "expires_at" in item}
    assert expiring == {"ACCEPTED", "REJECTED", "ABANDONED"}


def test_a_reference_used_again_loses_its_expiry(ledger, rules, one, table):
    claim(ledger, one)
    settle(ledger, one, State.REJECTED)
    claim(ledger, draft(rules, amount=11))
    assert "expires_at" not in table.scan(TableName="ledger")["Items"][0]


@pytest.mark.parametrize("end", [State.REJECTED, State.ABANDONED])
def test_what_was_refused_or_abandoned_never_comes_back_whatever_its_reference_was_used_for_since(
    ledger, rules, one, end
):
    other, third = draft(rules, amount=11), draft(rules, amount=12)
    for content in (one, other):
        claim(ledger, content)
        if end is State.REJECTED:
            settle(ledger, content, end)
        else:
            settle(ledger, content, State.UNKNOWN)
            ledger.resolve([(ledger.read(one.kind, one.reference), Outcome(end))])
    assert claim(ledger, one, "late copy")[0] is ClaimResult.CONFLICT
    ledger.enqueue([one])
    assert ledger.read(one.kind, one.reference).state is end
    assert claim(ledger, other, "late copy")[0] is ClaimResult.STANDS
    assert claim(ledger, third)[0] is ClaimResult.CLAIMED


def test_a_reference_used_again_knows_nothing_of_the_content_before(ledger, rules, one):
    finding = Violation("$.schedule", "its principal must add up to the amount of the entreps")
    shown = replace(draft(rules, schedule=[{"date": "2027-01-01", "principal": 1}]), warnings=(finding,))
    claim(ledger, shown)
    assert ledger.read(one.kind, one.reference).warnings == (str(finding),)
    settle(ledger, shown, State.REJECTED)
    claim(ledger, one)
    assert ledger.read(one.kind, one.reference).warnings == ()


def test_rows_hold_no_names_texts_or_amounts_of_a_draft(ledger, one, table):
    claim(ledger, one)
    settle(ledger, one, State.ACCEPTED)
    assert "Akinyi" not in json.dumps(table.scan(TableName="ledger")["Items"])


# --- many at a time ---------------------------------------------------------------------------------------------------


class Counting:
    """The real client, counting transactions: calls are what this ledger is meant to save."""

    def __init__(self, client):
        self._client = client
        self.transactions = 0
        self.failures = []

    def transact_write_items(self, **arguments):
        self.transactions += 1
        if self.failures:
            raise self.failures.pop(0)
        return self._client.transact_write_items(**arguments)

    def __getattr__(self, name):
        return getattr(self._client, name)


@pytest.fixture
def counting(table):
    return Counting(table)


@pytest.fixture
def counted(counting, clock):
    return Ledger(lambda: counting, "ledger", "stage#9001", clock=clock, sleep=clock.sleep)


class OneIsSlow:
    """The first transaction fails at once, the second is done only after a while."""

    def __init__(self, client):
        self._client = client
        self._turn = count(1)
        self.ended = Event()

    def transact_write_items(self, **arguments):
        if next(self._turn) == 1:
            raise ReadTimeoutError(endpoint_url="dynamodb")
        self.ended.wait(0.2)
        answer = self._client.transact_write_items(**arguments)
        self.ended.set()
        return answer

    def __getattr__(self, name):
        return getattr(self._client, name)


def test_nobody_hears_of_an_error_before_all_have_ended(table, clock, rules):
    slow = OneIsSlow(table)
    ledger = Ledger(lambda: slow, "ledger", "stage#9001", clock=clock, sleep=clock.sleep)
    results = ledger.claim(repayments(rules, *map(str, range(150))), "me", clock() + LEASE)
    assert slow.ended.is_set()
    claimed = [result for result, _ in results.values()].count(ClaimResult.CLAIMED)
    assert claimed in (50, 100)  # whichever of the two came second is read back as ours


def test_two_hundred_claims_are_two_transactions(counted, counting, rules):
    submissions = repayments(rules, *(f"L-{number}" for number in range(200)))
    results = counted.claim(submissions, "me", 10**10)
    assert {result for result, _ in results.values()} == {ClaimResult.CLAIMED}
    assert counting.transactions == 2
    assert None not in counted.settle([(each, Outcome(State.ACCEPTED)) for each in submissions], "me")
    assert counting.transactions == 4


def test_rows_in_the_way_are_taken_out_and_the_others_claimed(counted, counting, rules):
    submissions = repayments(rules, *(f"L-{number}" for number in range(50)))
    counted.claim(submissions[::10], "other", 10**10)
    counting.transactions = 0
    results = counted.claim(submissions, "me", 10**10)
    assert [results[each.reference][0] for each in submissions[::10]] == [ClaimResult.BUSY] * 5
    assert sum(result is ClaimResult.CLAIMED for result, _ in results.values()) == 45
    assert counting.transactions == 2


def cancelled(code, number):
    response = {
        "Error": {"Code": "TransactionCanceledException", "Message": ""},
        "CancellationReasons": [{"Code": code}] * number,
    }
    return boto3.client("dynamodb").exceptions.TransactionCanceledException(response, "TransactWriteItems")


def test_a_collision_with_another_transaction_is_tried_again(counted, counting, one):
    counting.failures = [cancelled("TransactionConflict", 1), cancelled("ThrottlingError", 1)]
    assert claim(counted, one)[0] is ClaimResult.CLAIMED


def test_collisions_without_end_are_given_up(counted, counting, one):
    counting.failures = [cancelled("TransactionConflict", 1)] * 20
    with pytest.raises(TimeoutError):
        claim(counted, one)
    assert counted.read(one.kind, one.reference) is None


def test_a_table_that_refuses_claims_nothing(counted, counting, one):
    counting.failures = [ClientError({"Error": {"Code": "AccessDeniedException"}}, "TransactWriteItems")]
    with pytest.raises(ClientError):
        claim(counted, one)


# --- reading ----------------------------------------------------------------------------------------------------------


def test_stages_and_partners_do_not_see_each_other(ledger, table, one, clock):
    claim(ledger, one)
    for scope in ("production#9001", "stage#63"):
        other = Ledger(lambda: table, "ledger", scope, clock=clock)
        assert other.read(one.kind, one.reference) is None
        assert other.list_by_state(one.kind, State.SENDING).rows == []
        assert other.list_by_loan(one.loan_id).rows == []


def test_many_are_read_at_once_and_missing_ones_left_out(ledger, rules):
    submissions = repayments(rules, *(f"L-{number}" for number in range(150)))
    ledger.enqueue(submissions)
    references = [each.reference for each in submissions]
    assert set(ledger.read_all(Kind.REPAYMENT, [*references, "none"])) == set(references)


class Shuffling(Counting):
    """The real client, but BatchGetItem answers in another order than it was asked, as AWS's may; moto's never does."""

    def batch_get_item(self, **arguments):
        answer = self._client.batch_get_item(**arguments)
        return {**answer, "Responses": {name: items[::-1] for name, items in answer["Responses"].items()}}


def test_many_come_in_the_order_in_which_they_were_asked_for(table, clock, rules):
    shuffling = Ledger(lambda: Shuffling(table), "ledger", "stage#9001", clock=clock)
    submissions = repayments(rules, *"bac")
    shuffling.enqueue(submissions)
    references = [each.reference for each in submissions]
    assert list(shuffling.read_all(Kind.REPAYMENT, references)) == references


def test_a_list_comes_in_pages_the_latest_first(ledger, rules, clock):
    for number in range(5):
        ledger.enqueue([draft(rules, f"L-{number}")])
        clock.advance(1)
    first = ledger.list_by_state(Kind.LOAN_DRAFT, State.QUEUED, limit=3)
    second = ledger.list_by_state(Kind.LOAN_DRAFT, State.QUEUED, limit=3, cursor=first.cursor)
    assert [row.reference for row in first.rows + second.rows] == ["L-4", "L-3", "L-2", "L-1", "L-0"]
    assert second.cursor is None


@pytest.mark.parametrize("cursor", ["x", "e30", "bnVsbA==", "W10="])
def test_a_made_up_cursor_is_refused(ledger, cursor):
    with pytest.raises(InvalidMessage):
        ledger.list_by_state(Kind.LOAN_DRAFT, State.QUEUED, cursor=cursor)


def test_all_submissions_of_a_loan_are_found(ledger, rules, clock):
    ledger.enqueue(repayments(rules, "L#1", amount=1))
    clock.advance(1)
    ledger.enqueue(repayments(rules, "L#1", amount=2))
    ledger.enqueue([draft(rules, "L#1")])
    found = ledger.list_by_loan("L#1").rows
    assert {row.loan_id for row in found} == {"L#1"}
    assert sorted(row.kind for row in found) == ["loan_draft", "repayment", "repayment"]


def test_a_receipt_names_the_submissions_of_a_message(ledger, rules):
    body = {"reference": "R7", "repayments": [{"loan_id": loan, "client_id": "C", "amount": 1} for loan in "ab"]}
    message = parse(Kind.REPAYMENT, json.dumps(body), rules)
    ledger.write_receipt(message)
    assert ledger.read_receipt(Kind.REPAYMENT, "R7") == ["R7:a", "R7:b"]
    assert ledger.read_receipt(Kind.JOURNAL_UPDATE, "R7") == []


# --- proofs -------------------------------------------------------------------------------------------------------

UUID = {"loan_draft_uuid": "7D0C9A52-1b7e-4f0e-8f39-5a8e4f3c2b61"}


def accepted(call_id, kiva=UUID):
    return Outcome(State.ACCEPTED, kiva=kiva, call_id=call_id)


def test_a_proof_is_claimed_together_with_the_row_that_it_proves(ledger, rules):
    first, second = draft(rules, "L-1"), draft(rules, "L-2")
    ledger.claim([first, second], "me", 10**10)
    assert ledger.settle([(first, accepted("call-1"))], "me") == [accepted("call-1")]
    (written,) = ledger.settle(
        [(second, accepted("call-2", {"loan_draft_uuid": UUID["loan_draft_uuid"].lower()}))], "me"
    )
    assert written.state is ledger.read(second.kind, "L-2").state is State.UNKNOWN
    assert ledger.read(first.kind, "L-1").state is State.ACCEPTED


def test_a_settlement_with_its_proof_may_be_written_twice(ledger, one):
    claim(ledger, one)
    for _ in range(2):
        assert ledger.settle([(one, accepted("call-1"))], "me") == [accepted("call-1")]


def test_a_proof_is_not_claimed_for_a_row_that_is_not_settled(ledger, rules, one):
    claim(ledger, one, "other")
    assert ledger.settle([(one, accepted("call-1"))], "me") == [None]
    second = draft(rules, "L-2")
    claim(ledger, second)
    assert ledger.settle([(second, accepted("call-2"))], "me") == [accepted("call-2")]


def test_what_a_part_of_a_call_has_proved_the_call_may_say_too_and_no_other(ledger, one):
    """A list that was halved, and whose sender ended before it could write down what the halves came to."""
    claim(ledger, one)
    ledger.settle([(one, accepted("call-1.1"))], "me")
    assert ledger.claim_proofs(one.kind, accepted("call-1"), "call-1")
    assert not ledger.claim_proofs(one.kind, accepted("call-11"), "call-11")
    assert not ledger.claim_proofs(one.kind, accepted("call-2"), "call-2")


def test_a_loan_that_was_made_of_a_draft_proves_no_second_draft(ledger, one):
    claim(ledger, one)
    ledger.settle([(one, accepted("call-1"))], "me")
    found = accepted("", {"kiva_id": "7", "loan_uuid": UUID["loan_draft_uuid"]})
    assert not ledger.claim_proofs(one.kind, found, "call-2")


def test_what_is_unknown_claims_no_proof(ledger, one):
    claim(ledger, one)
    ledger.settle([(one, Outcome(State.UNKNOWN, kiva=UUID, call_id="call-1"))], "me")
    assert ledger.claim_proofs(one.kind, accepted("call-2"), "call-2")


# --- reopening ----------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(ledger, one):
    claim(ledger, one)
    settle(ledger, one, State.REJECTED)
    return ledger.read(one.kind, one.reference)


def test_what_was_refused_goes_once_more_after_it_was_reopened_and_only_then(ledger, one, refused):
    assert claim(ledger, one)[0] is ClaimResult.STANDS
    assert ledger.reopen([refused], DECISION) == [True]
    row = ledger.read(one.kind, one.reference)
    assert (row.state, row.reopened, row.decisions) == (State.REJECTED, True, (DECISION,))
    assert claim(ledger, one)[0] is ClaimResult.CLAIMED
    settle(ledger, one, State.REJECTED)
    assert not ledger.read(one.kind, one.reference).reopened
    assert claim(ledger, one)[0] is ClaimResult.STANDS


def test_what_was_reopened_can_be_queued(ledger, one, refused):
    ledger.reopen([refused], DECISION)
    ledger.enqueue([one])
    row = ledger.read(one.kind, one.reference)
    assert (row.state, row.reopened, row.outcome) == (State.QUEUED, False, None)


def test_reopening_frees_the_one_content_that_was_refused_last(ledger, rules, one, refused):
    other = draft(rules, amount=11)
    claim(ledger, other)
    settle(ledger, other, State.REJECTED)
    assert ledger.reopen([refused], DECISION) == [False]
    ledger.reopen([ledger.read(one.kind, one.reference)], DECISION)
    assert claim(ledger, one)[0] is ClaimResult.CONFLICT
    assert claim(ledger, other)[0] is ClaimResult.CLAIMED


@pytest.mark.parametrize("loans", [("a", "b"), ("a",)], ids=len)
def test_a_receipt_is_written_once_however_often_it_is_asked_for(ledger, table, rules, loans):
    rows = [{"loan_id": loan, "client_id": "C", "amount": 1} for loan in loans]
    message = parse(Kind.REPAYMENT, json.dumps({"reference": "R7", "repayments": rows}), rules)
    assert not ledger.has_noted(message)
    ledger.enqueue(message.submissions)
    assert not ledger.has_noted(message)
    ledger.write_receipt(message)
    assert ledger.has_noted(message)
    items = table.scan(TableName="ledger")["Items"]
    ledger.write_receipt(message)
    assert table.scan(TableName="ledger")["Items"] == items


def test_a_message_of_one_that_shares_its_reference_needs_no_receipt(ledger, table, rules):
    message = parse(
        Kind.REPAYMENT,
        json.dumps({"period": "2026-10", "repayments": [{"loan_id": "L", "client_id": "C", "amount": 1}]}),
        rules,
    )
    assert not ledger.has_noted(message)
    ledger.write_receipt(message)
    assert table.scan(TableName="ledger")["Items"] == []
    ledger.note(message)
    assert ledger.has_noted(message)


def test_a_receipt_of_any_length_is_cut_to_items_that_dynamodb_takes(ledger, table, rules):
    rows = [
        {"loan_id": "😀" * 62 + f"{n:02}", "client_id": "C", "amount": 1, "payment_id": "p" * 100} for n in range(99)
    ]
    message = parse(Kind.REPAYMENT, json.dumps({"reference": "r" * 100, "repayments": rows}), rules)
    long = replace(
        message,
        submissions=tuple(
            replace(it, reference=it.reference + f"-{n:02}") for n in range(50) for it in message.submissions
        ),
    )
    ledger.write_receipt(long)
    assert ledger.read_receipt(Kind.REPAYMENT, "r" * 100) == [each.reference for each in long.submissions]
    pages = table.get_paginator("scan").paginate(TableName="ledger")
    sizes = [len(json.dumps(item)) for page in pages for item in page["Items"]]
    assert len(sizes) > 10
    assert max(sizes) < 400_000


def test_what_a_person_decides_was_sent_before_its_claim_ended_however_late_that_was_noticed(ledger, one, clock):
    claim(ledger, one, lease=300)
    end = clock() + 300
    clock.advance(5000)
    assert claim(ledger, one, "other")[0] is ClaimResult.EXPIRED
    row = ledger.read(one.kind, one.reference)
    ledger.resolve([(row, Outcome(State.ACCEPTED))])
    taken = datetime.fromisoformat(ledger.read(one.kind, one.reference).taken_at).timestamp()
    assert taken == pytest.approx(end, abs=1)


def test_two_who_link_the_same_amounts_do_not_overwrite_each_other(ledger, rules, clock):
    first, second, third = (repayments(rules, "L-1", amount=amount)[0] for amount in (1, 2, 3))
    for each in (first, second, third):
        clock.advance(1)
        claim(ledger, each)
        settle(ledger, each, State.ACCEPTED)
    rows = [ledger.read(each.kind, each.reference) for each in (first, second, third)]
    assert ledger.link(rows[0], rows[1])
    assert not ledger.link(rows[0], rows[2]), "rows[0] was read before it was linked"
    assert ledger.read(first.kind, first.reference).replaced_by == second.reference
    linked = ledger.read(first.kind, first.reference)
    assert ledger.link(linked, ledger.read(second.kind, second.reference))
    assert ledger.link(linked, ledger.read(third.kind, third.reference))
