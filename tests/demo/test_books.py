"""The demo's verdict: whatever is not as it should be is found, and said in one line."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from local.books import AtKiva, Books, Message, Reading, at_kiva, mistakes, show

README = """
| File | What it is | How it ends |
|---|---|---|
| `sqs/loan_draft.json` | two records | 1 dead letter, 1 ACCEPTED |
| `api/journals.json` | a list of two | 202, 2 ACCEPTED |
| `api/invalid.json` | no client id | 400 |
| `api/get_loans.json` | loans | 200 |
| `reports/september.csv` | 3 | 2 ACCEPTED (1 of them with a warning), 1 REJECTED |
"""


def ended(reference, loan_id, state, kiva, **more):
    return {"reference": reference, "loan_id": loan_id, "state": state, "kiva": kiva, "next_step": "look", **more}


def draft(loan_id):
    return json.dumps({"entreps": [{"loan_id": loan_id, "first_name": "Zebedea"}]})


def warning(severity, code):
    return {"severity": severity, "code": code, "details": "as it is"}


@pytest.fixture
def books():
    """A small run in which all is as it should be."""
    accepted = Message("sqs/loan_draft.json", "SQS", "loan_draft", draft("L-1"))
    accepted.submissions["L-1"] = ended("L-1", "L-1", "ACCEPTED", {"loan_draft_uuid": "uuid-1"})
    dead = Message("sqs/loan_draft.json", "SQS", "loan_draft", "<xml/>", dead_letter="$: is not JSON")
    told = [{"internal_loan_id": f"L-{number}", "subject": "A visit"} for number in (1, 2)]
    journals = Message("api/journals.json", "API", "journal_update", json.dumps({"journals": told}), status=202)
    archive = {"archive_id": "48001", "confirm_url": "https://pa2.test/48001"}
    for number in (1, 2):
        journals.submissions[f"L-{number}"] = ended(f"L-{number}:abc", f"L-{number}", "ACCEPTED", archive)
    refused = Message("api/invalid.json", "API", "repayment", "{}", status=400, refusal="$.x is missing")
    rows = [{"loan_id": f"L-{number}", "amount": number} for number in (1, 2, 3)]
    report = Message("reports/september.csv", "SQS", "repayment", json.dumps({"repayments": rows}))
    for number, state, problem in (
        (1, "ACCEPTED", {}),
        (2, "ACCEPTED", {"problems": [warning("warning", "amount_fell")]}),
        (3, "REJECTED", {"problems": [warning("error", "no_loan")]}),
    ):
        report.submissions[f"L-{number}"] = ended(
            f"2026-09:L-{number}:{number}.00", f"L-{number}", state, {"upload_id": "90001"}, **problem
        )
    return Books(
        messages=[accepted, dead, journals, refused, report],
        readings=[Reading("api/get_loans.json", "GET /loans", 200, "20 loans")],
        at_kiva=at_kiva(
            [{"body": json.loads(draft("L-1")), "loan_draft_uuid": "uuid-1"}],
            [{"journal": journal, "archive_id": "48001"} for journal in told],
            [{"upload_id": 90001, "rows": [row | {"recorded": row["loan_id"] != "L-3"} for row in rows]}],
        ),
        token_requests=1,
        calls={"loan_draft": 1},
    )


def test_a_run_in_which_all_is_as_it_should_be_has_no_mistakes(books):
    assert list(mistakes(books, README)) == []


def lost(books):
    del books.at_kiva[AtKiva("loan_draft", "L-1", "", "uuid-1")]
    return "loan_draft of loan L-1 as uuid-1: 0 times at Kiva instead of once"


def doubled(books):
    books.at_kiva[AtKiva("repayment", "L-1", "1.00", "90001")] += 1
    return "repayment of loan L-1 as 90001: 2 times at Kiva instead of once"


def doubled_elsewhere(books):
    books.at_kiva[AtKiva("journal_update", "L-1", "A visit", "48002")] += 1
    return "journal_update of loan L-1 as 48002: at Kiva, but not in the ledger as that"


def leaked(books):
    books.at_kiva[AtKiva("loan_draft", "L-9", "", "uuid-9")] += 1
    return "loan_draft of loan L-9 as uuid-9: at Kiva, but not in the ledger as that"


def second_token(books):
    books.token_requests = 2
    return "2 token requests instead of 1"


def stranger(books):
    books.strangers.add("repayment 2026-09:L-8:1.00 is QUEUED, but nobody sent it")
    return "repayment 2026-09:L-8:1.00 is QUEUED, but nobody sent it"


def unused(books):
    books.readings.clear()
    return "api/get_loans.json: was not used"


def not_in_the_readme(books):
    books.readings.append(Reading("api/get_more.json", "GET /more", 200, ""))
    return "api/get_more.json: is not in events/README.md"


def failed_reading(books):
    books.readings[0] = replace(books.readings[0], status=500)
    return "api/get_loans.json: should end as «200», but ended as «1 HTTP 500»"


def taken_in_where_refused(books):
    books.messages[3].status = 202
    return "api/invalid.json: should end as «400», but ended as «1 HTTP 202»"


@pytest.mark.parametrize(
    "spoil",
    [
        lost,
        doubled,
        doubled_elsewhere,
        leaked,
        second_token,
        stranger,
        unused,
        not_in_the_readme,
        failed_reading,
        taken_in_where_refused,
    ],
)
def test_each_mistake_is_one_line(books, spoil):
    line = spoil(books)

    assert list(mistakes(books, README)) == [line]


def test_another_ending_than_the_promised_one_is_a_mistake(books):
    promised = README.replace("2 ACCEPTED (1 of them with a warning), 1 REJECTED", "3 ACCEPTED")

    (line,) = mistakes(books, promised)

    assert line.startswith("reports/september.csv: should end as «3 ACCEPTED», but ended as «")
    assert "1 REJECTED" in line


def test_what_kiva_has_of_an_unknown_outcome_is_a_mistake(books):
    unknown = books.messages[0].submissions["L-1"] = ended("L-1", "L-1", "UNKNOWN", {})

    lines = list(mistakes(books, README))

    assert unknown["state"] in lines[0]
    assert lines[1:] == ["loan_draft of loan L-1 as uuid-1: at Kiva, but not in the ledger as that"]


@pytest.mark.parametrize("width", [100, 140])
def test_a_thousand_repayments_are_a_few_lines_that_fit(books, width):
    report = books.messages[-1]
    for number in range(4, 1000):
        reference = f"2026-09:L-{number}:{number}.00"
        report.things[f"L-{number}"] = f"{number}.00"
        report.submissions[f"L-{number}"] = ended(reference, f"L-{number}", "ACCEPTED", {"upload_id": "90002"})
    output = io.StringIO()

    show(books, Console(file=output, width=width))

    shown = output.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    assert len(shown.splitlines()) < 60
    for needed in ("997 loans", "2026-09:L-2:2.00", "2026-09:L-3:3.00", "90001", "90002", "amount_fell", "no_loan"):
        assert needed in shown
    for needed in ("uuid-1", "$: is not JSON", "$.x is missing", "https://pa2.test/48001"):
        assert needed in shown
    assert "Zebedea" not in shown


def test_a_text_of_several_lines_is_shown_in_lines(books):
    books.readings.append(Reading("schedule/digest.json", "schedule", 200, "digest: 2 drafts\n1 archive\x1b[2J"))
    output = io.StringIO()

    show(books, Console(file=output, width=120))

    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    first = next(number for number, line in enumerate(lines) if line.endswith("digest: 2 drafts"))
    assert lines[first + 1].strip() == "1 archive?[2J"
