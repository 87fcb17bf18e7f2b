"""events/README.md says what each file is and how it ends; the parser of the handlers agrees."""

import csv
import hashlib
import itertools
import json
import re
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from kiva_partner.decisions import Choice, parse_decision
from kiva_partner.errors import InvalidMessage
from kiva_partner.messages import Kind, Message, parse, parse_json
from kiva_partner.openapi import document
from kiva_partner.outcomes import settled
from kiva_partner.photos import read_image
from kiva_partner.strict_json import decode
from kiva_sandbox import pa2
from kiva_sandbox.bodies import Draft
from kiva_sandbox.data import REPAYABLE, portfolio
from stream import passes

EVENTS = Path(__file__).parents[2] / "events"
LOANS = {loan["internal_loan_id"]: loan for loan in portfolio(1500)}
QUEUES = {
    "loan-drafts": Kind.LOAN_DRAFT,
    "journal-updates": Kind.JOURNAL_UPDATE,
    "repayments": Kind.REPAYMENT,
}
README = (EVENTS / "README.md").read_text()
ENDS = dict(re.findall(r"^\| `(\S+)` \|.*\| ([^|]+) \|$", README, re.MULTILINE))
SQS, API, REPORTS = ([name for name in ENDS if name.startswith(folder)] for folder in ("sqs/", "api/", "reports/"))
POSTS = [name for name in API if not name.startswith(("api/get_", "api/post_"))]
UNKNOWN_LOANS = {"L-90017-1", "L-90041-1", "L-90108-1"}
FALLEN_AMOUNTS = {"L-70490-1", "L-71125-1"}


def load(name):
    return json.loads((EVENTS / name).read_text())


def promised(name, what):
    """How many of them the README promises: `2 ACCEPTED`, `1 dead letter`."""
    found = re.search(rf"(\d+) {what}", ENDS[name])
    return int(found[1]) if found else 0


def outcome(read, *arguments):
    try:
        return read(*arguments)
    except InvalidMessage as error:
        return error


def of_queue(name, rules):
    """What the consumer makes of each record of an SQS batch."""
    for record in load(name)["Records"]:
        kind = QUEUES[record["eventSourceARN"].partition("kiva-relay-stage-")[2]]
        yield outcome(parse, kind, record["body"], rules)


def of_request(name, rules):
    """What the intake makes of a POST."""
    event = load(name)
    return outcome(lambda: parse_json(QUEUES[event["path"][1:]], decode(event["body"]), rules))


def submissions(rules):
    """Every valid submission of all files."""
    outcomes = [
        *itertools.chain(*(of_queue(name, rules) for name in SQS)),
        *(of_request(name, rules) for name in POSTS),
    ]
    return [each for message in outcomes if isinstance(message, Message) for each in message.submissions]


@pytest.fixture(params=["3 columns", "2 columns"])
def either_rules(request, rules, two_columns):
    return rules if request.param == "3 columns" else two_columns


def test_the_readme_names_every_file_and_no_other():
    files = {str(path.relative_to(EVENTS)) for path in EVENTS.rglob("*.*") if path.name != "README.md"}

    assert ENDS.keys() == files


def test_every_file_is_small_enough_to_be_read():
    assert all((EVENTS / name).stat().st_size < 30_000 for name in ENDS)


@pytest.mark.parametrize("name", SQS)
def test_a_batch_ends_as_the_readme_says(name, either_rules):
    outcomes = list(of_queue(name, either_rules))

    messages = [each for each in outcomes if isinstance(each, Message)]
    assert len(outcomes) - len(messages) == promised(name, "dead letters?")
    assert sum(len(each.submissions) for each in messages) == promised(name, "ACCEPTED") > 0


@pytest.mark.parametrize("name", POSTS)
def test_a_request_is_answered_as_the_readme_says(name, either_rules):
    message = of_request(name, either_rules)

    if ENDS[name] == "400":
        assert isinstance(message, InvalidMessage)
        assert not message.too_large
    else:
        assert len(message.submissions) == promised(name, "ACCEPTED") > 0
        waits = load(name)["headers"].get("Prefer") == "wait"
        assert ENDS[name].startswith("200" if waits else "202")


