"""What is told of a draft before Kiva has it is what the coordinator would find in PA2 (as the sandbox imitates it)."""

import json
from copy import replace
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images import data_uri, png
from kiva_partner.catalogue import Catalogue
from kiva_partner.ledger import Row, State
from kiva_partner.messages import Kind, parse
from kiva_partner.pa2 import Review, findings, refusals
from kiva_partner.settings import AmountMode, PartnerRules
from kiva_sandbox import pa2 as sandbox
from kiva_sandbox.bodies import Draft
from kiva_sandbox.data import CONFIG

TODAY = date(2026, 11, 25)
RULES = PartnerRules(needs_client_id=True, amount_mode=AmountMode.CUMULATIVE_PRINCIPAL, max_image_bytes=100_000)
LISTS = Catalogue.of(lambda name: {name: CONFIG[name]}, 0.0)
PHOTO = data_uri(png())


def complete(**changes):
    """A draft that could be published; None takes a field away."""
    draft = {
        "activity_id": 61,
        "theme_type_id": 48,
        "description_language_id": 1,
        "location": "Kisumu: Kenya",
        "currency": "KES",
        "loanuse": "to restock her stall.",
        "description": "Akinyi has run a food stall for six years.",
        "client_waiver_signed": True,
        "disburse_time": "2026-12-01",
        "entreps": [borrower()],
        "schedule": [{"date": "2027-01-01", "principal": 600.5}],
        "image_encoded": PHOTO,
        **changes,
    }
    return {name: value for name, value in draft.items() if value is not None}


def borrower(number=1, amount=600.5, **changes):
    who = {
        "client_id": f"C-{number}",
        "loan_id": f"L-{number}",
        "first_name": "Akinyi",
        "last_name": "Odhiambo",
        "gender": "female",
        "amount": amount,
        **changes,
    }
    return {name: value for name, value in who.items() if value is not None}


def group(**changes):
    of_two = {
        "entreps": [borrower(1), borrower(2)],
        "schedule": [{"date": "2027-01-01", "principal": 1201}],
        "group_name": "Tumaini",
        "internal_client_id": "G-1",
        "internal_loan_id": "GL-1",
        "not_pictured": [False, True],
    }
    return complete(**{**of_two, **changes})


def found(draft, lists=LISTS, today=TODAY):
    (submission,) = parse(Kind.LOAN_DRAFT, json.dumps(draft), RULES).submissions
    return {each.path: each.rule for each in findings(submission, lists, today)}


@pytest.mark.parametrize("draft", [complete(), group(), complete(image_encoded=None, photo={"s3_key": "photos/a.png"})])
def test_a_complete_draft_has_nothing_to_be_mended(draft):
    assert found(draft) == {}


@pytest.mark.parametrize(
    "name",
    ["activity_id", "theme_type_id", "description_language_id", "location", "loanuse", "description", "disburse_time"],
)
def test_what_pa2_asks_for_is_missed(name):
    assert found(complete(**{name: None})) == {f"$.{name}": "is missing, and PA2 asks for it"}


def test_a_schedule_is_missed_and_one_that_does_not_add_up_is_told():
    assert found(complete(schedule=None)) == {"$.schedule": "is missing, and PA2 asks for it"}
    wrong = complete(schedule=[{"date": "2027-01-01", "principal": 600.49}])
    assert found(wrong) == {"$.schedule": "its principal must add up to the amount of the entreps"}


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("activity_id", 62, "activities"),
        ("theme_type_id", 49, "themes"),
        ("description_language_id", 2, "locales"),
        ("location", "Kisumu, Kenya", "locations"),
        ("location", "kisumu: kenya", "locations"),
        ("currency", "EUR", "locales"),
    ],
)
def test_what_the_partner_cannot_choose_is_told_with_the_list_it_should_be_in(name, value, where):
    rule = f"is not defined for this partner at Kiva (config/{where})"
    assert found(complete(**{name: value})) == {f"$.{name}": rule}


def test_without_lists_and_with_an_empty_one_nothing_is_unknown():
    strange = complete(activity_id=62, location="Atlantis: Sea", currency="EUR")
    assert found(strange, lists=None) == {}
    assert "$.location" not in found(strange, replace(LISTS, locations=frozenset()))


@pytest.mark.parametrize(
    ("day", "fits"),
    [("2026-10-26", False), ("2026-10-27", True), ("2027-02-23", True), ("2027-02-24", False)],
)
def test_the_disbursal_is_less_than_30_days_past_and_at_most_90_ahead(day, fits):
    rule = "must be less than 30 days past and not more than 90 days ahead"
    assert found(complete(disburse_time=day)) == ({} if fits else {"$.disburse_time": rule})


