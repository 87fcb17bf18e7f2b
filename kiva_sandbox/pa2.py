"""What PA2 would tell the coordinator about a draft before it can be published. The API itself lets these pass."""

import base64
import binascii
import re
from collections.abc import Iterator
from datetime import date, timedelta

from kiva_sandbox.bodies import Draft
from kiva_sandbox.data import CONFIG

_REQUIRED = (
    "activity_id",
    "theme_type_id",
    "description_language_id",
    "location",
    "currency",
    "loanuse",
    "description",
    "disburse_time",
    "entreps",
    "schedule",
)
_GROUP_REQUIRED = ("group_name", "internal_client_id", "internal_loan_id", "not_pictured")
_ENTREP_REQUIRED = ("client_id", "loan_id", "first_name", "last_name", "amount")
_CHOICES = (
    ("activity_id", "activities", "activity_id"),
    ("theme_type_id", "themes", "theme_type_id"),
    ("description_language_id", "locales", "language_id"),
    ("location", "locations", "full_name"),
    ("currency", "locales", "currency"),
)
_PAST = timedelta(days=30)
_AHEAD = timedelta(days=90)
_DATA_URI = re.compile(r"data:image/(?:png|jpeg|gif);base64,")


def messages(draft: Draft, today: date) -> list[str]:
    """Everything that stands between `draft` and its publication, in the order of the wizard; empty when nothing does.

    The messages name fields and rules, never what a borrower told.
    """
    return [
        *_missing(draft),
        *_not_offered(draft),
        *_group(draft),
        *_borrowers(draft),
        *_disbursal(draft, today),
        *_schedule(draft),
        *_consent_and_photo(draft),
    ]


def is_image(uri: str) -> bool:
    """Whether `uri` is what Kiva takes as a photo, by its form alone: PNG, JPEG or GIF, and only base64 in it."""
    prefix = _DATA_URI.match(uri)
    if prefix is None or prefix.end() == len(uri):
        return False
    try:
        base64.b64decode(uri[prefix.end() :], validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _missing(draft: Draft) -> Iterator[str]:
    yield from (f"{field} is missing" for field in _REQUIRED if _is_empty(getattr(draft, field)))


def _not_offered(draft: Draft) -> Iterator[str]:
    for field, config, key in _CHOICES:
        value = getattr(draft, field)
        if not _is_empty(value) and value not in {row[key] for row in CONFIG[config]}:
            yield f"{field} is not defined for this partner (config/{config})"


def _group(draft: Draft) -> Iterator[str]:
    if not draft.is_group:
        yield from (f"{field} is for group loans only" for field in draft.group_fields)
        return
    yield from (f"{field} is missing from this group loan" for field in _GROUP_REQUIRED if not getattr(draft, field))
    if draft.not_pictured and len(draft.not_pictured) != len(draft.entreps):
        yield f"not_pictured has {len(draft.not_pictured)} value(s) for {len(draft.entreps)} borrowers"
    elif draft.not_pictured and all(draft.not_pictured):
        yield "not_pictured says that nobody is in the photo"


def _borrowers(draft: Draft) -> Iterator[str]:
    for number, entrep in enumerate(draft.entreps):
        for field in _ENTREP_REQUIRED:
            if _is_empty(getattr(entrep, field)):
                yield f"entreps[{number}].{field} is missing"
        if entrep.amount is not None and entrep.amount <= 0:
            yield f"entreps[{number}].amount must be more than zero"


def _disbursal(draft: Draft, today: date) -> Iterator[str]:
    if _is_empty(draft.disburse_time):
        return
    day = _day(draft.disburse_time)
    if day is None:
        yield "disburse_time is not a date (YYYY-MM-DD)"
    elif not today - _PAST < day <= today + _AHEAD:
        yield "disburse_time must be less than 30 days past and not more than 90 days ahead"


def _schedule(draft: Draft) -> Iterator[str]:
    days = [_day(instalment.date) for instalment in draft.schedule]
    yield from (f"schedule[{number}].date is not a date (YYYY-MM-DD)" for number, day in enumerate(days) if day is None)
    known = [day for day in days if day is not None]
    if known != sorted(set(known)):
        yield "schedule dates must ascend"
    for number, instalment in enumerate(draft.schedule):
        if any((money or 0) < 0 for money in (instalment.principal, instalment.interest)):
            yield f"schedule[{number}] must not be negative"
    if draft.schedule and sum(instalment.principal or 0 for instalment in draft.schedule) != draft.amount:
        yield "schedule principal does not add up to the amount of the borrowers"


def _consent_and_photo(draft: Draft) -> Iterator[str]:
    if not draft.client_waiver_signed:
        yield "client_waiver_signed is missing: no loan is shown without the borrower's consent"
    if _is_empty(draft.image_encoded):
        if _is_empty(draft.image_url):
            yield "a photo is missing (image_encoded)"
    elif not is_image(draft.image_encoded or ""):
        yield "image_encoded is not a data URI of a PNG, JPEG or GIF in base64"


def _is_empty(value: object) -> bool:
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def _day(text: str | None) -> date | None:
    try:
        day = date.fromisoformat(text or "")
    except ValueError:
        return None
    # Python also reads 20260901 and week dates; Kiva asks for one form.
    return day if day.isoformat() == text else None
