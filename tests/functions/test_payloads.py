"""The payload bucket, on moto's S3."""

import json
from copy import replace

import boto3
import pytest

from handlers import MESSAGES
from images import png
from kiva_partner import runtime
from kiva_partner.errors import InvalidMessage
from kiva_partner.messages import Kind, Photo, parse
from kiva_partner.payloads import Kept, pointed
from kiva_partner.photos import Image

PNG = png()


@pytest.fixture
def payloads(deployed):
    return runtime.payloads()


@pytest.fixture(params=list(Kind))
def submission(request, rules):
    (found,) = parse(request.param, json.dumps(MESSAGES[request.param]()), rules).submissions
    return found


def test_a_kept_submission_comes_back_as_it_was(payloads, submission):
    assert payloads.keep(submission) == Kept.of(submission).key
    assert payloads.load(Kept.of(submission)) == submission


def test_what_is_loaded_goes_to_kiva_byte_for_byte(payloads, rules):
    rows = [{"loan_id": "L", "client_id": "C", "amount": 0.1}, {"loan_id": "M", "client_id": "C", "amount": 10}]
    for each in parse(Kind.REPAYMENT, json.dumps({"period": "2026-10", "repayments": rows}), rules).submissions:
        payloads.keep(each)
        loaded = payloads.load(Kept.of(each))
        assert repr(loaded.content["amount"]) in (repr(each.content["amount"]), f"Decimal('{each.content['amount']}')")


def test_once_forgotten_it_is_gone(payloads, submission):
    kept = Kept.of(submission)
    payloads.keep(submission)
    assert list(payloads.all_kept()) == [kept]
    payloads.forget(kept)
    payloads.forget(kept)
    assert list(payloads.all_kept()) == []
    with pytest.raises(KeyError):
        payloads.load(kept)


def test_other_content_under_the_same_reference_is_kept_beside_it(payloads, submission):
    other = replace(submission, fingerprint="f" * 64)
    payloads.keep(submission)
    payloads.keep(other)
    assert payloads.load(Kept.of(submission)) == submission
    assert payloads.load(Kept.of(other)) == other


def test_a_key_says_what_lies_there(submission):
    kept = Kept.of(submission)
    assert Kept.at(kept.key) == kept
    for key in (
        "",
        "photos/1.png",
        "unknown/other/L-1/0123456789abcdef",
        f"{kept.key}x",
        f"{kept.key}\n",
        kept.key[:-1],
    ):
        assert Kept.at(key) is None


def test_a_pointer_leads_to_what_was_kept_and_nothing_else_is_one(submission):
    kept = Kept.of(submission)
    assert pointed(kept.pointer) == kept
    others = ('{"kept": "photos/1.png"}', f'{{"kept": "{kept.key}x"}}', f'{{"kept": "{kept.key}", "x": 1}}')
    for body in (*others, "{}", kept.key, "", f" {kept.pointer}", f"{kept.pointer}\n"):
        assert pointed(body) is None


def test_a_photo_is_stored_and_loaded(payloads):
    image = Image("image/png", PNG)
    payloads.store_photo(image)
    assert payloads.load_photo(Photo(image.s3_key)) == image.data_uri


@pytest.mark.parametrize("content", [None, b"no image", PNG + b"x" * 5_242_880])
def test_a_photo_that_is_missing_or_none_or_too_large_is_invalid(payloads, content):
    if content:
        boto3.client("s3").put_object(Bucket="payloads", Key="photos/1.png", Body=content)
    with pytest.raises(InvalidMessage):
        payloads.load_photo(Photo("photos/1.png"))
