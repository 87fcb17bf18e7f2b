"""What is too large or too precious for a message: photos, the payload of UNKNOWN submissions, oversized dead letters.

All of it lies encrypted in one bucket of the stack, each sort below a prefix of its own that forgets at its own time.
"""

import re
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from . import formats
from .errors import InvalidMessage, Violation
from .messages import Kind, Photo, Submission, from_text, to_text
from .photos import Image, sniff_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_s3 import S3Client

NO_SUCH_PHOTO = Violation("$.photo.s3_key", "names no object of the payload bucket")
NOT_FOUND = 404

UNKNOWN_PREFIX = "unknown/"
DEAD_LETTER_PREFIX = "dead-letters/"
_KEY = re.compile(rf"{UNKNOWN_PREFIX}([a-z_]+)/([A-Za-z0-9._~:-]+)/([0-9a-f]{{16}})")
_POINTER = re.compile(r'\{"kept": "([^"]*)".*, "v": ([0-9]+)\}')
"""What every version's pointers look like; between the two a newer one may say more."""


class Kept(Struct, frozen=True):
    """Where a submission of unknown outcome is kept. Its content is part of it: a reference can be used again."""

    kind: Kind
    reference: str
    fingerprint: str

    @classmethod
    def of(cls, submission: Submission) -> "Kept":
        """Where this submission is kept, if it is."""
        return cls(submission.kind, submission.reference, submission.fingerprint[:16])

    @classmethod
    def at(cls, key: str) -> "Kept | None":
        """What lies under a key, if that is such a key."""
        found = _KEY.fullmatch(key)
        return cls(Kind(found[1]), found[2], found[3]) if found and found[1] in set(Kind) else None

    @property
    def key(self) -> str:
        """The key in the payload bucket."""
        return f"{UNKNOWN_PREFIX}{self.kind}/{self.reference}/{self.fingerprint}"

    @property
    def pointer(self) -> str:
        """The message that stands for it in a queue (a claim check)."""
        return f'{{"kept": "{self.key}", "v": {formats.VERSION}}}'


class Payloads:
    """The payload bucket. Whatever else fails in here is AWS's error, and what it was for comes again."""

    def __init__(self, s3: "Callable[[], S3Client]", bucket: str, max_image_bytes: int) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._max_image_bytes = max_image_bytes

    def store_photo(self, image: Image) -> None:
        """Put a photo where a message can name it."""
        self._put(image.s3_key, image.content, ContentType=image.media_type)

    def is_missing(self, photo: Photo) -> bool:
        """Whether S3 says that it has no such photo. A role that may not list the bucket would be told 403 instead.

        Source: Amazon S3 API Reference, "HeadObject", Permissions.
        """
        s3 = self._s3()
        try:
            s3.head_object(Bucket=self._bucket, Key=photo.s3_key)
        except s3.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == NOT_FOUND:
                return True
            raise
        return False

    def load_photo(self, photo: Photo) -> str:
        """The data URI of a stored photo. Raises InvalidMessage when it is missing or is no photo."""
        try:
            content = self._get(photo.s3_key, most=self._max_image_bytes + 1)
        except KeyError:
            raise InvalidMessage(NO_SUCH_PHOTO) from None
        image, broken = sniff_image(content, self._max_image_bytes)
        if image is None:
            raise InvalidMessage(*(Violation("$.photo", rule) for rule in broken))
        return image.data_uri

    def keep(self, submission: Submission) -> str:
        """Keep a submission whose outcome is unknown, so that sending it again needs nobody upstream. Gives its key."""
        key = Kept.of(submission).key
        self._put(key, to_text(submission), ContentType="application/json")
        return key

    def load(self, kept: Kept) -> Submission:
        """The submission that was kept. Raises KeyError when it is gone, which it is soon after it was settled."""
        return from_text(self._get(kept.key).decode())

    def all_kept(self) -> "Iterator[Kept]":
        """Everything that is kept, of all kinds."""
        pages = self._s3().get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=UNKNOWN_PREFIX)
        for page in pages:
            for found in page.get("Contents", []):
                if kept := Kept.at(found["Key"]):
                    yield kept

    def forget(self, kept: Kept) -> None:
        """Forget a kept submission."""
        self._s3().delete_object(Bucket=self._bucket, Key=kept.key)

    def put_dead_letter(self, message_id: str, body: bytes) -> str:
        """Keep the body of a dead letter that is too large for its queue. Gives its key."""
        key = f"{DEAD_LETTER_PREFIX}{message_id}"
        self._put(key, body)
        return key

    def _put(self, key: str, content: bytes, **more: Any) -> None:
        self._s3().put_object(Bucket=self._bucket, Key=key, Body=content, **more)

    def _get(self, key: str, most: int | None = None) -> bytes:
        """An object, or so many bytes of one that has more."""
        s3 = self._s3()
        try:
            body = s3.get_object(Bucket=self._bucket, Key=key)["Body"]
        except s3.exceptions.NoSuchKey:
            raise KeyError(key) from None
        content = body.read(most)
        # Only reading beyond the end notices that S3 broke off before it.
        return content if most and len(content) >= most else content + body.read()


def pointed(body: str) -> Kept | None:
    """What a message points to; None for every message that is no pointer. Raises NewerVersion."""
    found = _POINTER.fullmatch(body)
    if not found:
        return None
    formats.refuse_newer(found[2])
    kept = Kept.at(found[1])
    return kept if kept and kept.pointer == body else None
