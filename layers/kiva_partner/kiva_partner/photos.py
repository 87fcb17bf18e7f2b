"""Photos of drafts: recognised by their first bytes, limited in size, and named by their content.

Kiva takes a photo as a data URI in `image_encoded`; PNG, JPEG and GIF are what integrators have sent with success.
"""

import base64
import binascii
import hashlib
import re
from typing import NamedTuple

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


_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}
_DATA_URI = re.compile(r"data:image/[a-z+.-]{1,20};base64,")


def sniff_image(content: bytes, max_bytes: int) -> tuple[Image | None, list[str]]:
    """The image in `content`, or the rules it breaks (PNG, JPEG or GIF by its first bytes; at most `max_bytes`)."""
    if len(content) > max_bytes:
        return None, [f"must be at most {max_bytes} bytes when decoded"]
    for signature, media_type in _SIGNATURES.items():
        if content.startswith(signature):
            return Image(media_type, content), []
    return None, ["must hold a PNG, JPEG or GIF"]


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