@pytest.mark.parametrize("name", [name for name in [*SQS, *POSTS] if "invalid" in name])
def test_what_is_invalid_breaks_one_rule_on_purpose_and_not_several_by_accident(name, rules):
    outcomes = of_queue(name, rules) if name in SQS else [of_request(name, rules)]
    expected = {
        "sqs/loan_draft_invalid.json": [
            "$.group_name",
            "$.internal_client_id",
            "$.internal_loan_id",
            "$.not_pictured",
        ],
        "sqs/journal_updates_invalid.json": ["$", "$.journals[0].title"],
        "sqs/repayments_invalid.json": ["$.repayments[1].amount"],
        "api/loan_draft_invalid.json": ["$.not_pictured"],
        "api/journal_updates_invalid.json": ["$.journals[0].image_url"],
        "api/repayments_invalid.json": ["$.repayments[2].loan_id"],
    }

    invalid = [each for each in outcomes if isinstance(each, InvalidMessage)]
    assert [violation.path for error in invalid for violation in error.violations] == expected[name]


def test_no_two_submissions_of_all_files_are_the_same_one(rules):
    references = [(each.kind, each.reference) for each in submissions(rules)]

    assert len(references) == len(set(references)) == sum(promised(name, "ACCEPTED") for name in [*SQS, *POSTS])


@pytest.mark.parametrize("kind", list(Kind))
def test_queues_and_requests_never_speak_of_the_same_loan(kind, rules):
    loans = [each.loan_id for each in submissions(rules) if each.kind is kind]

    assert len(loans) == len(set(loans))


def test_journals_and_repayments_are_about_loans_that_kiva_knows(rules):
    for each in submissions(rules):
        if each.kind is Kind.LOAN_DRAFT:
            continue
        loan = LOANS[each.loan_id]
        assert loan["status"] in REPAYABLE
        assert loan["internal_client_id"] == each.content.get("client_id", each.content.get("internal_client_id"))
        assert each.content.get("amount", 0) <= Decimal(loan["loan_local_price"])


def test_pa2_has_nothing_to_say_against_the_drafts_at_the_time_they_are_meant_for(rules):
    drafts = [each.content for each in submissions(rules) if each.kind is Kind.LOAN_DRAFT]

    assert [pa2.messages(Draft.model_validate(each), today=date(2026, 12, 1)) for each in drafts] == [[]] * len(drafts)


def test_drafts_are_about_new_loans_and_show_photos_of_all_three_types(rules):
    drafts = [each for each in submissions(rules) if each.kind is Kind.LOAN_DRAFT]

    images = [read_image(each.content["image_encoded"], rules.max_image_bytes)[0] for each in drafts]
    assert {image.media_type for image in images} == {"image/png", "image/jpeg", "image/gif"}
    assert LOANS.keys().isdisjoint(each.loan_id for each in drafts)


@pytest.mark.parametrize("name", SQS)
def test_a_record_is_sealed_as_sqs_seals_it(name):
    records = load(name)["Records"]

    assert len({record["messageId"] for record in records}) == len(records)
    for record in records:
        assert record["md5OfBody"] == hashlib.md5(record["body"].encode(), usedforsecurity=False).hexdigest()
        assert record["eventSource"] == "aws:sqs"


def test_no_two_records_have_one_message_id():
    ids = [record["messageId"] for name in SQS for record in load(name)["Records"]]

    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", API)
def test_a_request_goes_to_a_route_of_the_api(name):
    event = load(name)

    assert event["httpMethod"].lower() in document()["paths"][event["resource"]]
    assert event["path"] == event["resource"].format_map(event["pathParameters"] or {})
    assert event["multiValueHeaders"] == {header: [value] for header, value in event["headers"].items()}


@pytest.mark.parametrize("name", ["api/get_submission.json", "api/post_decision.json"])
def test_the_submission_that_is_asked_for_or_decided_about_is_one_of_the_files(name, rules):
    wanted = load(name)["pathParameters"]

    assert of_request("api/loan_draft_wait.json", rules).reference == wanted["reference"]
    assert wanted["kind"] == Kind.LOAN_DRAFT


