"""Photos of drafts: recognised by their first bytes, whole, limited in size, and named by their content.

They are never decoded here: a photo of 50 KB may unfold to gigabytes. What is looked at is its header, and how its
parts follow each other up to its end; what a phone puts behind that end is no matter.

Kiva takes a photo as a data URI in `image_encoded`; PNG, JPEG and GIF are what integrators have sent with success.
"""

import base64
import binascii
import hashlib
import re
from typing import Literal, NamedTuple

PHOTO_PREFIX = "photos/"
"""Where photos lie in the payload bucket."""


class Image(NamedTuple):
    """A photo whose type was read off its first bytes."""

    media_type: str
    content: bytes

    @property
    def data_uri(self) -> str:
        """As Kiva takes it in `image_encoded`, with the true media type."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode()}"

    @property
    def s3_key(self) -> str:
        """Named by its content: the same photo stored twice is one object, and a key stands for the bytes."""
        return f"{PHOTO_PREFIX}{hashlib.sha256(self.content).hexdigest()}.{self.media_type.removeprefix('image/')}"


MAX_PIXELS = 25_000_000
"""More than a phone's camera gives; what a decoder needs for as many fits into 100 MB."""

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}
_DATA_URI = re.compile(r"data:image/[a-z+.-]{1,20};base64,")


def sniff_image(content: bytes, max_bytes: int) -> tuple[Image | None, list[str]]:
    """The image in `content`, or the rules it breaks: a whole PNG, JPEG or GIF, `MAX_PIXELS`, `max_bytes`."""
    if len(content) > max_bytes:
        return None, [f"must be at most {max_bytes} bytes when decoded"]
    media_type = next((it for signature, it in _SIGNATURES.items() if content.startswith(signature)), "")
    pixels, is_whole = _READERS[media_type](content) if media_type else (0, False)
    if not pixels:
        return None, ["must hold a PNG, JPEG or GIF"]
    if pixels > MAX_PIXELS:
        return None, [f"must have at most {MAX_PIXELS} pixels"]
    if not is_whole:
        return None, [f"breaks off: {_ENDS[media_type]} is missing at the end; send the whole photo"]
    return Image(media_type, content), []


def read_image(data_uri: str, max_bytes: int) -> tuple[Image | None, list[str]]:
    """The image in a base64 data URI, or the rules it breaks."""
    prefix = _DATA_URI.match(data_uri)
    if not prefix:
        return None, ["must be a data URI of an image in base64 (data:image/png;base64,…)"]
    # Line breaks as in mails (RFC 2045 §6.8); nothing else that is no base64 is skipped.
    text = data_uri[prefix.end() :].replace("\r", "").replace("\n", "")
    if len(text) > max_bytes * 4 / 3 + 4:
        return None, [f"must be at most {max_bytes} bytes when decoded"]
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None, [_what_is_wrong_with(text)]
    return sniff_image(content, max_bytes)


def _what_is_wrong_with(base64_text: str) -> str:
    """RFC 4648 §4 and §5."""
    if re.fullmatch(r"[A-Za-z0-9_-]+={0,2}", base64_text) and ("-" in base64_text or "_" in base64_text):
        return "must be base64 with + and / after the comma, and not base64url with - and _"
    if re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", base64_text) and len(base64_text) % 4:
        return "must be base64 in fours after the comma: padding (=) is missing, or a part of it"
    return "must be valid base64 after the comma"


_Read = tuple[int, bool]
"""Width times height, 0 when they cannot be read; and whether the end is there."""


def _read_png(content: bytes) -> _Read:
    """By IHDR, which comes first (W3C PNG §5.6), and the chunks up to IEND (§5.3)."""
    pixels = _product(content[16:20], content[20:24], "big") if content[12:16] == b"IHDR" else 0
    at = 8
    while at < len(content):
        name = content[at + 4 : at + 8]
        at += 12 + int.from_bytes(content[at : at + 4])
        if name == b"IEND":
            return pixels, at <= len(content)
    return pixels, False


def _read_gif(content: bytes) -> _Read:
    """By the logical screen descriptor (GIF89a §18), and the blocks up to the trailer (§27)."""
    pixels = _product(content[6:8], content[8:10], "little")
    try:
        at = 13 + _color_table(content[10])
        while (block := content[at]) != 0x3B:  # noqa: PLR2004 the trailer
            if block == 0x2C:  # noqa: PLR2004 an image: its descriptor, a table, the code size
                at += 11 + _color_table(content[at + 9])
            elif block == 0x21:  # noqa: PLR2004 an extension: its label
                at += 2
            elif block:
                return pixels, False
            while size := content[at]:
                at += size + 1
            at += 1
    except IndexError:
        return pixels, False
    return pixels, True


def _color_table(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _read_jpeg(content: bytes) -> _Read:
    """By the frame header, and the segments and scans up to EOI (ITU T.81 §B.1.1.2, §B.2).

    Bytes that look like EOI are in any segment: of a preview, for one. In a scan no FF stands for itself.
    """
    at, pixels = 2, 0
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER.match(content, at)
        if not marker:
            break
        at, code = marker.end(), marker[1][0]
        if code == _EOI:
            return pixels, True
        if code in _FRAMES:
            pixels = max(pixels, _product(content[at + 5 : at + 7], content[at + 3 : at + 5], "big"))
        at += int.from_bytes(content[at : at + 2])
        if code == _SOS:
            end = _END_OF_SCAN.search(content, at)
            at = end.start() if end else len(content)
    return pixels, False


MAX_SEGMENTS = 1000
"""Of a JPEG, its scans counted; a camera writes about ten."""
_MARKER = re.compile(rb"\xff++([^\xff])", re.DOTALL)  # any number of FF may stand in front of one
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)  # restarts are part of it
# SOF0 to SOF15; the numbers between them that are left out mean tables.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOS, _EOI = 0xDA, 0xD9


def _product(width: bytes, height: bytes, order: Literal["big", "little"]) -> int:
    return int.from_bytes(width, order) * int.from_bytes(height, order)


_READERS = {"image/png": _read_png, "image/gif": _read_gif, "image/jpeg": _read_jpeg}
_ENDS = {"image/png": "IEND", "image/gif": "its trailer", "image/jpeg": "EOI"}
