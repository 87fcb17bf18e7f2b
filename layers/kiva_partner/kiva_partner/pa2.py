"""What PA2 will want mended of a draft before it can be published; Kiva's API takes it all the same.

So that a coordinator does not find it days later, it is told at once: as warnings with the submission, or with
`StrictDrafts` as a refusal. What the message breaks of Kiva's own rules was refused before (`messages.py`).
Sources: Kiva partner portal, "Draft loans"; PA2 > Loans > Drafts.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from msgspec import Struct

from .catalogue import Catalogue
from .errors import Violation
from .ledger import Row
from .messages import Kind, Message, Submission

PAST = timedelta(days=30)
AHEAD = timedelta(days=90)
"""PA2 takes a disbursal less than 30 days past and not more than 90 days ahead."""

_ASKED_FOR = (
    "activity_id",
    "theme_type_id",
    "description_language_id",
    "location",
    "loanuse",
    "description",
    "disburse_time",
    "schedule",
)


def _today() -> date:
    return datetime.now(UTC).date()


class Review(Struct, frozen=True):
    """Looks through messages; what it finds goes with their submissions as warnings."""

    catalogue: Callable[[], Catalogue | None]
    today: Callable[[], date] = _today

    def __call__(self, message: Message) -> Message:
        """The message with the findings on its drafts; other kinds have none."""
        if message.kind is not Kind.LOAN_DRAFT:
            return message
        lists, today = self.catalogue(), self.today()
        reviewed = (replace(each, warnings=tuple(findings(each, lists, today))) for each in message.submissions)
        return replace(message, submissions=tuple(reviewed))


def refusals(message: Message, rows: Mapping[str, Row]) -> list[Violation]:
    """The findings on what is new; `rows` are those of the ledger. What was taken in before goes on as it is."""
    return [
        finding
        for each in message.submissions
        if not ((row := rows.get(each.reference)) and row.fingerprint == each.fingerprint)
        for finding in each.warnings
    ]


def findings(submission: Submission, lists: Catalogue | None, today: date) -> Iterator[Violation]:
    """Everything that stands between a draft and its publication; without `lists`, what can be told without them.

    `today` is a day in UTC; a day's difference to the partner's time does not matter to limits of 30 and 90.
    """
    draft = submission.content
    for name in _ASKED_FOR:
        if not _given(draft.get(name)):
            yield Violation(f"$.{name}", "is missing, and PA2 asks for it")
    if lists:
        yield from _not_offered(draft, lists)
    yield from _borrowers(draft)
    if day := draft.get("disburse_time"):
        yield from _disbursal(date.fromisoformat(day), today)
    yield from _schedule(draft)
    if not draft.get("client_waiver_signed"):
        yield Violation("$.client_waiver_signed", "must be true: no loan is shown without the borrower's consent")
    yield from _photo(draft, has_photo=bool(submission.photo or draft.get("image_encoded")))


def _not_offered(draft: Mapping[str, Any], lists: Catalogue) -> Iterator[Violation]:
    for name, offered, where in (
        ("activity_id", lists.activities, "activities"),
        ("theme_type_id", lists.themes, "themes"),
        ("description_language_id", lists.languages, "locales"),
        ("location", lists.locations, "locations"),
        ("currency", lists.currencies, "locales"),
    ):
        value = draft.get(name)
        if _given(value) and offered and value not in offered:
            yield Violation(f"$.{name}", f"is not defined for this partner at Kiva (config/{where})")


def _borrowers(draft: Mapping[str, Any]) -> Iterator[Violation]:
    for index, borrower in enumerate(draft["entreps"]):
        if not _given(borrower.get("last_name")):
            yield Violation(f"$.entreps[{index}].last_name", "is missing, and PA2 asks for it")


def _disbursal(day: date, today: date) -> Iterator[Violation]:
    if not today - PAST < day <= today + AHEAD:
        rule = f"must be less than {PAST.days} days past and not more than {AHEAD.days} days ahead"
        yield Violation("$.disburse_time", rule)


def _schedule(draft: Mapping[str, Any]) -> Iterator[Violation]:
    schedule = draft.get("schedule")
    if schedule and sum(each["principal"] for each in schedule) != sum(each["amount"] for each in draft["entreps"]):
        yield Violation("$.schedule", "its principal must add up to the amount of the entreps")


def _photo(draft: Mapping[str, Any], *, has_photo: bool) -> Iterator[Violation]:
    if not has_photo:
        yield Violation("$.image_encoded", "is missing, and so is photo: PA2 asks for one")
    nobody = draft.get("not_pictured")
    if nobody and all(nobody):
        yield Violation("$.not_pictured", "must be false for somebody: nobody would be in the photo")


def _given(value: object) -> bool:
    return bool(value.strip() if isinstance(value, str) else value)
