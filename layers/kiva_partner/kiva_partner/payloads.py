"""What is too large or too precious for a message: photos, the payload of UNKNOWN submissions, oversized dead letters.

All of it lies encrypted in one bucket of the stack, each sort below a prefix of its own that forgets at its own time.
"""

import hashlib
import re
from typing import TYPE_CHECKING, Any

from .errors import InvalidMessage, Violation
from .messages import Photo, Submission, from_text, to_text
from .photos import Image, sniff_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

UNKNOWN_PREFIX = "unknown/"
DEAD_LETTER_PREFIX = "dead-letters/"
_POINTER = re.compile(r'\{"kept": "(unknown/[a-z_]{1,20}/[0-9a-f]{64})"\}')


class Payloads:
    """The payload bucket. Whatever else fails in here is AWS's error, and what it was for comes again."""

    def __init__(self, s3: "Callable[[], S3Client]", bucket: str, max_image_bytes: int) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._max_image_bytes = max_image_bytes

    def store_photo(self, image: Image) -> None:
        """Put a photo where a message can name it."""
        self._put(image.s3_key, image.content, ContentType=image.media_type)

    def load_photo(self, photo: Photo) -> str:
        """The data URI of a stored photo. Raises InvalidMessage when it is missing or is no photo."""
        try:
            content = self._get(photo.s3_key, self._max_image_bytes + 1)
        except KeyError:
            raise InvalidMessage(Violation("$.photo.s3_key", "names no object of the payload bucket")) from None
        image, broken = sniff_image(content, self._max_image_bytes)
        if image is None:
            raise InvalidMessage(*(Violation("$.photo", rule) for rule in broken))
        return image.data_uri

    def keep(self, submission: Submission) -> str:
        """Keep a submission whose outcome is unknown, so that sending it again needs nobody upstream. Gives its key."""
        digest = hashlib.sha256(submission.reference.encode()).hexdigest()
        key = f"{UNKNOWN_PREFIX}{submission.kind}/{digest}"
        self._put(key, to_text(submission), ContentType="application/json")
        return key

    def load(self, key: str) -> Submission:
        """The submission that was kept. Raises KeyError when it is gone, which it is as soon as it is settled."""
        return from_text(self._get(key).decode())

    def forget(self, key: str) -> None:
        """Forget a kept submission."""
        self._s3().delete_object(Bucket=self._bucket, Key=key)

    def put_dead_letter(self, message_id: str, body: bytes) -> str:
        """Keep the body of a dead letter that is too large for its queue. Gives its key."""
        key = f"{DEAD_LETTER_PREFIX}{message_id}"
        self._put(key, body)
        return key

    def _put(self, key: str, content: bytes, **more: Any) -> None:
        self._s3().put_object(Bucket=self._bucket, Key=key, Body=content, **more)

    def _get(self, key: str, limit: int | None = None) -> bytes:
        s3 = self._s3()
        try:
            return s3.get_object(Bucket=self._bucket, Key=key)["Body"].read(limit)
        except s3.exceptions.NoSuchKey:
            raise KeyError(key) from None


def pointer(key: str) -> str:
    """The message that stands for a kept submission in a queue (a claim check)."""
    return f'{{"kept": "{key}"}}'


def pointed(body: str) -> str | None:
    """The key in such a message; None for every other message."""
    found = _POINTER.fullmatch(body)
    return found[1] if found else None
