"""Photos: whatever their size, they arrive as they left."""

import base64

import pytest

from e2e.world import loans
from images import gif, jpeg, png

MAKERS = {"png": png, "jpeg": jpeg, "gif": gif}
PHOTO = bytes(range(256)) * 6000
"""Larger than a message of any queue may be."""
TOO_LARGE = png(rest=bytes(5 * 2**20))


@pytest.mark.parametrize("media", MAKERS)
@pytest.mark.parametrize("prefer", ["", "wait"])
def test_a_photo_too_large_for_a_queue_arrives_byte_for_byte(world, media, prefer):
    photo = MAKERS[media](rest=PHOTO)
    draft = world.draft(image_encoded=f"data:image/{media};base64,{base64.b64encode(photo).decode()}")

    response = world.post("loan_draft", draft, Prefer=prefer)

    assert response.status_code == (200 if prefer else 202)
    assert world.ended("loan_draft", response.json()["reference"])["state"] == "ACCEPTED"
    (body,) = world.at_kiva("loan_draft", loans("loan_draft", draft)[0])
    media_type, content = body["image_encoded"].split(",")
    assert media_type == f"data:image/{media};base64"
    assert base64.b64decode(content) == photo


def test_a_photo_that_a_producer_laid_into_the_bucket_arrives_byte_for_byte(world):
    photo = png(rest=PHOTO)
    world.lay_into_the_bucket("photos/e2e/portrait.png", photo)
    draft = world.draft(photo={"s3_key": "photos/e2e/portrait.png"}, reference="photo-in-the-bucket")

    world.put("loan_draft", draft)

    assert world.ended("loan_draft", "photo-in-the-bucket")["state"] == "ACCEPTED"
    (body,) = world.at_kiva("loan_draft", loans("loan_draft", draft)[0])
    assert base64.b64decode(body["image_encoded"].partition(",")[2]) == photo
    assert "photo" not in body


def test_a_photo_over_the_limit_is_refused_by_the_api(world):
    draft = world.draft(image_encoded=f"data:image/png;base64,{base64.b64encode(TOO_LARGE).decode()}")

    response = world.post("loan_draft", draft)

    assert response.status_code == 413
    (error,) = response.json()["errors"]
    assert error == {"field": "$", "rule": "must be at most 6291456 bytes; put a large photo into the payload bucket"}


def test_a_photo_over_the_limit_in_the_bucket_lays_its_draft_aside(world):
    world.lay_into_the_bucket("photos/e2e/poster.png", TOO_LARGE)

    (message_id,) = world.put("loan_draft", draft := world.draft(photo={"s3_key": "photos/e2e/poster.png"}))

    reason = world.dead_letter("loan_draft", message_id)["Reason"]
    assert "must be at most 5242880 bytes" in reason
    assert world.at_kiva("loan_draft", loans("loan_draft", draft)[0]) == []
