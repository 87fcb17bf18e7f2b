"""The payload bucket, on moto's S3."""

import json

import boto3
import pytest

from kiva_partner import runtime
from kiva_partner.errors import InvalidMessage
from kiva_partner.messages import Kind, Photo, parse
from kiva_partner.payloads import pointed, pointer
from kiva_partner.photos import Image

from .conftest import MESSAGES

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def payloads(deployed):
    return runtime.payloads()


@pytest.fixture(params=list(Kind))
def submission(request, rules):
    (found,) = parse(request.param, json.dumps(MESSAGES[request.param]()), rules).submissions
    return found


def test_a_kept_submission_comes_back_as_it_was(payloads, submission):
    key = payloads.keep(submission)
    assert payloads.load(key) == submission


def test_what_is_loaded_goes_to_kiva_byte_for_byte(payloads, rules):
    rows = [{"loan_id": "L", "client_id": "C", "amount": 0.1}, {"loan_id": "M", "client_id": "C", "amount": 10}]
    for each in parse(Kind.REPAYMENT, json.dumps({"period": "2026-10", "repayments": rows}), rules).submissions:
        loaded = payloads.load(payloads.keep(each))
        assert repr(loaded.content["amount"]) in (repr(each.content["amount"]), f"Decimal('{each.content['amount']}')")


def test_once_forgotten_it_is_gone(payloads, submission):
    key = payloads.keep(submission)
    payloads.forget(key)
    payloads.forget(key)
    with pytest.raises(KeyError):
        payloads.load(key)


def test_a_key_tells_the_kind_and_hides_the_reference(payloads, submission):
    key = payloads.keep(submission)
    assert key.startswith(f"unknown/{submission.kind}/")
    assert submission.reference not in key


def test_a_pointer_leads_to_what_was_kept_and_nothing_else_is_one(payloads, submission):
    key = payloads.keep(submission)
    assert pointed(pointer(key)) == key
    for body in ('{"kept": "photos/1.png"}', f'{{"kept": "{key}x"}}', f'{{"kept": "{key}", "x": 1}}', "{}", key, ""):
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
