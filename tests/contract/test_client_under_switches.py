"""The client against the imitation of Kiva under every switch and every fault of it, set at run time.

What Kiva is not known to do in one way alone must make no difference to us, or only the difference that is told here;
and what the client says of a call must be true of what the imitation has afterwards.
"""

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, get_args

import pytest
import time_machine

from faults.poller import EventSource
from handlers import Console
from images import data_uri, png
from kiva_partner import client, runtime
from kiva_partner.errors import KivaUnavailable, Misconfigured, NotSent, OutcomeUnknown, Rejected, SubmissionError
from kiva_partner.tokens import SCOPES
from kiva_sandbox.data import CONFIG, Partner
from kiva_sandbox.switches import Call, Switches

from .conftest import LOANS

CALLS = get_args(Call)
FAULT_SWITCHES = {"fault", "retry_after", "latency", "fault_on", "fault_times"}


def values(name):
    """What a switch can be, where that can be counted."""
    return get_args(Switches.model_fields[name].annotation)


ALTERNATIVES = [
    (name, value)
    for name, switch in Switches.model_fields.items()
    if name not in FAULT_SWITCHES
    for value in values(name)
    if value != switch.default
]


def draft(loan="L-1", **changes):
    """One that PA2 would publish today."""
    today = datetime.now(UTC).date()
    later = [(today + timedelta(days)).isoformat() for days in (10, 40, 70)]
    borrower = {
        "client_id": "C-1",
        "loan_id": loan,
        "first_name": "Akinyi",
        "last_name": "Odhiambo",
        "gender": "female",
    }
    return {
        "activity_id": 61,
        "theme_type_id": 48,
        "description_language_id": 1,
        "location": "Kisumu: Kenya",
        "currency": "KES",
        "loanuse": "to restock her stall.",
        "description": "Akinyi has run a food stall for six years.",
        "client_waiver_signed": True,
        "disburse_time": later[0],
        "entreps": [{**borrower, "amount": 600}],
        "schedule": [{"date": day, "principal": 300} for day in later[1:]],
        "image_encoded": data_uri(png()),
        **changes,
    }


JOURNALS = [{"internal_loan_id": "L-70001-1", "internal_client_id": "C-18001", "subject": "S", "body": "B"}]


def row(number, amount=100, letter=""):
    """A repayment of a loan of the imitation's, or of a member of a group."""
    suffix = f"-{letter}" if letter else ""
    return {"loan_id": f"L-{70_000 + number}-1{suffix}", "client_id": f"C-{18_000 + number}{suffix}", "amount": amount}


@dataclass(frozen=True)
class World:
    """The imitation with some switches set otherwise, and our client."""

    kiva: Any
    stack: Any
    another_kiva: Any
    switches: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def session(self):
        with runtime.client().session(lambda: 290.0) as session:
            yield session

    @contextmanager
    def partner(self, *scopes):
        """The same for a partner that Kiva has authorised for these scopes alone."""
        partner = Partner(scopes=scopes)
        with self.another_kiva(partner) as kiva:
            kiva.switch(**self.switches)
            self.stack.lead_to(kiva, partner)
            with self.session() as session:
                yield kiva, session


@pytest.fixture
def world(kiva, stack, another_kiva):
    def make(**switches):
        kiva.switch(**switches)
        return World(kiva, stack, another_kiva, switches)

    return make


# --- what is expected of every Kiva -----------------------------------------------------------------------------------


def one_token_grants_every_scope(world):
    with world.session() as session:
        for scope in SCOPES:
            session.obtain_token(scope)
    assert len(world.kiva.token_requests) == 1


def a_draft_gets_its_uuid(world):
    with world.session() as session:
        answer = session.post_loan_draft(draft())
    (kept,) = world.kiva.has("drafts")
    assert kept["loan_draft_uuid"] == answer.kiva[0]["loan_draft_uuid"]
    assert kept["pa2_messages"] == []


def a_draft_sent_twice_is_two_drafts(world):
    with world.session() as session:
        answers = {session.post_loan_draft(draft()).kiva[0]["loan_draft_uuid"] for _ in range(2)}
    assert {kept["loan_draft_uuid"] for kept in world.kiva.has("drafts")} == answers
    assert len(answers) == 2


