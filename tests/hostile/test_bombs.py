"""Small texts that are dear to read: each gets its verdict for memory in proportion to its size."""

import base64
import json
import tracemalloc
import zlib

import pytest

from hostile.mutator import real_messages
from images import chunk, data_uri, gif, jpeg, png
from kiva_partner.api import MAX_BODY_BYTES
from kiva_partner.errors import InvalidMessage
from kiva_partner.messages import Kind, Photo, parse
from kiva_partner.payloads import Payloads
from kiva_partner.photos import MAX_PIXELS, read_image, sniff_image

MEGABYTE = 1_000_000
TIMES = 80
"""What a byte of JSON may cost: an empty object, two bytes and a comma, is 64 in Python."""

BOMBS = {
    "opening brackets": "[" * MEGABYTE,
    "objects in objects": '{"a":' * (MEGABYTE // 5),
    "brackets that close": "[" * 400_000 + "]" * 400_000,
    "empty objects": f"[{','.join(['{}'] * 300_000)}]",
    "empty lists": f"[{','.join(['[]'] * 300_000)}]",
    "one number": "9" * MEGABYTE,
    "one number with a point": "0." + "9" * (MEGABYTE - 2),
    "one exponent": "1e" + "9" * (MEGABYTE - 2),
    "one name": f'{{"{"k" * (MEGABYTE - 10)}":1}}',
    "one text": f'"{"x" * (MEGABYTE - 2)}"',
    "one name many times": f"{{{','.join(['"a":1'] * 100_000)}}}",
    "many names": f"{{{','.join(f'"{number}":1' for number in range(70_000))}}}",
    "escapes": '"' + "\\u0041" * 160_000 + '"',
    "half surrogates": '"' + "\\ud800" * 160_000 + '"',
    "combining marks": '"' + "\u0301" * 400_000 + '"',
    "marks that fall apart into two": '"' + "\u0f73" * 300_000 + '"',
    "ligatures that grow in other forms": '"' + "\ufdfa" * 300_000 + '"',
    "hangul": '"' + "\u1100\u1161\u11a8" * 100_000 + '"',
    "spaces": " " * MEGABYTE,
    "numbers": f"[{','.join(['1'] * 400_000)}]",
    "rows": json.dumps({"period": "2026-10", "repayments": [{}] * 200_000}),
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_a_bomb_of_json_is_refused_for_memory_in_proportion(oracle, text):
    body = text.encode()
    with _memory() as peak:
        assert oracle.by_queue(Kind.REPAYMENT, body) is False
    assert peak() < TIMES * len(body)
    with _memory() as peak:
        assert oracle.by_api(Kind.REPAYMENT, body, in_base64=True) in (400, 413)
    assert peak() < TIMES * len(body)


FUNCTION_MEMORY = 512 * 2**20
"""`MemorySize` of the template."""


@pytest.mark.parametrize("part", ["{}", '[{"":{}}]', "1.5", '"ab"', "1"])
def test_as_much_as_a_request_can_hold_leaves_half_of_a_functions_memory(oracle, part):
    """A quarter of it is tried, for measuring is slow."""
    body = f"[{','.join([part] * (MAX_BODY_BYTES // 4 // (len(part) + 1)))}]".encode()
    with _memory() as peak:
        assert oracle.by_api(Kind.REPAYMENT, body, in_base64=False) == 400
    assert 4 * peak() < FUNCTION_MEMORY / 2


@pytest.mark.parametrize("in_base64", [True, False])
def test_what_is_longer_than_a_request_can_be_is_not_even_read(oracle, in_base64):
    with _memory() as peak:
        assert oracle.by_api(Kind.REPAYMENT, b"[" * (MAX_BODY_BYTES + 1), in_base64=in_base64) == 413
    assert peak() < 30 * 2**20


def test_a_message_longer_than_a_queue_takes_is_not_even_read(rules):
    body = "{}," * 2_000_000
    with _memory() as peak, pytest.raises(InvalidMessage, match="at most 1000000 bytes"):
        parse(Kind.REPAYMENT, body, rules)
    assert peak() < 2 * len(body)


# --- photos -----------------------------------------------------------------------------------------------------------

ZEROS = zlib.compress(b"\0" * 200_000_000, 9)
"""200 MB in 200 kB."""


TOO_MANY = f"must have at most {MAX_PIXELS} pixels"
NO_PHOTO = "must hold a PNG, JPEG or GIF"
BROKEN_OFF = "breaks off: {} is missing at the end; send the whole photo"
PHOTOS = {
    "png of 400 megapixels": (png(20_000, 20_000), TOO_MANY),
    "png as large as can be": (png(2**32 - 1, 2**32 - 1), TOO_MANY),
    "jpeg as large as can be": (jpeg(65_535, 65_535), TOO_MANY),
    "gif as large as can be": (gif(65_535, 65_535), TOO_MANY),
    "one pixel row too much": (png(5000, 5001), TOO_MANY),
    "png without a width": (png(0, 10), NO_PHOTO),
    "png cut": (png()[:20], NO_PHOTO),
    "png without IHDR": (b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", ZEROS[:100]), NO_PHOTO),
    "png without IEND": (png()[:-12], BROKEN_OFF.format("IEND")),
    "png of empty chunks": (png()[:-12] + chunk(b"abcd", b"") * 430_000, BROKEN_OFF.format("IEND")),
    "png whose chunk ends beyond it": (png()[:-12] + b"\xff\xff\xff\xffIDAT", BROKEN_OFF.format("IEND")),
    "jpeg cut": (jpeg()[:20], NO_PHOTO),
    "jpeg without EOI": (jpeg()[:-2], BROKEN_OFF.format("EOI")),
    "jpeg whose scan is fill bytes": (jpeg()[:-2] + b"\xff" * 5_000_000, BROKEN_OFF.format("EOI")),
    "jpeg whose scan is stuffed bytes": (jpeg()[:-2] + b"\xff\0" * 2_500_000, BROKEN_OFF.format("EOI")),
    "jpeg of empty scans": (jpeg()[:-2] + b"\xff\xda\0\2" * 1_250_000, BROKEN_OFF.format("EOI")),
    "gif of one-byte blocks": (gif()[:-1] + b"\x21\xfe" + b"\1a" * 2_600_000, BROKEN_OFF.format("its trailer")),
    "jpeg of fill bytes": (b"\xff\xd8" + b"\xff" * 5_000_000, NO_PHOTO),
    "jpeg of empty segments": (b"\xff\xd8" + b"\xff\xe0\0\2" * 1_250_000, NO_PHOTO),
    "jpeg whose segment ends beyond it": (b"\xff\xd8\xff\xe0\xff\xff", NO_PHOTO),
    "jpeg whose segment has no length": (b"\xff\xd8\xff\xe0\0\0" * 100, NO_PHOTO),
    "gif cut": (b"GIF89a\1\0", NO_PHOTO),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', NO_PHOTO),
    "webp": (b"RIFF\x24\0\0\0WEBPVP8 ", NO_PHOTO),
    "bmp": (b"BM" + b"\0" * 60, NO_PHOTO),
    "tiff": (b"II*\0\x08\0\0\0", NO_PHOTO),
    "ico": (b"\0\0\1\0\1\0", NO_PHOTO),
    "pdf": (b"%PDF-1.7\n", NO_PHOTO),
    "zip": (b"PK\3\4", NO_PHOTO),
    "html": (b"<html><script>", NO_PHOTO),
    "nothing": (b"", NO_PHOTO),
    "one byte too long": (png(rest=b"\0" * 5_242_880), "must be at most 5242880 bytes when decoded"),
}
HARMLESS = {
    "png whose text unfolds": png(chunks=chunk(b"zTXt", b"c\0\0" + ZEROS)),
    "png whose pixels unfold": png(1, 1, chunks=chunk(b"IDAT", ZEROS)),
    "gif that is a script too": gif(rest=b"*/=1;alert(1)"),
    "jpeg with a zip behind it": jpeg(rest=b"PK\3\4"),
}


@pytest.mark.parametrize(("content", "rule"), PHOTOS.values(), ids=PHOTOS)
def test_a_photo_that_is_none_or_would_unfold_is_refused_by_its_header(content, rule, rules):
    with _memory() as peak:
        for declared in ("image/png", "image/svg+xml"):
            assert read_image(data_uri(content, declared), rules.max_image_bytes) == (None, [rule])
    assert peak() < 5 * len(content) + 100_000


@pytest.mark.parametrize(("content", "rule"), PHOTOS.values(), ids=PHOTOS)
def test_so_is_one_in_the_bucket(content, rule, rules):
    payloads = Payloads(lambda: _Bucket(content), "payloads", rules.max_image_bytes)
    with pytest.raises(InvalidMessage) as refusal:
        payloads.load_photo(Photo("photos/a.png"))
    assert [each.rule for each in refusal.value.violations] == [rule]


@pytest.mark.parametrize("content", HARMLESS.values(), ids=HARMLESS)
def test_what_is_behind_the_header_is_never_unfolded(content, rules):
    with _memory() as peak:
        image, broken = sniff_image(content, rules.max_image_bytes)
    assert (image.content, broken) == (content, [])
    assert peak() < 100_000


def test_the_type_of_a_photo_is_what_its_bytes_say(rules):
    image, _ = read_image(data_uri(gif(), "image/png"), rules.max_image_bytes)
    assert image.data_uri.startswith("data:image/gif;base64,")


@pytest.mark.parametrize(("content", "rule"), [PHOTOS["png of 400 megapixels"], PHOTOS["svg"]], ids=["pixels", "svg"])
def test_a_draft_with_such_a_photo_is_refused_both_ways(oracle, content, rule):
    draft = next(document for kind, document in real_messages() if kind is Kind.LOAN_DRAFT)
    draft.pop("photo", None)
    body = json.dumps({**draft, "image_encoded": f"data:image/png;base64,{base64.b64encode(content).decode()}"})
    assert oracle.by_queue(Kind.LOAN_DRAFT, body.encode()) is False
    assert oracle.by_api(Kind.LOAN_DRAFT, body.encode(), in_base64=False) == 400


class _Bucket:
    """S3 with one object, whatever is asked for."""

    class exceptions:  # noqa: N801 boto3's name
        NoSuchKey = KeyError

    def __init__(self, content):
        self._content = content

    def get_object(self, **_):
        return {"Body": self}

    def read(self, most=None):
        given, self._content = self._content[:most], self._content[most:] if most else b""
        return given


class _memory:  # noqa: N801 reads as what it is: with _memory() as peak
    """The most that Python had in hand at once, beyond what it had before."""

    def __enter__(self):
        tracemalloc.start()
        return lambda: self._peak

    def __exit__(self, *_):
        self._peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
