"""Kiva's wording tells what is wrong, and nothing of what the message says of people."""

import pytest

from images import data_uri, png
from kiva_partner.masking import masked

BODY = "Nyaboké keeps two cows in Keroka.\nShe sold 14 litres; the loan paid for feed. Call 0722 123 456."
JOURNAL = {"internal_loan_id": "L-1", "subject": "Keroka", "body": BODY}


@pytest.mark.parametrize(
    "wording",
    [
        "draft 7d0c9a52-1b7e-4f0e-8f39-5a8e4f3c2b61: repayment.amount_below_expected",
        "body must be at least 100 characters, and has 97",
        "internal_loan_id (internalLoanId) 2990017 is not known for partner 63",
        "$.journals[0].subject: is it a name?",
        "The description is too long, or the loan was paid out in the month of the loan",
        "image_url must use https",
    ],
)
def test_what_tells_what_is_wrong_is_shown_as_it_is(wording):
    assert masked(wording, [JOURNAL]) == wording


@pytest.mark.parametrize(
    ("wording", "shown"),
    [
        ("Keroka is not defined", "••• is not defined"),
        ("KEROKA, keroka and Nyaboke\u0301 are not defined", "••• and ••• are not defined"),
        ("a body with <Nyaboké keeps two cows in Keroka> is too long", "a body with ?••• two ••• in •••? is too long"),
        ("body: Nyab", "body: •••"),
        ("body: roka. She sold 14 litre", "body: •••"),
        ("phone 0722123456, 722123456 or +254722123456", "phone ••• or +•••"),
        ("Nyabok%C3%A9%0Akeeps&#233;cows\\nKeroka\\u00e9\\xc3", "•••"),
        ("value_Keroka_ or valueKeroka", "value_•••_ or •••"),
    ],
)
def test_what_a_message_says_of_people_is_hidden_word_by_word(wording, shown):
    assert masked(wording, [JOURNAL]) == shown


@pytest.mark.parametrize("hidden", ["S2Vyb2th", "4b65726f6b61", "a1", "Ünal", "x" * 21, "1234567890", "aBcDeFgHiJ"])
def test_a_word_that_may_be_anything_is_hidden_whatever_the_message_says(hidden):
    assert masked(f"subject: {hidden} is wrong", [{}]) == "subject: ••• is wrong"


@pytest.mark.parametrize("quoted", [data_uri(png()), "QUJD" * 500, "QUJD" * 500 + "=="])
def test_nothing_of_a_photo_is_shown(quoted):
    assert masked(f"image_encoded: {quoted} is not an image", [{}]) == "image_encoded: ••• is not an image"


def test_what_a_message_says_that_is_not_of_people_is_shown():
    assert masked("amount 17 of L-1 is too low", [{"loan_id": "L-1", "amount": 17}]) == "amount 17 of L-1 is too low"


def test_it_is_one_short_line():
    text = masked("a\r\nb\x1b[31 m\u2028c" + " x" * 500, [{}])
    assert text.startswith("a??b?[31 m?c x x")
    assert len(text) == 256