def a_draft_sent_twice_leaves_a_doubt(world):
    """Which of the two reasons for a 409 it is, nobody documents: that it is there, or that it is in the way."""
    with world.session() as session:
        session.post_loan_draft(draft())
        with pytest.raises(OutcomeUnknown) as raised:
            session.post_loan_draft(draft())
    assert raised.value.status == 409
    assert len(world.kiva.has("drafts")) == 1


def a_draft_that_pa2_would_not_publish_is_taken(world):
    with world.session() as session:
        session.post_loan_draft(draft(location="Atlantis: Sea"))
    assert [len(kept["pa2_messages"]) for kept in world.kiva.has("drafts")] == [1]


def a_draft_that_pa2_would_not_publish_is_rejected(world):
    with world.session() as session, pytest.raises(Rejected) as raised:
        session.post_loan_draft(draft(location="Atlantis: Sea"))
    assert raised.value.status == 400
    assert raised.value.text.startswith("location is not defined")
    assert world.kiva.has("drafts") == []


def journals_get_an_archive_and_an_address_that_may_be_shown(world):
    with world.session() as session:
        (archive,) = session.post_journals(JOURNALS).kiva
    assert [(it["archive_id"], it["journal"]) for it in world.kiva.has("journals")] == [
        (archive["archive_id"], JOURNALS[0])
    ]
    assert archive["confirm_url"] == f"{world.kiva.url}/pa2/journals/confirm/{archive['archive_id']}"


def repayments_get_an_upload_and_what_is_wrong_with_its_rows(world):
    with world.session() as session:
        session.post_repayments([row(1, 200)])
        answer = session.post_repayments([row(1, 100), row(3), row(LOANS + 1)])
    _, upload = world.kiva.has("uploads")
    assert answer.kiva == [{"upload_id": str(upload["upload_id"])}] * 3
    below, nothing, unknown = answer.findings.of_rows
    assert [(it.severity, it.code) for it in below] == [("warning", "repayment.amount_below_expected")]
    assert nothing == []
    assert [(it.severity, it.code) for it in unknown] == [("error", "repayment.loan_not_found")]
    assert all(it.details for it in (*below, *unknown))


def a_report_that_is_too_long_is_warned_of(world):
    with world.session() as session:
        answer = session.post_repayments([row(number) for number in range(1, 302)])
    assert ("", "warning", "repayment.too_many_rows") in {
        (it.loan_id, it.severity, it.code) for it in answer.findings.of_call
    }
    assert len(world.kiva.has("uploads")) == 1


def a_report_that_is_too_long_is_rejected(world):
    with world.session() as session:
        with pytest.raises(Rejected) as raised:
            session.post_repayments([row(number) for number in range(1, 302)])
        session.post_repayments([row(number) for number in range(1, 301)])
    assert raised.value.status == 400
    assert [len(upload["rows"]) for upload in world.kiva.has("uploads")] == [300]


def _problems_of_a_group(world):
    with world.session() as session:
        answer = session.post_repayments([row(10), row(10, letter="A"), row(10, letter="B")])
    return {(it.loan_id, it.severity) for of_row in answer.findings.of_rows for it in of_row}


def a_group_repays_under_its_own_id(world):
    assert _problems_of_a_group(world) == {(row(10, letter=letter)["loan_id"], "error") for letter in "AB"}


def a_group_repays_under_its_members_ids(world):
    assert _problems_of_a_group(world) == {(row(10)["loan_id"], "error")}


def every_loan_comes_once_page_by_page_in_the_names_of_the_wire(world):
    with world.session() as session, pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "MAX_LOANS_PER_PAGE", 30)
        loans = list(session.all_loans())
    assert [loan["kiva_id"] for loan in loans] == [loan["kiva_id"] for loan in world.kiva.has("loans")]
    assert len(world.kiva.calls) == 4
    assert {(loan["partner_id"], type(loan["loan_price"]), type(loan["create_time"])) for loan in loans} == {
        ("9001", str, int)
    }


