"""The detector finds each planted value however it is written, and nothing in what is innocent."""

import json
from base64 import b64encode
from urllib.parse import quote
from uuid import UUID

import pytest

from faults.canaries import CANARIES, ENCODINGS, MESSAGES, RUN, draft, found, planted
from kiva_partner.messages import Kind, parse

TEXTS = {name: value if isinstance(value, str) else b64encode(value).decode() for name, value in CANARIES.items()}
"""A photo travels in base64."""


def test_there_are_fifteen_at_least_and_none_is_in_another():
    assert len(CANARIES) >= 15
    assert {name: found(value) for name, value in CANARIES.items()} == {name: {name} for name in CANARIES}


@pytest.mark.parametrize("name", CANARIES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_is_found_however_it_is_written(name, encoding):
    written = ENCODINGS[encoding](TEXTS[name])
    assert found(f"Kiva says: {written} is wrong") == {name}
    assert found(written.encode()) == {name}
    assert found(json.dumps({"message": written})) == {name}


@pytest.mark.parametrize("name", CANARIES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_part_of_each_is_found(name, encoding):
    """Of base64, three bytes more are needed: those at the edges share characters with what stands there."""
    length = RUN + 4 * encoding.startswith("base64")
    for at in range(len(TEXTS[name]) - length + 1):
        assert name in found(ENCODINGS[encoding](TEXTS[name][at : at + length])), at


PHOTOS = {
    "bytes": lambda photo: photo,
    "repr": repr,
    "hex": bytes.hex,
    "latin-1": lambda photo: photo.decode("latin-1"),
    "JSON": lambda photo: json.dumps(photo.decode("latin-1")),
    "URL": quote,
}


@pytest.mark.parametrize("photo", PHOTOS.values(), ids=PHOTOS)
def test_a_photo_is_found_as_bytes(photo):
    assert found(photo(CANARIES["photo"])) == {"photo"}
    assert found(photo(CANARIES["photo"][40:60])) == {"photo"}


@pytest.mark.parametrize(
    "innocent",
    [
        "",
        b"\xff\xfe" * 100,
        "\ufffd" * 100,
        "%" * 100 + "\\" * 99 + "&" * 100,
        "https://partners.kiva.org/pa2/journals/confirm/48001?a=b&c=%2F+d",
        '{"message": "submission", "kind": "loan_draft", "reference": "L-1:17178508f6309768", "state": "ACCEPTED"}',
        "$.photo: must hold a PNG, JPEG or GIF; $.entreps[0].first_name: must be one line without control characters",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAAA",
        " ".join(str(UUID(int=number**20 % 2**128)) for number in range(200)),
        json.dumps({"reason": "Kiva refused it with HTTP 400: ••• is too long, ••• is not a name"}),
    ],
)
def test_nothing_is_found_in_what_is_innocent(innocent):
    assert found(innocent) == set()


@pytest.mark.parametrize("kind", MESSAGES)
def test_the_messages_that_hold_them_are_valid_and_what_they_become_is_found(kind, rules):
    (submission,) = parse(kind, json.dumps(MESSAGES[kind]()), rules).submissions
    held = {name for name, text in TEXTS.items() if json.dumps(text)[1:-1] in json.dumps(MESSAGES[kind]())}
    assert found(repr(submission)) == held
    assert held < planted(kind)


def test_each_is_planted_for_one_kind_at_least():
    assert set.union(*map(planted, Kind)) == CANARIES.keys()


def test_every_borrowers_text_of_a_draft_is_planted():
    kept = {"currency", "client_id", "loan_id", "internal_client_id", "internal_loan_id", "gender"}
    texts = {name: value for name, value in draft().items() if isinstance(value, str) and name not in kept}
    assert texts
    assert all(found(value) for value in texts.values())
