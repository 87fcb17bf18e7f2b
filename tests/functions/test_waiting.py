"""What waits for a person, and how it leaves the list."""

from datetime import date

import pytest
import time_machine
from jsonschema import Draft202012Validator

from handlers import BORROWER, Function
from kiva_partner import runtime
from kiva_partner import waiting as waiting_of
from kiva_partner.messages import Kind
from kiva_partner.openapi import document
from kiva_partner.waiting import counts, look

SECTIONS = {Kind.LOAN_DRAFT: "drafts", Kind.JOURNAL_UPDATE: "archives", Kind.REPAYMENT: "uploads"}
KIVAS_NAMES = {Kind.LOAN_DRAFT: "loan_draft_uuid", Kind.JOURNAL_UPDATE: "archive_id", Kind.REPAYMENT: "upload_id"}


@pytest.fixture
def ask(console):
    """What waits, which is always as the API's document says."""

    def waits(**query):
        status, body = console("/waiting", **query)
        assert status == 200
        schema = {"$ref": "#/components/schemas/Waiting", "components": document()["components"]}
        assert [error.message for error in Draft202012Validator(schema).iter_errors(body)] == []
        return body

    return waits


def refuse_row(deployed, loan, severity="error"):
    problem = {"loan_id": loan, "severity": severity, "code": "repayment.loan_not_found", "details": "No such loan"}
    deployed.answers = [(200, {"code": "api.success", "upload_id": 77, "problems": [problem]})]


def report(*loans):
    rows = [{"loan_id": loan, "client_id": "C-1", "amount": 100} for loan in loans]
    return {"period": "2026-10", "repayments": rows}


def test_of_more_than_an_answer_holds_the_latest_are_listed_and_all_are_counted(deployed, reports, ask, monkeypatch):
    monkeypatch.setattr(waiting_of, "MOST_SHOWN", 3)
    loans = [f"L-{number}" for number in range(8)]
    refused = [{"loan_id": loan, "severity": "error", "code": "c", "details": "d"} for loan in loans[1:]]
    deployed.answers = [(200, {"code": "api.success", "upload_id": 77, "problems": refused}), (500, {}), (500, {})]
    reports.batch(report(*loans))
    for period in ("2026-11", "2026-12"):
        reports.batch({**report(*loans), "period": period})
    waits = ask()
    counts = {"unknown": 2, "stuck": 0, "rejected": 7, "not_sent": 0, "uploads": 1, "archives": 0, "drafts": 0}
    assert waits["counts"] == counts
    assert len(waits["rejected"]) == 3
    (upload,) = waits["uploads"]
    assert (upload["rows"], upload["problem_rows"], len(upload["problems"])) == (8, 7, 3)
    # A call can be decided by any of its rows, so each shows one.
    assert [(call["rows"], len(call["submissions"])) for call in waits["unknown"]] == [(8, 3), (8, 1)]


def test_nothing_waits_in_the_beginning(deployed, ask):
    waits = ask()
    assert all(waits[section] == [] for section in ("unknown", "rejected", *SECTIONS.values()))


def test_what_was_accepted_waits_until_somebody_says_that_it_is_done(function, deployed, ask, console):
    function.batch(function.message("L-1"))
    (made,) = ask()[SECTIONS[function.kind]]

    status, done = console(f"/waiting/{function.kind}/{made[KIVAS_NAMES[function.kind]]}/done", {})

    assert (status, done["by"]) == (200, "arn:aws:iam::000000000000:user/wanjiku")
    assert ask()[SECTIONS[function.kind]] == []


def test_journals_of_a_call_are_one_archive_with_its_url(deployed, context, ask):
    journals = Function(Kind.JOURNAL_UPDATE, context)
    journals.batch(journals.message("L-1"), journals.message("L-2"))
    (archive,) = ask()["archives"]
    assert archive["journals"] == 2
    assert archive["loan_ids"] == ["L-1", "L-2"]
    assert archive["confirm_url"].startswith("https://partners.kiva.org/confirm/")


def test_an_upload_shows_its_rows_with_problems_and_the_refused_ones_wait_by_themselves_too(deployed, reports, ask):
    refuse_row(deployed, "L-2")
    reports.batch(report("L-1", "L-2", "L-3"))
    waits = ask()
    (upload,) = waits["uploads"]
    assert (upload["upload_id"], upload["rows"], upload["periods"]) == ("77", 3, ["2026-10"])
    assert [row["loan_id"] for row in upload["problems"]] == ["L-2"]
    assert [row["loan_id"] for row in waits["rejected"]] == ["L-2"]


def test_an_upload_in_which_kiva_took_no_row_is_nothing_to_finalise(deployed, reports, ask):
    refuse_row(deployed, "L-1")
    reports.batch(report("L-1"))
    assert ask()["uploads"] == []


def test_a_row_that_was_taken_with_a_warning_is_shown_and_is_not_refused(deployed, reports, ask):
    refuse_row(deployed, "L-1", "warning")
    reports.batch(report("L-1"))
    assert [row["state"] for row in ask()["uploads"][0]["problems"]] == ["ACCEPTED"]
    assert ask()["rejected"] == []