def the_lists_come_in_the_names_of_the_wire(world):
    with world.session() as session:
        for name, rows in CONFIG.items():
            answer = session.config(name)
            assert answer[name] == rows
            assert datetime.fromisoformat(answer["as_of_date_time"])


def a_token_that_has_expired_is_renewed_once_and_the_call_succeeds(world):
    with time_machine.travel(time.time()) as now, world.session() as session:
        session.obtain_token("read:loans")
        now.shift(3600)
        world.kiva.clock.ahead = timedelta(hours=13)
        session.post_loan_draft(draft(disburse_time=str(datetime.now(UTC).date())))
    assert (len(world.kiva.token_requests), len(world.kiva.calls)) == (2, 2)
    assert len({each.headers["authorization"] for each in world.kiva.calls}) == 2
    assert len(world.kiva.has("drafts")) == 1


def a_scope_that_is_not_granted_is_a_misconfiguration_and_costs_no_call(world):
    with world.partner("read:loans") as (kiva, session):
        assert session.loans().total_records == LOANS
        for post in (session.post_loan_draft, session.post_journals, session.post_repayments):
            with pytest.raises(Misconfigured, match="does not grant create:"):
                post({})
        assert [each.method for each in kiva.calls] == ["GET"]


def a_partner_with_three_scopes_does_all_but_what_needs_the_fourth(world):
    with world.partner("read:loans", "create:loan_draft", "create:repayment") as (kiva, session):
        session.post_loan_draft(draft())
        session.post_repayments([row(1)])
        assert session.loans().total_records == LOANS
        with pytest.raises(Misconfigured, match="does not grant create:journal_update"):
            session.post_journals(JOURNALS)
        assert len({each.headers["authorization"] for each in kiva.calls}) == 1
        assert len(kiva.calls) == 3
        # A second renewal knows what the first has found out.
        runtime.tokens().discard(runtime.tokens().get("read:loans"))
        asked = len(kiva.token_requests)
        with time_machine.travel(time.time() + 3600):
            session.loans()
        assert len(kiva.token_requests) == asked + 1


def no_scope_at_all_is_no_token(world):
    with world.partner() as (kiva, session), pytest.raises(Misconfigured, match=r"none of read:loans.* invalid_scope"):
        session.loans()
    assert kiva.calls == []


def no_scope_at_all_is_a_token_for_nothing(world):
    with world.partner() as (kiva, session), pytest.raises(Misconfigured, match="it grants nothing"):
        session.loans()
    assert kiva.calls == []


def kiva_seems_to_be_there(world):
    with world.session() as session:
        assert session.answers("create:repayment")


EXPECTATIONS = [
    one_token_grants_every_scope,
    a_draft_gets_its_uuid,
    a_draft_sent_twice_is_two_drafts,
    a_draft_that_pa2_would_not_publish_is_taken,
    journals_get_an_archive_and_an_address_that_may_be_shown,
    repayments_get_an_upload_and_what_is_wrong_with_its_rows,
    a_report_that_is_too_long_is_warned_of,
    a_group_repays_under_its_own_id,
    every_loan_comes_once_page_by_page_in_the_names_of_the_wire,
    the_lists_come_in_the_names_of_the_wire,
    a_token_that_has_expired_is_renewed_once_and_the_call_succeeds,
    a_scope_that_is_not_granted_is_a_misconfiguration_and_costs_no_call,
    a_partner_with_three_scopes_does_all_but_what_needs_the_fourth,
    no_scope_at_all_is_no_token,
    kiva_seems_to_be_there,
]
OTHERWISE = {
    (a_draft_sent_twice_is_two_drafts, "duplicate_draft", 409): a_draft_sent_twice_leaves_a_doubt,
    (a_draft_that_pa2_would_not_publish_is_taken, "drafts", "strict"): a_draft_that_pa2_would_not_publish_is_rejected,
    (a_report_that_is_too_long_is_warned_of, "too_many_rows", 400): a_report_that_is_too_long_is_rejected,
    (a_group_repays_under_its_own_id, "group_repayments", "members"): a_group_repays_under_its_members_ids,
    (no_scope_at_all_is_no_token, "empty_scope", 200): no_scope_at_all_is_a_token_for_nothing,
}
"""Where a switch does make a difference to us: which expectation takes the place of which."""