def test_the_decision_is_a_valid_one_that_only_the_state_of_its_submission_forbids():
    assert parse_decision(load("api/post_decision.json")["body"]).decision is Choice.SEND_AGAIN
    assert ENDS["api/post_decision.json"].startswith("409")


def test_the_changes_of_the_ledger_are_told_as_the_readme_says(settings):
    changes = load("stream/ledger.json")["Records"]

    told = [event for change in changes if (event := settled(change, settings))]
    assert all(passes(change) for change in changes)
    assert len(told) == promised("stream/ledger.json", "events?")
    assert [event.state for event in told] == ["ACCEPTED", "REJECTED", "UNKNOWN", "ACCEPTED"]
    assert told[-1].decision == "accepted"


# --- the two reports --------------------------------------------------------------------------------------------------


def rows_of(name):
    with (EVENTS / name).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def september():
    return rows_of("reports/repayments_two_columns.csv")


@pytest.fixture
def october():
    return rows_of("reports/repayments_three_columns.csv")


def test_a_report_has_a_thousand_rows_in_the_columns_that_its_name_says(september, october):
    assert {tuple(row) for row in september} == {("loan_id", "amount")}
    assert {tuple(row) for row in october} == {("loan_id", "client_id", "amount")}
    assert len(september) == len(october) == 1000


def test_a_report_is_a_valid_message_for_the_partner_it_is_made_for(september, october, rules, two_columns):
    for rows, partner in ((september, two_columns), (october, rules)):
        report = {"period": "2026-10", "repayments": [row | {"amount": Decimal(row["amount"])} for row in rows]}

        assert len(parse_json(Kind.REPAYMENT, report, partner).submissions) == 1000


def test_a_report_holds_loans_that_are_to_be_reported_and_three_that_kiva_does_not_know(september, october):
    for rows in (september, october):
        known = [LOANS[row["loan_id"]] for row in rows if row["loan_id"] in LOANS]

        assert {row["loan_id"] for row in rows} - LOANS.keys() == UNKNOWN_LOANS
        assert {loan["status"] for loan in known} == REPAYABLE
        assert len({loan["internal_loan_id"] for loan in known}) == 997


def test_a_report_gives_the_client_ids_of_the_portfolio(october):
    known = [row for row in october if row["loan_id"] in LOANS]

    assert [row["client_id"] for row in known] == [LOANS[row["loan_id"]]["internal_client_id"] for row in known]


def test_amounts_have_cents_and_are_above_0_and_never_above_the_loan(september, october):
    for row in (*september, *october):
        assert re.fullmatch(r"[0-9]+\.[0-9]{2}", row["amount"])
        if row["loan_id"] in LOANS:
            assert 0 < Decimal(row["amount"]) <= Decimal(LOANS[row["loan_id"]]["loan_local_price"])


def test_amounts_grow_from_september_to_october_but_for_two(september, october):
    before = {row["loan_id"]: Decimal(row["amount"]) for row in september}
    after = {row["loan_id"]: Decimal(row["amount"]) for row in october}

    assert before.keys() == after.keys()
    assert {loan for loan in before if after[loan] <= before[loan]} == FALLEN_AMOUNTS


def test_reports_and_the_other_repayments_never_speak_of_the_same_loan(september, october, rules):
    others = {each.loan_id for each in submissions(rules) if each.kind is Kind.REPAYMENT}

    assert others.isdisjoint(row["loan_id"] for row in (*september, *october))


@pytest.mark.parametrize("name", REPORTS)
def test_the_readme_counts_the_rows_of_a_report_right(name):
    assert promised(name, "ACCEPTED") + promised(name, "REJECTED") == len(rows_of(name))
    assert promised(name, "REJECTED") == len(UNKNOWN_LOANS)


def test_the_readme_names_the_loans_that_end_badly():
    assert all(f"`{loan}`" in README for loan in UNKNOWN_LOANS | FALLEN_AMOUNTS)
