"""The version of what the relay writes for itself: rows of the ledger, messages it queues, and what it keeps.

A new version of the relay reads what older ones wrote. What a newer one wrote is left to that: while a deployment is
under way, or after it was taken back, both are at work. Nothing of it is changed or sent, and its message is retried.
"""

from .errors import NewerVersion

VERSION = 1
"""To be counted up by whoever changes what is written so that this version could not read it."""


def is_newer(version: object) -> bool:
    """Whether a version, as it was written down, is newer than this one. What is no version is not."""
    text = str(version)
    return text.isascii() and text.isdigit() and int(text[:9]) > VERSION


def refuse_newer(version: object) -> None:
    """Raises NewerVersion."""
    if is_newer(version):
        raise NewerVersion
