"""Photos of drafts: recognised by their first bytes, limited in size, and named by their content.

They are never decoded here: a photo of 50 KB may unfold to gigabytes, so what is looked at is its header.

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
    """The image in `content`, or the rules it breaks: PNG, JPEG or GIF by its header, `MAX_PIXELS`, `max_bytes`."""
    if len(content) > max_bytes:
        return None, [f"must be at most {max_bytes} bytes when decoded"]
    media_type = next((it for signature, it in _SIGNATURES.items() if content.startswith(signature)), "")
    pixels = _PIXELS[media_type](content) if media_type else 0
    if not pixels:
        return None, ["must hold a PNG, JPEG or GIF"]
    if pixels > MAX_PIXELS:
        return None, [f"must have at most {MAX_PIXELS} pixels"]
    return Image(media_type, content), []


def read_image(data_uri: str, max_bytes: int) -> tuple[Image | None, list[str]]:
    """The image in a base64 data URI, or the rules it breaks."""
    prefix = _DATA_URI.match(data_uri)
    if not prefix:
        return None, ["must be a data URI of an image in base64 (data:image/png;base64,…)"]
    if len(data_uri) > max_bytes * 4 / 3 + 100:
        return None, [f"must be at most {max_bytes} bytes when decoded"]
    try:
        content = base64.b64decode(data_uri[prefix.end() :], validate=True)
    except (binascii.Error, ValueError):
        return None, ["must be valid base64 after the comma"]
    return sniff_image(content, max_bytes)


def _pixels_of_png(content: bytes) -> int:
    """Width times height by IHDR, which comes first (W3C PNG §5.6); 0 when it cannot be read."""
    return _product(content[16:20], content[20:24], "big") if content[12:16] == b"IHDR" else 0


def _pixels_of_gif(content: bytes) -> int:
    """By the logical screen descriptor (GIF89a §18)."""
    return _product(content[6:8], content[8:10], "little")


def _pixels_of_jpeg(content: bytes) -> int:
    """By the frame header, for which the segments in front of it are skipped (ITU T.81 §B.2.2)."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER.match(content, at)
        if not marker:
            break
        at = marker.end()
        if marker[1][0] in _FRAMES:
            return _product(content[at + 5 : at + 7], content[at + 3 : at + 5], "big")
        at += int.from_bytes(content[at : at + 2])
    return 0


MAX_SEGMENTS = 1000
"""In front of the frame; a camera writes about ten."""
_MARKER = re.compile(rb"\xff++([^\xff])", re.DOTALL)  # any number of FF may stand in front of one
# SOF0 to SOF15; the numbers between them that are left out mean tables.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _product(width: bytes, height: bytes, order: Literal["big", "little"]) -> int:
    return int.from_bytes(width, order) * int.from_bytes(height, order)


_PIXELS = {"image/png": _pixels_of_png, "image/gif": _pixels_of_gif, "image/jpeg": _pixels_of_jpeg}
