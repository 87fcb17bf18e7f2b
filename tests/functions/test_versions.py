"""Amounts of one loan and month: which stands at Kiva last, and which came again and was not sent."""

import json
from copy import replace
from importlib import import_module

import boto3
import pytest

from fakes import Context
from kiva_partner import runtime
from kiva_partner.ledger import Outcome, State
from kiva_partner.messages import Kind
from stream import Stream


def report(amount, loan="L-1", period="2026-10", **fields):
    return {"period": period, "repayments": [{"loan_id": loan, "client_id": "C", "amount": amount}], **fields}


class Bus:
    def __init__(self):
        self.taken = []

    def put_events(self, Entries):  # noqa: N803 boto3's name
        self.taken += [(each["DetailType"], json.loads(each["Detail"])) for each in Entries]
        return {"Entries": [{"EventId": "e"} for _ in Entries]}


@pytest.fixture
def bus(monkeypatch):
    bus, aws = Bus(), runtime.aws
    monkeypatch.setattr(runtime, "aws", lambda service: (lambda: bus) if service == "events" else aws(service))
    return bus


@pytest.fixture
def told(deployed, bus, monkeypatch):
    """What the stream has told since it was last asked, as details by the name of the event."""
    monkeypatch.setenv("EVENT_BUS", "outcomes")
    runtime.forget()
    stream = Stream(monkeypatch)
    outcomes = import_module("outcomes.app").handler

    def now():
        stream.deliver(lambda event: outcomes(event, Context()))
        found, bus.taken[:] = list(bus.taken), []
        return found

    now.stream = stream
    return now


def row(reference):
    return runtime.ledger().read(Kind.REPAYMENT, reference)


A, B, C = "2026-10:L-1:100.00", "2026-10:L-1:120.00", "2026-10:L-1:140.00"


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "one after the other"])
def test_the_event_the_row_and_the_answer_say_which_amount_replaced_which(reports, told, console, at_once):
    for batch in [[report(100), report(120)]] if at_once else [[report(100)], [report(120)]]:
        assert reports.batch(*batch) == []
    first, second = (detail for _, detail in told())
    assert (first["amount"], second["amount"], second["replaces"]) == ("100.00", "120.00", A)
    assert "stands_last" not in second
    assert (row(A).replaced_by, row(A).replaced_at) == (B, row(B).updated_at)
    assert (row(B).replaces, row(B).replaced_by, row(B).warnings) == (A, "", ())
    status, body = console(f"/submissions/repayment/{A}")
    assert (status, body["replaced_by"], body["stands_last"]) == (200, B, B)
    assert console(f"/submissions/repayment/{B}")[1]["replaces"] == A
    assert [it.get("replaced_by") for it in console("/submissions", loan_id="L-1")[1]["submissions"]] == [None, B]


def test_two_amounts_of_one_loan_in_one_batch_go_one_after_the_other(reports, told, deployed):
    """Also where ten calls may go at once; the others of the report need not wait for each other."""
    rows = [{"loan_id": f"L-{number}", "client_id": "C", "amount": 10} for number in range(5)]
    reports.batch({"period": "2026-10", "repayments": rows}, report(20, "L-3"), report(30, "L-3"))
    sent = [[(it["loan_id"], it["amount"]) for it in body["repayments"]] for _, body in deployed.sent]
    assert sent[1:] == [[("L-3", 20)], [("L-3", 30)]]
    times = [row(f"2026-10:L-3:{amount}.00").updated_at for amount in (10, 20, 30)]
    assert times == sorted(set(times))


def test_marks_change_neither_the_state_nor_the_time_of_a_row(reports, told):
    reports.batch(report(100))
    before = row(A)
    reports.batch(report(120))
    told()
    assert replace(row(A), replaced_by="", replaced_at="") == before
    transactions = len(told.stream.records)
    assert told() == []
    assert len(told.stream.records) == transactions