@pytest.mark.parametrize("expectation", EXPECTATIONS, ids=lambda it: it.__name__)
def test_a_kiva_with_no_switch_set_is_as_expected(world, expectation):
    expectation(world())


@pytest.mark.parametrize("expectation", EXPECTATIONS, ids=lambda it: it.__name__)
@pytest.mark.parametrize(("name", "value"), ALTERNATIVES)
def test_under_every_switch_kiva_is_as_expected(world, name, value, expectation):
    OTHERWISE.get((expectation, name, value), expectation)(world(**{name: value}))


@pytest.mark.parametrize(("expectation", "name", "value"), OTHERWISE)
def test_what_is_said_to_be_otherwise_is_not_as_ever(world, expectation, name, value):
    with pytest.raises((AssertionError, SubmissionError, pytest.fail.Exception)):
        expectation(world(**{name: value}))


def test_every_switch_is_tried():
    assert {name for name, _ in ALTERNATIVES} | FAULT_SWITCHES == set(Switches.model_fields)
    assert {(name, value) for _, name, value in OTHERWISE} <= set(ALTERNATIVES)
    assert {expectation for expectation, _, _ in OTHERWISE} <= set(EXPECTATIONS)


# --- faults -----------------------------------------------------------------------------------------------------------

CALL = {
    "token": lambda session: session.obtain_token("read:loans"),
    "loan_draft": lambda session: session.post_loan_draft(draft()),
    "journals": lambda session: session.post_journals(JOURNALS),
    "repayments": lambda session: session.post_repayments([row(1), row(3)]),
    "loans": lambda session: session.loans(),
    "config": lambda session: session.config("themes"),
}
STORE = {"loan_draft": "drafts", "journals": "journals", "repayments": "uploads"}
"""Where the imitation has what a call has made; the other calls make nothing."""

FAULTS = {
    429: (KivaUnavailable, 429, 0),
    500: (OutcomeUnknown, 500, 0),
    502: (OutcomeUnknown, 502, 0),
    503: (OutcomeUnknown, 503, 0),
    504: (OutcomeUnknown, 504, 1),
    "lost": (OutcomeUnknown, None, 1),
    "not-json": (OutcomeUnknown, 200, 1),
    "truncated": (OutcomeUnknown, 200, 1),
}
"""What a POST comes to: the error, the status it names, and how much the imitation has of it. What only reads may
always be asked again, so every fault of it is NotSent; without a token nothing is sent at all, so an alarm watches."""


def stored(kiva):
    return {name: len(kiva.has(name)) for name in STORE.values()}


def nothing_but(call, count):
    return {name: count * (name == STORE.get(call)) for name in STORE.values()}


def test_every_fault_and_every_call_is_tried():
    assert set(FAULTS) | {"off", "expired"} == set(values("fault"))
    assert set(CALL) == set(CALLS)


@pytest.mark.parametrize(("fault", "call"), list(product(FAULTS, CALLS)))
def test_what_the_client_says_of_a_fault_is_true_of_what_kiva_has(world, fault, call):
    here = world(fault=fault, fault_on=call, fault_times=1)
    error, status, made = FAULTS[fault]
    with here.session() as session:
        if call != "token":
            session.obtain_token("read:loans")
        with pytest.raises((NotSent, OutcomeUnknown, Rejected, Misconfigured)) as raised:
            CALL[call](session)
        if call in STORE:
            assert type(raised.value) is error
            assert raised.value.status == status
        else:
            assert type(raised.value) is (KivaUnavailable if call == "token" else NotSent)
        assert stored(here.kiva) == nothing_but(call, made)
        assert (len(here.kiva.token_requests), len(here.kiva.calls)) == (1, call != "token")
        # The fault is over. What was surely not sent is sent again, and then it is there once.
        if call in STORE and isinstance(raised.value, NotSent):
            CALL[call](session)
            assert stored(here.kiva) == nothing_but(call, 1)