@pytest.mark.parametrize("signed", [None, False])
def test_without_consent_no_loan_is_shown(signed):
    assert list(found(complete(client_waiver_signed=signed))) == ["$.client_waiver_signed"]


def test_a_photo_is_missed_and_one_that_shows_nobody_is_told():
    assert list(found(complete(image_encoded=None))) == ["$.image_encoded"]
    assert list(found(group(not_pictured=[True, True]))) == ["$.not_pictured"]


def test_a_borrower_without_a_last_name_is_named_by_place():
    assert list(found(group(entreps=[borrower(1), borrower(2, last_name=None)]))) == ["$.entreps[1].last_name"]


def test_no_finding_shows_what_the_draft_says():
    canary = complete(
        location="canary: canary", currency="XXX", loanuse=" ", description=" ", disburse_time="2031-01-01"
    )
    told = found(canary)
    assert len(told) == 5
    assert "canary" not in str(told)
    assert not {"XXX", "2031"} & set(str(told).replace("'", " ").split())


OPTIONAL = ("activity_id", "theme_type_id", "description_language_id", "location", "loanuse", "description")


@settings(max_examples=300, deadline=None)
@given(
    missing=st.sets(st.sampled_from([*OPTIONAL, "disburse_time", "schedule", "image_encoded", "client_waiver_signed"])),
    changes=st.fixed_dictionaries(
        {},
        optional={
            "activity_id": st.sampled_from([61, 12, 999]),
            "location": st.sampled_from(["Kisumu: Kenya", "Гарм: Tajikistan", " "]),
            "currency": st.sampled_from(["KES", "XOF", "USD"]),
            "disburse_time": st.dates(date(2026, 9, 1), date(2027, 4, 1)).map(str),
            "client_waiver_signed": st.booleans(),
            "description": st.sampled_from(["A story.", "  "]),
        },
    ),
    several=st.booleans(),
    pictured=st.booleans(),
    amount=st.decimals(1, 1000, places=2),
    named=st.booleans(),
)
def test_it_finds_something_exactly_where_the_imitation_of_pa2_does(missing, changes, several, pictured, amount, named):
    entreps = [borrower(1, float(amount)), borrower(2, last_name="Wanjiru" if named else None)]
    draft = group(entreps=entreps, not_pictured=[True, not pictured]) if several else complete(entreps=entreps[:1])
    draft |= changes
    for name in missing & draft.keys():
        del draft[name]
    shown = Draft.model_validate(json.loads(json.dumps(draft), parse_float=Decimal))
    (submission,) = parse(Kind.LOAN_DRAFT, json.dumps(draft), RULES).submissions
    ours, theirs = list(findings(submission, LISTS, TODAY)), sandbox.messages(shown, TODAY)
    assert len(ours) == len(theirs), (ours, theirs)


def test_only_drafts_are_reviewed_and_lists_are_not_even_asked_for_where_there_are_none():
    def never():
        raise AssertionError

    rows = [{"loan_id": "L-1", "client_id": "C-1", "amount": 1}]
    report = parse(Kind.REPAYMENT, json.dumps({"period": "2026-10", "repayments": rows}), RULES)
    assert Review(never)(report) is report


def test_a_review_puts_its_findings_with_the_submission_and_changes_nothing_else():
    message = parse(Kind.LOAN_DRAFT, json.dumps(complete(location="Atlantis: Sea")), RULES)
    reviewed = Review(lambda: LISTS, lambda: TODAY)(message)
    (before,), (after,) = message.submissions, reviewed.submissions
    assert [each.path for each in after.warnings] == ["$.location"]
    assert replace(after, warnings=()) == before


def test_what_was_taken_in_before_is_not_refused_for_what_is_found_now(row):
    message = Review(lambda: LISTS, lambda: TODAY)(
        parse(Kind.LOAN_DRAFT, json.dumps(complete(location="Atlantis: Sea")), RULES)
    )
    (submission,) = message.submissions
    assert [each.path for each in refusals(message, {})] == ["$.location"]
    same = row(reference=submission.reference, fingerprint=submission.fingerprint)
    assert refusals(message, {same.reference: same}) == []
    other = row(reference=submission.reference, fingerprint="of other content")
    assert [each.path for each in refusals(message, {other.reference: other})] == ["$.location"]


@pytest.fixture
def row():
    def make(**fields):
        times = {"updated_at": "2026-11-25T00:00:00+00:00", "created_at": "2026-11-25T00:00:00+00:00"}
        return Row(kind=Kind.LOAN_DRAFT, loan_id="L-1", state=State.RETRY, **times, **fields)

    return make