def test_the_stream_may_repeat_itself(reports, told, context):
    reports.batch(report(200))
    reports.batch(report(100))
    once = told()
    rows = row("2026-10:L-1:200.00"), row(A)
    records = [it for it in told.stream.records if "NewImage" in it["dynamodb"]]
    assert import_module("outcomes.app").handler({"Records": records}, context) == {"batchItemFailures": []}
    assert (row("2026-10:L-1:200.00"), row(A)) == rows
    assert len(rows[1].warnings) == 1
    assert once[-1][1]["warnings"] == list(rows[1].warnings)


def test_a_chain_of_amounts_is_told_link_by_link_and_by_its_end(reports, told, console):
    for amount in (100, 120, 140):
        reports.batch(report(amount))
    told()
    assert [row(it).replaced_by for it in (A, B, C)] == [B, C, ""]
    assert [row(it).replaces for it in (A, B, C)] == ["", A, B]
    body = console(f"/submissions/repayment/{A}")[1]
    assert (body["replaced_by"], body["stands_last"]) == (B, C)


@pytest.mark.parametrize(
    ("mode", "warned"), [("cumulative_principal", True), ("principal_outstanding", False)], ids=str
)
def test_a_cumulative_amount_that_falls_is_a_warning(reports, told, monkeypatch, console, mode, warned):
    monkeypatch.setenv("REPAYMENT_AMOUNT_MODE", mode)
    runtime.forget()
    reports.batch(report(200), report(100))
    (_, _), (_, second) = told()
    upload = row("2026-10:L-1:200.00").outcome.kiva["upload_id"]
    text = f"$.amount: is less than 200.00, which Kiva has for this month by upload {upload}"
    assert (second.get("warnings") == [text]) is warned
    assert (row(A).warnings == (text,)) is warned
    assert second["replaces"] == "2026-10:L-1:200.00"
    assert (console(f"/submissions/repayment/{A}")[1].get("warnings") == [text]) is warned


@pytest.mark.parametrize("second", [200, 100.00, "nothing"])
def test_an_amount_that_rises_or_stays_is_no_warning(reports, told, second):
    reports.batch(report(100))
    if second != "nothing":
        reports.batch(report(second, reference="R7"))
    assert not [detail for _, detail in told() if "warnings" in detail]


def test_an_amount_is_known_under_a_reference_of_its_own_too(reports, told):
    reports.batch(report(200, reference="R1"))
    reports.batch(report(100, reference="R2"))
    (_, (_, second)) = told()
    assert (second["replaces"], len(second["warnings"])) == ("R1:L-1", 1)


@pytest.mark.parametrize(
    "other", [report(120, "L-2"), report(120, period="2026-11"), report(120, reference="R7", period=None)], ids=str
)
def test_another_loan_another_month_and_no_month_replace_nothing(reports, told, console, other):
    reports.batch(report(100))
    reports.batch({name: value for name, value in other.items() if value})
    assert not [detail for _, detail in told() if "replaces" in detail]
    assert row(A).replaced_by == ""
    assert "replaced_by" not in console(f"/submissions/repayment/{A}")[1]


def test_instalments_replace_nothing(reports, told, monkeypatch, console):
    monkeypatch.setenv("REPAYMENT_AMOUNT_MODE", "instalment")
    runtime.forget()
    for number in (1, 2):
        paid = report(100)
        paid["repayments"][0]["payment_id"] = f"P{number}"
        reports.batch(paid)
        reports.batch(paid)
    assert [name for name, _ in told()] == ["SubmissionSettled"] * 2
    body = console("/submissions/repayment/L-1:P1")[1]
    assert not {"replaced_by", "replaces", "amount", "not_sent"} & body.keys()


def test_a_refused_amount_replaces_nothing(reports, told, deployed):
    reports.batch(report(100))
    deployed.answers = [(422, {"message": "no"})]
    reports.batch(report(120))
    told()
    assert row(A).replaced_by == ""