@pytest.mark.parametrize(("call", "status"), list(product(sorted({*CALLS} - {"token"}), [401, 403])))
def test_a_token_that_is_refused_before_its_time_is_replaced_once_and_the_call_made_again(world, call, status):
    here = world(fault="expired", fault_on=call, fault_times=1, refused_token=status)
    with time_machine.travel(time.time()) as now, here.session() as session:
        session.obtain_token("read:loans")
        now.shift(3600)
        CALL[call](session)
    assert (len(here.kiva.token_requests), len(here.kiva.calls)) == (2, 2)
    assert stored(here.kiva) == nothing_but(call, 1)


@pytest.mark.parametrize("call", sorted({*CALLS} - {"token"}))
def test_two_tokens_refused_in_a_row_are_a_misconfiguration_and_nothing_is_made(world, call):
    here = world(fault="expired", fault_on=call)
    with time_machine.travel(time.time()) as now, here.session() as session:
        session.obtain_token("read:loans")
        now.shift(3600)
        with pytest.raises(Misconfigured):
            CALL[call](session)
    assert (len(here.kiva.token_requests), len(here.kiva.calls)) == (2, 2)
    assert stored(here.kiva) == nothing_but(call, 0)


@pytest.mark.parametrize("call", CALLS)
def test_a_fault_of_one_call_is_none_of_the_others(world, call):
    here = world(fault=500, fault_on=call)
    others = [other for other in CALLS if other != call and "token" not in (call, other)]
    with here.session() as session:
        for other in others:
            CALL[other](session)
    assert stored(here.kiva) == {name: sum(STORE.get(other) == name for other in others) for name in STORE.values()}


@pytest.mark.parametrize(("told", "heard"), [("none", None), (0, 1), (1, 1), (90, 90), (86_400, 3600)])
@pytest.mark.parametrize("call", STORE)
def test_when_to_come_again_is_heard(world, call, told, heard):
    here = world(fault=429, retry_after=told)
    here.kiva.switch(fault_on=call)
    with here.session() as session, pytest.raises(NotSent) as raised:
        CALL[call](session)
    assert raised.value.retry_after == heard


@pytest.mark.parametrize("call", CALLS)
def test_an_answer_that_comes_too_late_leaves_a_doubt_about_what_was_written(world, stack, call):
    stack.set(KIVA_READ_TIMEOUT_SECONDS=1)
    here = world(latency=60, fault_on=call)
    with here.session() as session:
        if call != "token":
            session.obtain_token("read:loans")
        with pytest.raises(OutcomeUnknown if call in STORE else NotSent):
            CALL[call](session)
    assert stored(here.kiva) == nothing_but(call, 1)
    assert len(here.kiva.calls) == (call != "token")


@pytest.mark.parametrize("call", CALLS)
def test_an_answer_that_comes_late_is_an_answer(world, call):
    here = world(latency=0.05, fault_on=call)
    with here.session() as session:
        CALL[call](session)
    assert stored(here.kiva) == nothing_but(call, 1)


@pytest.mark.parametrize("fault", [429, 503, "lost", "truncated"])
def test_without_a_token_nothing_is_sent(world, fault):
    here = world(fault=fault, fault_on="token")
    with here.session() as session:
        for call in STORE:
            with pytest.raises(NotSent):
                CALL[call](session)
    assert here.kiva.calls == []
    assert stored(here.kiva) == nothing_but(None, 0)


# --- the same by the functions ----------------------------------------------------------------------------------------


@dataclass
class Delivered:
    """A function behind its queue, with the messages that are in it."""

    stack: Any
    function: Any
    now: Any

    def send(self, *messages):
        for message in messages:
            self.stack.queue.send(json.dumps(message))

    def deliver(self):
        """What is visible by now; gives how many messages stay in the queue."""
        source = EventSource(self.stack.queue, lambda event: self.function.handler(event, self.function.context))
        source.poll()
        return len(self.stack.queue.messages)

    def states(self, console):
        found = {}
        for state in ("ACCEPTED", "UNKNOWN", "RETRY", "REJECTED"):
            _, page = console("/submissions", kind=self.function.kind.value, state=state)
            if page["submissions"]:
                found[state] = len(page["submissions"])
        return found


