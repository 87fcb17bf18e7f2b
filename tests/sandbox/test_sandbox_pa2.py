from datetime import date, timedelta

import pytest

from kiva_sandbox.bodies import Draft
from kiva_sandbox.pa2 import messages

TODAY = date(2026, 9, 1)


def said(draft):
    return messages(Draft.model_validate(draft), TODAY)


def test_complete_drafts_can_be_published_as_they_are(individual, group):
    assert said(individual) == []
    assert said(group) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"description": " "}, "description is missing"),
        ({"loanuse": None}, "loanuse is missing"),
        ({"location": "Atlantis: Nowhere"}, "location is not defined for this partner (config/locations)"),
        ({"activity_id": 9999}, "activity_id is not defined for this partner (config/activities)"),
        ({"theme_type_id": 9999}, "theme_type_id is not defined for this partner (config/themes)"),
        ({"currency": "CHF"}, "currency is not defined for this partner (config/locales)"),
        ({"group_name": "No Group"}, "group_name is for group loans only"),
        ({"internal_loan_id": "L-1"}, "internal_loan_id is for group loans only"),
        ({"internal_client_id": "C-1"}, "internal_client_id is for group loans only"),
        ({"not_pictured": [False]}, "not_pictured is for group loans only"),
        ({"disburse_time": "2026-02-30"}, "disburse_time is not a date (YYYY-MM-DD)"),
        ({"disburse_time": "20260901"}, "disburse_time is not a date (YYYY-MM-DD)"),
        (
            {"client_waiver_signed": False},
            "client_waiver_signed is missing: no loan is shown without the borrower's consent",
        ),
        ({"image_encoded": None}, "a photo is missing (image_encoded)"),
        (
            {"image_encoded": "data:image/webp;base64,AAAA"},
            "image_encoded is not a data URI of a PNG, JPEG or GIF in base64",
        ),
        (
            {"image_encoded": "data:image/png;base64,A"},
            "image_encoded is not a data URI of a PNG, JPEG or GIF in base64",
        ),
    ],
)
def test_one_fault_of_an_individual_gets_one_message(individual, change, message):
    assert said({**individual, **change}) == [message]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group_name": None}, "group_name is missing from this group loan"),
        ({"not_pictured": [False]}, "not_pictured has 1 value(s) for 2 borrowers"),
        ({"not_pictured": [True, True]}, "not_pictured says that nobody is in the photo"),
    ],
)
def test_one_fault_of_a_group_gets_one_message(group, change, message):
    assert said({**group, **change}) == [message]


@pytest.mark.parametrize(("days", "in_the_window"), [(-30, False), (-29, True), (90, True), (91, False)])
def test_disbursal_is_less_than_30_days_past_and_at_most_90_ahead(individual, days, in_the_window):
    individual["disburse_time"] = (TODAY + timedelta(days=days)).isoformat()
    assert (said(individual) == []) is in_the_window


def test_a_deprecated_image_url_is_a_photo_too(individual):
    assert said({**individual, "image_encoded": "", "image_url": "https://media.example.org/1.jpg"}) == []


def test_a_schedule_must_add_up_ascend_and_hold_no_negative(individual):
    individual["schedule"][1]["principal"] = 1
    assert said(individual) == ["schedule principal does not add up to the amount of the borrowers"]
    individual["schedule"][1] = {"date": "2026-10-01", "principal": 40000, "interest": -1}
    assert said(individual) == ["schedule dates must ascend", "schedule[1] must not be negative"]
    individual["schedule"] = [{"date": "soon", "principal": 60000, "interest": 0}]
    assert said(individual) == ["schedule[0].date is not a date (YYYY-MM-DD)"]


def test_cents_add_up_exactly(individual):
    individual["entreps"][0]["amount"] = 0.3
    for instalment, principal in zip(individual["schedule"], (0.1, 0.2), strict=True):
        instalment["principal"] = principal
    assert said(individual) == []


def test_what_a_borrower_lacks_is_named_with_its_place(individual):
    individual["entreps"][0].update(last_name="", loan_id=None, amount=0)
    assert "entreps[0].last_name is missing" in said(individual)
    assert "entreps[0].loan_id is missing" in said(individual)
    assert "entreps[0].amount must be more than zero" in said(individual)


def test_messages_never_repeat_what_a_borrower_told(individual):
    individual.update(location="Secretville: Nowhere", disburse_time="Secretday", image_encoded="Secretphoto")
    assert len(said(individual)) == 3
    assert "Secret" not in " ".join(said(individual))