def test_what_was_refused_waits_until_somebody_has_seen_to_it_and_again_when_it_is_refused_anew(
    deployed, drafts, ask, console
):
    with time_machine.travel("2026-11-24T12:00:00Z", tick=False) as time:
        deployed.answers = [(400, {"message": "no"})]
        drafts.batch(drafts.message("L-1"))
        assert [each["reference"] for each in ask()["rejected"]] == ["L-1"]
        time.shift(60)
        console("/waiting/loan_draft/L-1/done", {})
        assert ask()["rejected"] == []
        time.shift(60)
        deployed.answers = [(400, {"message": "no"})]
        drafts.batch(drafts.message("L-1", loanuse="to buy a cow."))
        assert [each["reference"] for each in ask()["rejected"]] == ["L-1"]


def test_what_nobody_knows_waits_by_call_with_where_to_look_and_from_when_it_may_be_decided(function, deployed, ask):
    with time_machine.travel("2026-11-24T12:00:00Z", tick=False):
        deployed.answers = [(500, {})]
        function.batch(function.message("L-1"))
        (call,) = ask()["unknown"]
    assert call["look_in"].startswith("PA2 > ")
    # The invocation had 290 s, a claim outlives it by 30 s, and a gateway may deliver late for 15 minutes.
    assert call["decidable_at"] == "2026-11-24T12:20:20+00:00"
    assert [each["loan_id"] for each in call["submissions"]] == ["L-1"]


def test_what_is_older_than_asked_for_is_left_out_but_unknown_ones_never(deployed, drafts, ask):
    with time_machine.travel("2026-11-24T12:00:00Z", tick=False) as time:
        deployed.answers = [(500, {}), (400, {}), (200, {"code": "api.success", "loan_draft_uuid": "1" * 8})]
        for loan in ("L-1", "L-2", "L-3"):
            drafts.batch(drafts.message(loan))
        time.shift(3 * 86_400)
        everything, lately = ask(days="3"), ask(days="2")
    assert [len(everything[section]) for section in ("unknown", "rejected", "drafts")] == [1, 1, 1]
    assert [len(lately[section]) for section in ("unknown", "rejected", "drafts")] == [1, 0, 0]


def test_it_is_counted_for_the_digest(deployed, drafts):
    deployed.answers = [(500, {}), (400, {})]
    for loan in ("L-1", "L-2", "L-3"):
        drafts.batch(drafts.message(loan))
    assert counts(look(runtime.ledger(), date(2026, 1, 1))) == {
        "unknown": 1,
        "stuck": 0,
        "rejected": 1,
        "not_sent": 0,
        "uploads": 0,
        "archives": 0,
        "drafts": 1,
    }


@pytest.mark.parametrize("days", ["0", "401", "x", "-1"])
def test_days_are_a_number_from_1_to_400(deployed, console, days):
    status, body = console("/waiting", days=days)
    assert (status, body["errors"][0]["field"]) == (400, "days")


@pytest.mark.parametrize(
    "path", ["/waiting/loan/L-1/done", "/waiting/loan_draft/L%0A1/done", f"/waiting/loan_draft/{'L' * 2049}/done"]
)
def test_what_can_be_nothing_is_not_marked(deployed, console, path):
    assert console(path, {})[0] == 400


def test_neither_list_nor_log_shows_anything_of_the_borrower(function, deployed, ask, console, capsys):
    deployed.answers = [(500, {}), (400, {"message": "no"})]
    for loan in ("L-1", "L-2", "L-3"):
        function.batch(function.message(loan))
    waits = str(ask())
    console(f"/waiting/{function.kind}/X-1/done", {})
    said = capsys.readouterr().out
    assert '"done"' in said
    assert not [value for value in BORROWER if value in waits + said]


def test_submissions_of_a_loan_are_found_whatever_their_kind_and_state(deployed, context, console):
    deployed.answers = [(500, {})]
    for kind in Kind:
        function = Function(kind, context)
        function.batch(function.message("L-1"), function.message("L-2"))
    _, found = console("/submissions", loan_id="L-1")
    assert {(each["kind"], each["loan_id"]) for each in found["submissions"]} == {(kind, "L-1") for kind in Kind}
    assert {each["state"] for each in found["submissions"]} == {"UNKNOWN", "ACCEPTED"}


def test_a_list_begins_with_a_day_if_one_is_given(deployed, drafts, console):
    with time_machine.travel("2026-11-24T12:00:00Z", tick=False) as time:
        drafts.batch(drafts.message("L-1"))
        time.shift(86_400)
        drafts.batch(drafts.message("L-2"))
    query = {"kind": "loan_draft", "state": "ACCEPTED"}
    assert [it["reference"] for it in console("/submissions", **query, since="2026-11-25")[1]["submissions"]] == ["L-2"]
    assert len(console("/submissions", **query, since="2026-11-24")[1]["submissions"]) == 2
    assert console("/submissions", **query, since="yesterday")[0] == 400