# --- 100, 120, 100 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [True, False], ids=["the stream is quick", "the stream is slow"])
@pytest.mark.parametrize("way", ["queue", "api", "api, wait"])
def test_an_amount_that_comes_again_after_another_one_is_said_not_to_be_sent(
    reports, told, deployed, console, way, streamed
):
    said = []
    for amount in (100, 120):
        reports.batch(report(amount))
        said += told() if streamed else []
    if way == "queue":
        assert reports.batch(report(100)) == []
    else:
        status, answer, _ = reports.post(report(100), **({"Prefer": "wait"} if way != "api" else {}))
        assert (status, answer["state"]) == (200, "ACCEPTED")
        assert f"{B} stands at Kiva last" in answer["not_sent"]
        assert "give the message a reference" in answer["not_sent"]
    assert len(deployed.sent) == 2
    said += told()
    ((name, event),) = [it for it in said if it[0] != "SubmissionSettled"]
    assert (name, event["reference"], event["stands_last"]) == ("SubmissionNotSent", A, B)
    assert (event["at"], event["amount"], event["period"]) == (row(A).came_again_at, "100.00", "2026-10")
    body = console(f"/submissions/repayment/{A}")[1]
    assert f"{B} stands at Kiva last" in body["not_sent"]
    waits = console("/waiting")[1]
    assert (waits["counts"]["not_sent"], [it["reference"] for it in waits["not_sent"]]) == (1, [A])
    assert console(f"/waiting/repayment/{A}/done", "")[0] == 200
    assert console("/waiting")[1]["not_sent"] == []


def test_it_is_told_once_however_often_it_comes_again(reports, told, console):
    for amount in (100, 120):
        reports.batch(report(amount))
        told()
    for _ in range(3):
        reports.batch(report(100))
    assert [name for name, _ in told()] == ["SubmissionNotSent"]


def test_a_copy_that_came_before_the_other_amount_is_none_that_was_not_sent(reports, told, console):
    for amount in (100, 100, 120):
        reports.batch(report(amount))
    assert {name for name, _ in told()} == {"SubmissionSettled"}
    assert "not_sent" not in console(f"/submissions/repayment/{A}")[1]
    assert console("/waiting")[1]["not_sent"] == []
    reports.batch(report(100))
    assert [name for name, _ in told()] == ["SubmissionNotSent"]


def test_within_one_batch_it_comes_again_alone_and_is_said(reports, told, deployed, console):
    assert reports.batch(report(100), report(120), report(100)) == ["m2"]
    assert reports.batch(report(100)) == []
    assert [name for name, _ in told()].count("SubmissionNotSent") == 1
    assert len(deployed.sent) == 2
    assert B in console(f"/submissions/repayment/{A}")[1]["not_sent"]


def test_copies_of_one_amount_in_a_batch_are_one(reports, told):
    assert reports.batch(report(100), report(100), report(120), report(120)) == []


def test_with_a_reference_the_amount_is_sent_again_and_stands_last(reports, told, deployed, console):
    for message in (report(100), report(120), report(100, reference="R7")):
        reports.batch(message)
    told()
    assert len(deployed.sent) == 3
    assert console(f"/submissions/repayment/{A}")[1]["stands_last"] == "R7:L-1"


def test_the_digest_counts_it(reports, told, context):
    for amount in (100, 120, 100):
        reports.batch(report(amount))
        told()
    digest = import_module("outcomes.app").handler({"detail-type": "Scheduled Event"}, context)["digest"]
    assert "1 amount that came again and was not sent" in digest


def test_what_cannot_be_noted_comes_again(reports, told, monkeypatch):
    for amount in (100, 120):
        reports.batch(report(amount))
    with monkeypatch.context() as broken:
        broken.setattr(runtime.ledger(), "note_again", lambda _: 1 / 0)
        assert reports.batch(report(100), report(1, "L-9")) == ["m0"]
        assert reports.post(report(100))[0] == 503
    assert row("2026-10:L-9:1.00").state is State.ACCEPTED
    assert reports.batch(report(100)) == []
    assert "SubmissionNotSent" in [name for name, _ in told()]


# --- what nobody knows ----------------------------------------------------------------------------------------------