@pytest.fixture
def queued(stack):
    with time_machine.travel(time.time()) as now:
        yield lambda function: Delivered(stack, function, now)


DRAFTS = [draft(f"L-{number}") for number in range(1, 6)]
REPORT = {"period": "2026-10", "repayments": [row(1), row(3), row(4)]}


def test_one_lost_answer_of_a_batch_is_one_doubt_and_is_not_sent_again(world, queued, drafts, console):
    here, behind = world(fault="lost", fault_on="loan_draft", fault_times=1), queued(drafts)
    behind.send(*DRAFTS)
    assert behind.deliver() == 0
    assert behind.states(console) == {"ACCEPTED": 4, "UNKNOWN": 1}
    behind.send(*DRAFTS)  # the producer was not sure either
    assert behind.deliver() == 0
    assert behind.states(console) == {"ACCEPTED": 4, "UNKNOWN": 1}
    assert len(here.kiva.sent("loan_draft")) == len(here.kiva.has("drafts")) == len(DRAFTS)


def test_a_lost_answer_to_a_report_leaves_all_its_rows_in_doubt_and_makes_no_second_upload(
    world, queued, reports, console
):
    here, behind = world(fault="lost", fault_on="repayments", fault_times=1), queued(reports)
    for _ in range(2):
        behind.send(REPORT)
        assert behind.deliver() == 0
        assert behind.states(console) == {"UNKNOWN": 3}
    assert len(here.kiva.has("uploads")) == 1


@pytest.mark.parametrize("fault", [500, 502, 503, 504, "lost", "not-json", "truncated"])
def test_what_leaves_a_doubt_is_posted_once_however_often_it_is_delivered(world, queued, drafts, console, fault):
    here, behind = world(fault=fault, fault_on="loan_draft", fault_times=1), queued(drafts)
    for _ in range(3):
        behind.send(DRAFTS[0])
        assert behind.deliver() == 0
    assert behind.states(console) == {"UNKNOWN": 1}
    assert len(here.kiva.sent("loan_draft")) == 1
    assert len(here.kiva.has("drafts")) == FAULTS[fault][2]


def test_what_kiva_asks_to_send_later_is_sent_later_and_accepted_once(world, queued, drafts, console):
    here, behind = world(fault=429, retry_after=1, fault_on="loan_draft", fault_times=1), queued(drafts)
    behind.send(DRAFTS[0])
    assert behind.deliver() == 1
    assert behind.states(console) == {"RETRY": 1}
    assert here.kiva.has("drafts") == []
    assert behind.deliver() == 1  # not yet
    assert len(here.kiva.sent("loan_draft")) == 1
    behind.now.shift(60)
    assert behind.deliver() == 0
    assert behind.states(console) == {"ACCEPTED": 1}
    assert len(here.kiva.has("drafts")) == 1


@pytest.mark.parametrize(("name", "value"), ALTERNATIVES)
def test_the_functions_have_everything_accepted_under_every_switch(
    world, stack, drafts, updates, reports, console, name, value
):
    here = world(**{name: value})
    drafts.batch(*DRAFTS[:2])
    updates.batch({"journals": JOURNALS})
    reports.batch(REPORT)
    for kind, count in (("loan_draft", 2), ("journal_update", 1), ("repayment", 3)):
        _, page = console("/submissions", kind=kind, state="ACCEPTED")
        assert len(page["submissions"]) == count
    assert stored(here.kiva) == {"drafts": 2, "journals": 1, "uploads": 1}
    assert stack.reasons == []


def test_a_switch_at_run_time_is_met_by_a_function_that_is_warm(drafts, console, kiva, context):
    """Kiva changes its answers while we run: nothing of the old ones is remembered."""
    ask = Console(context)
    for naming in ("snake", "camel", "snake"):
        kiva.switch(naming=naming)
        _, page = ask("/config/themes")
        assert page["themes"] == CONFIG["themes"]
