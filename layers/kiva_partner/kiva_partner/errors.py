"""What can go wrong with a submission, each error named by what the caller must do next.

No text in here ever holds a borrower's data, a token or a secret: errors end up in logs, dead-letter attributes and
API answers. They name fields, statuses and settings.
"""

from pathlib import Path

from msgspec import Struct


class SubmissionError(Exception):
    """Anything that keeps a submission from being accepted by Kiva."""


class Violation(Struct, frozen=True):
    """One broken rule: `path` is the field (`$.entreps[0].amount`), `rule` what it must be. Never the value."""

    path: str
    rule: str

    def __str__(self) -> str:
        return f"{self.path}: {self.rule}"


class InvalidMessage(SubmissionError):
    """The message breaks our rules: correct it and send it anew. Sending it again as it is cannot help."""

    def __init__(self, *violations: Violation, too_large: bool = False) -> None:
        super().__init__("; ".join(str(violation) for violation in violations))
        self.violations = violations
        self.too_large = too_large


class Rejected(SubmissionError):
    """Kiva answered and refused: nothing was created. Final for this content; correct it and send it anew.

    `text` is Kiva's own wording, unmasked: mask what came from the request before anybody sees it.
    """

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(f"Kiva refused it with HTTP {status}")
        self.status = status
        self.text = text


class NotSent(SubmissionError):
    """Kiva certainly did not process it: let it come again, not before `retry_after` seconds where Kiva said so.

    `cause` is the class of the error for which there was no connection (`NameResolutionError`), else empty.
    """

    def __init__(
        self, reason: str, *, status: int | None = None, retry_after: float | None = None, cause: str = ""
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after
        self.cause = cause


class KivaUnavailable(NotSent):
    """Kiva or its token service takes nothing: no connection, or an answer that says so. An alarm watches for these."""


class OutcomeUnknown(SubmissionError):
    """It was sent, and no trustworthy answer came back: record it. A person looks before anything is sent again.

    `text` is Kiva's own wording, unmasked, as in `Rejected`.
    """

    def __init__(self, reason: str, *, status: int | None = None, text: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.text = text


class NotDecidable(SubmissionError):
    """It does not wait for a person's decision, or not yet: look again, not before `retry_after` seconds if given."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Misconfigured(SubmissionError):
    """Credentials, scopes or settings are wrong, so every message would fail alike: raise the alarm, let them wait."""


class NotConfigured(Misconfigured):
    """A fresh stack, for which nobody has stored Kiva's credentials yet. It waits, and no alarm is raised."""

    def __init__(
        self, text: str = "not configured yet: store Kiva's credentials (relay credentials --stage …)"
    ) -> None:
        super().__init__(text)


class NewerVersion(SubmissionError):
    """A newer version of the relay wrote it, and goes on with it: leave it as it is, and let its message be retried."""

    def __init__(self) -> None:
        super().__init__("a newer version of the relay wrote it, and it is left to that; deploy that version again")


class WrongTrigger(SubmissionError):
    """Something called a function that it is not for. Nothing was claimed, so whoever called keeps its event."""


def where(error: BaseException) -> str:
    """Class and place of an error, for the log. Its text is left out: it may hold what was being handled."""
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    place = f" at {Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}" if frame else ""
    return f"{type(error).__name__}{place}"