def test_an_amount_of_which_nobody_knows_is_named(reports, told, deployed, console):
    reports.batch(report(100))
    deployed.answers = [(500, {})]
    reports.batch(report(120))
    (_, doubt) = (detail for _, detail in told())
    assert (doubt["state"], doubt["stands_last"]) == ("UNKNOWN", A)
    assert console(f"/submissions/repayment/{A}")[1]["in_doubt"] == [B]
    reports.batch(report(140))
    ((_, third),) = told()
    assert (third["replaces"], third["in_doubt"]) == (A, [B])
    assert "in_doubt" not in console(f"/submissions/repayment/{B}")[1]


def test_an_amount_that_comes_again_after_one_of_which_nobody_knows_is_said(reports, told, deployed, console):
    reports.batch(report(100))
    deployed.answers = [(500, {})]
    reports.batch(report(120))
    _, answer, _ = reports.post(report(100))
    assert f"nobody knows whether Kiva has {B}" in answer["not_sent"]
    assert "SubmissionNotSent" in [name for name, _ in told()]


def test_what_a_person_says_later_counts_from_when_it_was_sent(reports, told, deployed, console):
    """In one batch: 100, which is unknown, then 120. That the first is accepted is said long after."""
    deployed.answers = [(500, {})]
    reports.batch(report(100), report(120))
    told()
    runtime.ledger().resolve([(row(A), Outcome(State.ACCEPTED, "a person says so", {"upload_id": "1"}))])
    ((_, event),) = told()
    assert (event["replaced_by"], event["stands_last"]) == (B, B)
    assert (row(A).replaced_by, row(B).replaces) == (B, A)
    assert row(A).updated_at > row(B).updated_at
    assert console(f"/submissions/repayment/{A}")[1]["stands_last"] == B


def test_one_that_is_found_between_two_takes_its_place(reports, told, deployed):
    reports.batch(report(100))
    deployed.answers = [(500, {})]
    reports.batch(report(120))
    reports.batch(report(110))
    told()
    runtime.ledger().resolve([(row(B), Outcome(State.ACCEPTED, "a person says so", {"upload_id": "1"}))])
    told()
    last = "2026-10:L-1:110.00"
    assert [row(it).replaced_by for it in (A, B, last)] == [B, last, ""]
    assert [row(it).replaces for it in (A, B, last)] == ["", A, B]
    assert "is less than 120.00" in row(last).warnings[0]


# --- the stream -----------------------------------------------------------------------------------------------------


def test_while_the_ledger_does_not_answer_outcomes_come_again(reports, told, monkeypatch, capsys, queue_urls):
    reports.batch(report(100), report(10, "L-2"))
    with monkeypatch.context() as broken:
        broken.setattr(runtime.ledger(), "list_month", lambda _: 1 / 0)
        assert told() == []
    assert "the ledger does not answer: unexpected ZeroDivisionError" in capsys.readouterr().out
    letters = boto3.client("sqs").receive_message(QueueUrl=queue_urls[1])
    assert "Messages" not in letters
    assert len(told()) == 2


def test_rows_that_change_meanwhile_are_read_anew(reports, told, monkeypatch):
    reports.batch(report(100))
    told()
    reports.batch(report(120))
    ledger, read = runtime.ledger(), runtime.ledger().list_month
    stale = iter([True])

    def list_month(of):
        rows = read(of)
        if next(stale, False):  # somebody links another one in between
            ledger.link(row(A), replace(row(B), reference="somebody-else"))
        return rows

    monkeypatch.setattr(ledger, "list_month", list_month)
    told()
    assert row(A).replaced_by == B


def test_a_row_costs_one_query_and_no_write_where_its_month_has_no_other(reports, told, monkeypatch):
    reports.batch(report(100, "L-1"), report(100, "L-1", period="2026-09"))
    calls = []
    runtime.aws("dynamodb")().meta.events.register("before-call.dynamodb", lambda model, **_: calls.append(model.name))
    assert len(told()) == 2
    assert sorted(calls) == ["BatchGetItem"] * 2 + ["Query"] * 2
