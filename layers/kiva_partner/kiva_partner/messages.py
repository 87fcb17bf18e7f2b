"""What a producer sends: loan drafts, journal updates and repayments, parsed, checked, and split into submissions.

A **message** is Kiva's own JSON for its kind, plus an optional top-level `reference` (and `period` for repayments).
A **submission** is one thing that Kiva must take: one draft, one journal, one repayment. Field names, types and rules
follow Kiva's Partner API (partner portal: "Draft loans", "Post journals", "Report payments").
"""

import hashlib
import re
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from . import envelopes, formats
from .characters import Form, in_id, in_name, in_text, refusal
from .errors import InvalidMessage, Violation
from .photos import read_image
from .settings import AmountMode, PartnerRules
from .strict_json import decode, encode, shown_name

MAX_MESSAGE_BYTES = 1_000_000
"""A little under SQS's 1 MiB, so that a message always fits its queue together with the reason for a dead letter."""

MAX_ROWS = 5_000
"""Of one message; what the API shows of so many mostly fits into one answer of a Lambda function (6 MB)."""

FROM_API = "FromApi"
"""Attribute of a message in a queue that came by the API, whose sender was told where to look it up; the version of
what wrote it (formats.py)."""

MAX_AMOUNT = Decimal(10) ** 12
CENT = Decimal("0.01")


class Kind(StrEnum):
    """The three kinds of submission, called as Kiva's scopes call them (`create:loan_draft`, …)."""

    LOAN_DRAFT = "loan_draft"
    JOURNAL_UPDATE = "journal_update"
    REPAYMENT = "repayment"

    @property
    def scope(self) -> str:
        """The OAuth scope that Kiva asks for."""
        return f"create:{self.value}"


class Money(Decimal):
    """An amount in the loan's currency, to the cent: never negative, never through a float."""


# --- the schema of what producers send ------------------------------------------------------------------------------

# `$` alone would let a newline through at the end; `\Z` is no JSON Schema.
_REFERENCE = r"^[A-Za-z0-9][A-Za-z0-9._~-]{0,99}$(?!\n)"
_LINE = r"^[^\x00-\x1f\x7f-\x9f]*$(?!\n)"
_CURRENCY = r"^[A-Z]{3}$(?!\n)"
_S3_KEY = r"^photos/(?!.*(//|\.\.))[A-Za-z0-9][A-Za-z0-9._/-]{0,200}$(?!\n)"
_IMAGE_URL = r"^https://[A-Za-z0-9.-]+(:[0-9]+)?/[!-~]*$(?!\n)"
_PERIOD = r"^20[0-9]{2}-(0[1-9]|1[0-2])$(?!\n)"
_KIVA_REFERENCE = r"^[A-Za-z0-9-]{1,64}$(?!\n)"
_IN_WORDS = {
    _KIVA_REFERENCE: "must be the id that Kiva shows: letters, digits and - only, 64 at most",
    _REFERENCE: "must be letters, digits and . _ ~ - only, 100 at most",
    _LINE: "must be one line without control characters",
    _CURRENCY: "must be a currency code of ISO 4217 (three capital letters)",
    _S3_KEY: (
        "must be a key of the payload bucket: photos/ and a name that may hold letters, digits and . _ / - only "
        "(no blanks, accents or parentheses, no // or ..)"
    ),
    _IMAGE_URL: "must be a public https URL",
    _PERIOD: "must be a month (YYYY-MM)",
}

# Each text says what it is, and so which characters it may hold: the form is part of the type.
Reference = Annotated[str, Meta(pattern=_REFERENCE, description="Your own id of this, for ever"), in_id]
KivaReference = Annotated[str, Meta(pattern=_KIVA_REFERENCE, description="Kiva's own id of what was created"), in_id]
Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=_LINE), in_id]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=_LINE), in_name]
Line = Annotated[str, Meta(min_length=1, max_length=200, pattern=_LINE), in_text]
Text = Annotated[str, Meta(min_length=1, max_length=20_000), in_text]
CatalogueId = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class Strict(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Kiva ignores what it does not know; we refuse it, because an ignored field is a producer's lost intention."""

    def __post_init__(self) -> None:
        """Refuse the characters that a field must not hold. A ValueError gets the path of this object from msgspec."""
        for name, form in _forms(type(self)):
            text = getattr(self, name)
            if text is not UNSET and (character := form(text)):
                raise ValueError(f"{name} {refusal(character)}")


@cache
def _forms(schema: type[Strict]) -> list[tuple[str, Form]]:
    """The text fields of a schema, each with its form. What may be absent is a union, and the form is in a part."""
    return [
        (name, form)
        for name, annotation in schema.__annotations__.items()
        for part in (annotation, *getattr(annotation, "__args__", ()))
        for form in getattr(part, "__metadata__", ())
        if form in (in_id, in_name, in_text)
    ]


class Entrep(Strict, frozen=True, kw_only=True):
    """One borrower of a draft."""

    client_id: Id
    loan_id: Id
    first_name: Name
    last_name: Name | UnsetType = UNSET
    gender: Annotated[str, Meta(description="female, male or unknown"), in_id]
    amount: Money


class Instalment(Strict, frozen=True, kw_only=True):
    """One expected repayment of the schedule."""

    date: date
    principal: Money
    interest: Money | UnsetType = UNSET


class Photo(Strict, frozen=True):
    """A photo that travels outside its message (a claim check): a key of the payload bucket, below `photos/`."""

    s3_key: Annotated[str, Meta(pattern=_S3_KEY), in_id]


class LoanDraft(Strict, frozen=True, kw_only=True):
    """`POST loan_draft`: one entry in `entreps` is an individual loan, two or more are a group."""

    reference: Reference | UnsetType = UNSET
    activity_id: CatalogueId | UnsetType = UNSET
    theme_type_id: CatalogueId | UnsetType = UNSET
    description_language_id: CatalogueId | UnsetType = UNSET
    location: Name | UnsetType = UNSET
    currency: Annotated[str, Meta(pattern=_CURRENCY, description="ISO 4217"), in_id]
    loanuse: Line | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    client_waiver_signed: bool | UnsetType = UNSET
    disburse_time: date | UnsetType = UNSET
    entreps: Annotated[list[Entrep], Meta(min_length=1, max_length=100)]
    schedule: Annotated[list[Instalment], Meta(min_length=1, max_length=500)] | UnsetType = UNSET
    group_name: Name | UnsetType = UNSET
    internal_client_id: Id | UnsetType = UNSET
    internal_loan_id: Id | UnsetType = UNSET
    not_pictured: Annotated[list[bool], Meta(min_length=1)] | UnsetType = UNSET
    image_encoded: Annotated[str, Meta(description="data URI with base64 of a PNG, JPEG or GIF"), in_id] | UnsetType = (
        UNSET
    )
    photo: Photo | UnsetType = UNSET


class Journal(Strict, frozen=True, kw_only=True):
    """One borrower update."""

    internal_loan_id: Id
    internal_client_id: Id | UnsetType = UNSET
    subject: Line
    body: Text
    image_url: Annotated[str, Meta(pattern=_IMAGE_URL, max_length=2000), in_id] | UnsetType = UNSET


class JournalUpdates(Strict, frozen=True, kw_only=True):
    """`POST journals`."""

    reference: Reference | UnsetType = UNSET
    journals: Annotated[list[Journal], Meta(min_length=1, max_length=MAX_ROWS)]


class Repayment(Strict, frozen=True, kw_only=True):
    """One row of a repayment report."""

    loan_id: Id
    client_id: Id | UnsetType = UNSET
    amount: Money
    payment_id: Reference | UnsetType = UNSET


class Repayments(Strict, frozen=True, kw_only=True):
    """`POST repayments`: `period` is the reporting month, needed unless a `reference` is given."""

    reference: Reference | UnsetType = UNSET
    period: Annotated[str, Meta(pattern=_PERIOD), in_id] | UnsetType = UNSET
    repayments: Annotated[list[Repayment], Meta(min_length=1, max_length=MAX_ROWS)]


SCHEMAS: dict[Kind, type[LoanDraft | JournalUpdates | Repayments]] = {
    Kind.LOAN_DRAFT: LoanDraft,
    Kind.JOURNAL_UPDATE: JournalUpdates,
    Kind.REPAYMENT: Repayments,
}


# --- what becomes of it -----------------------------------------------------------------------------------------------


class Submission(Struct, frozen=True):
    """One thing that Kiva must take once.

    `content` is the JSON object as Kiva gets it (for a draft without its photo when `photo` is set), `fingerprint` a
    SHA-256 over it, `warnings` what PA2 will want mended although Kiva takes it (pa2.py), `period` the month that a
    repayment is for, `amount` what it states of its loan for all of that month (of an instalment nothing), `client_id`
    whom a draft is for (of a group: the group's id), by which it is found again at Kiva.
    """

    kind: Kind
    reference: str
    loan_id: str
    content: dict[str, Any]
    fingerprint: str
    warnings: tuple[Violation, ...] = ()
    photo: Photo | None = None
    period: str = ""
    amount: str = ""
    client_id: str = ""


class Message(Struct, frozen=True):
    """A valid message: its `reference` names it as a whole, its submissions each have one of their own."""

    kind: Kind
    reference: str
    submissions: tuple[Submission, ...]


# --- parsing --------------------------------------------------------------------------------------------------------


def parse(kind: Kind, body: str, rules: PartnerRules) -> Message:
    """Turn a producer's text into a valid message.

    Raises:
        InvalidMessage: naming each field and rule that was broken, and never a value.
    """
    size = len(body.encode("utf-8", "surrogatepass"))
    if size > MAX_MESSAGE_BYTES:
        rule = f"must be at most {MAX_MESSAGE_BYTES} bytes; send long lists as several messages, photos through `photo`"
        raise InvalidMessage(Violation("$", rule), too_large=True)
    return parse_json(kind, decode(body), rules)


def parse_json(kind: Kind, document: object, rules: PartnerRules) -> Message:
    """As `parse`, for a message that was read by `strict_json` and may be too large for a queue (an inline photo)."""
    _refuse_other_kind(kind, document)
    message = checked(document, SCHEMAS[kind])
    match message:
        case LoanDraft():
            return _loan_draft(message, rules)
        case JournalUpdates():
            return _journal_updates(message, rules)
        case Repayments():
            return _repayments(message, rules)


def checked[Schema](document: object, schema: type[Schema]) -> Schema:
    """A document in the form of its schema. Raises InvalidMessage, naming field and rule."""
    try:
        return msgspec.convert(document, schema, dec_hook=_money)
    except msgspec.ValidationError as error:
        raise InvalidMessage(_violation(str(error), document)) from None


def _money(wanted: type, value: object) -> object:
    """Msgspec's hook for `Money`; what it raises comes out with the field's path."""
    if wanted is not Money:
        raise NotImplementedError
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("must be a number")  # noqa: TRY004 msgspec adds the path to a ValueError too
    amount = Money(value)
    if amount.is_signed() and amount:
        raise ValueError("must not be negative")
    if amount >= MAX_AMOUNT:
        raise ValueError("is too large for an amount")
    # One spelling for one amount, or 1e3, 1000 and 1000.00 would have three fingerprints.
    cents = Money(abs(amount).quantize(CENT))
    if cents != amount:
        raise ValueError("must have at most two decimals")
    return cents


def _violation(text: str, document: object) -> Violation:
    """Take msgspec's message apart: `Expected `int`, got `str` - at `$.entreps[0].amount``. It never holds values."""
    # Not split at the first " - at ": that may be part of an unknown field's name, which the sender chose.
    where = re.search(r" - at `(\$[a-z0-9_.\[\]]*)`\Z", text)
    rule, path = (text[: where.start()], where[1]) if where else (text, "$")
    if rule.startswith("Expected `str` matching regex"):
        words = next(words for pattern, words in _IN_WORDS.items() if repr(pattern) in rule)
        unseen = _unseen(_at(path, document))
        return Violation(path, refusal(unseen) if unseen else words)
    if of_field := re.fullmatch(r"([a-z0-9_]+) (holds U\+.*)", rule):  # by `Strict.__post_init__`
        return Violation(f"{path}.{of_field[1]}", of_field[2])
    if named := re.fullmatch(r"Object (contains unknown|missing required) field `(.*)`", rule, re.DOTALL):
        what = "is not a field of this kind of message" if named[1] == "contains unknown" else "is missing"
        return Violation(f"{path}.{shown_name(named[2])}", what)
    told = next((words for beginning, words in _TOLD.items() if rule.startswith(beginning)), None)
    return Violation(path, told or rule.replace("`", "").replace("Expected", "must be", 1))


_A_NUMBER = "must be in quotes, for leading zeros count"
_TOLD = {
    "Invalid enum value": "must be one of the values that openapi.json lists",  # msgspec quotes it
    "Invalid RFC3339 encoded date": "must be a date that exists (YYYY-MM-DD)",
    "Expected `str`, got `int`": _A_NUMBER,
    "Expected `str`, got `decimal`": _A_NUMBER,
}


def _at(path: str, document: Any) -> Any:
    """What stands at msgspec's path."""
    for name, index in re.findall(r"\.([a-z0-9_]+)|\[([0-9]+)\]", path):
        document = document[name or int(index)]
    return document


def _unseen(text: str) -> str | None:
    """The character that a pattern may have stumbled over: what controls, or else what no id may hold."""
    return next((it for it in text if it < " " or "\x7f" <= it < "\xa0"), None) or in_id(text)


_NO_CLIENT_ID = "is missing; this partner reports with client ids"
KIND_OF_LIST = {"journals": Kind.JOURNAL_UPDATE, "repayments": Kind.REPAYMENT, "entreps": Kind.LOAN_DRAFT}
"""The list that a message holds tells its kind."""


def _refuse_other_kind(kind: Kind, document: object) -> None:
    if envelope := envelopes.around(document):
        raise InvalidMessage(Violation("$", envelope))
    for name, other in KIND_OF_LIST.items():
        if isinstance(document, dict) and name in document and other != kind:
            raise InvalidMessage(Violation(f"$.{name}", f"belongs to a {other} message, but this is the way of {kind}"))


# --- loan drafts ----------------------------------------------------------------------------------------------------

_GROUP_FIELDS = ("group_name", "internal_client_id", "internal_loan_id", "not_pictured")
_GENDERS = ("female", "male", "unknown")


def _loan_draft(draft: LoanDraft, rules: PartnerRules) -> Message:
    group = len(draft.entreps) > 1
    violations = [*_group_rules(draft, group=group), *_entrep_rules(draft), *_schedule_rules(draft)]
    image = None
    if draft.image_encoded is not UNSET:
        if draft.photo is not UNSET:
            violations.append(Violation("$.photo", "must be absent when image_encoded is given"))
        image, broken = read_image(draft.image_encoded, rules.max_image_bytes)
        violations += [Violation("$.image_encoded", rule) for rule in broken]
    if violations:
        raise InvalidMessage(*violations)

    content: dict[str, Any] = msgspec.to_builtins(draft, builtin_types=(Decimal, Money), enc_hook=_as_is)
    content.pop("reference", None)
    content.pop("photo", None)
    photo = draft.photo or None
    digest = photo.s3_key if photo else None
    if image:
        content["image_encoded"] = image.data_uri
        digest = image.s3_key
    loan_id = draft.internal_loan_id or draft.entreps[0].loan_id
    reference = draft.reference if draft.reference is not UNSET else _segment(loan_id)
    submission = Submission(
        kind=Kind.LOAN_DRAFT,
        reference=reference,
        loan_id=loan_id,
        content=content,
        # The photo counts by its own hash, so that a draft is the same with its photo inside or beside the message.
        fingerprint=_fingerprint({**content, "image_encoded": digest}),
        photo=photo,
        client_id=draft.internal_client_id or draft.entreps[0].client_id,
    )
    return Message(Kind.LOAN_DRAFT, reference, (submission,))


def _group_rules(draft: LoanDraft, *, group: bool) -> Iterable[Violation]:
    """Kiva, "Draft loans": the four group fields belong to groups alone; PA2 cannot publish an individual with them."""
    for name in _GROUP_FIELDS:
        given = getattr(draft, name) is not UNSET
        if given and not group:
            yield Violation(f"$.{name}", "must be absent for an individual loan (one entry in entreps)")
        if group and not given:
            yield Violation(f"$.{name}", "is missing; a group loan (two or more entreps) needs it")
    if group and draft.not_pictured is not UNSET and len(draft.not_pictured) != len(draft.entreps):
        yield Violation("$.not_pictured", "must have one value for each of the entreps, in their order")


def _entrep_rules(draft: LoanDraft) -> Iterable[Violation]:
    for index, entrep in enumerate(draft.entreps):
        if entrep.gender not in _GENDERS:
            yield Violation(f"$.entreps[{index}].gender", f"must be one of {', '.join(_GENDERS)}")
        if not entrep.amount:
            yield Violation(f"$.entreps[{index}].amount", "must be more than 0")
    yield from _unique("$.entreps", "loan_id", [entrep.loan_id for entrep in draft.entreps])


def _schedule_rules(draft: LoanDraft) -> Iterable[Violation]:
    if draft.schedule is UNSET:
        return
    for index, (earlier, later) in enumerate(zip(draft.schedule, draft.schedule[1:], strict=False), start=1):
        if later.date <= earlier.date:
            yield Violation(f"$.schedule[{index}].date", "must be later than the date before it")


# --- journals -------------------------------------------------------------------------------------------------------


def _journal_updates(message: JournalUpdates, rules: PartnerRules) -> Message:
    violations = []
    if rules.needs_client_id:
        violations = [
            Violation(f"$.journals[{index}].internal_client_id", _NO_CLIENT_ID)
            for index, journal in enumerate(message.journals)
            if journal.internal_client_id is UNSET
        ]
    submissions = []
    for journal in message.journals:
        content = msgspec.to_builtins(journal)
        if not rules.needs_client_id:
            content.pop("internal_client_id", None)
        text = _fingerprint([journal.subject, journal.body])[:16]
        own = _segment(journal.internal_loan_id)
        submissions.append(
            Submission(
                kind=Kind.JOURNAL_UPDATE,
                reference=f"{own}:{text}" if message.reference is UNSET else f"{message.reference}:{own}",
                loan_id=journal.internal_loan_id,
                content=content,
                fingerprint=_fingerprint(content),
            )
        )
    rule = "is twice in this message" if message.reference is UNSET else "is twice under this one reference"
    violations += _unique("$.journals", "internal_loan_id", [each.reference for each in submissions], rule)
    if violations:
        raise InvalidMessage(*violations)
    return _list_message(Kind.JOURNAL_UPDATE, message.reference, submissions)


# --- repayments -----------------------------------------------------------------------------------------------------


def _repayments(message: Repayments, rules: PartnerRules) -> Message:
    instalments = rules.amount_mode is AmountMode.INSTALMENT
    violations = list(_repayment_rules(message, rules, instalments=instalments))
    if violations:
        raise InvalidMessage(*violations)
    submissions = []
    for row in message.repayments:
        content: dict[str, Any] = {"loan_id": row.loan_id, "amount": row.amount}
        if rules.needs_client_id and row.client_id is not UNSET:
            content["client_id"] = row.client_id
        submissions.append(
            Submission(
                kind=Kind.REPAYMENT,
                reference=_repayment_reference(message, row),
                loan_id=row.loan_id,
                content=content,
                fingerprint=_fingerprint(content),
                period=message.period or "",
                amount="" if instalments else str(row.amount),
            )
        )
    return _list_message(Kind.REPAYMENT, message.reference, submissions)


def _repayment_rules(message: Repayments, rules: PartnerRules, *, instalments: bool) -> Iterable[Violation]:
    no_reference = message.reference is UNSET
    if no_reference and message.period is UNSET and not instalments:
        yield Violation("$.period", "is missing; without a reference the reporting month (YYYY-MM) is needed")
    for index, row in enumerate(message.repayments):
        if rules.needs_client_id and row.client_id is UNSET:
            yield Violation(f"$.repayments[{index}].client_id", _NO_CLIENT_ID)
        if instalments and no_reference and row.payment_id is UNSET:
            # Two equal payments in a month are real there, so the amount cannot tell them apart.
            yield Violation(f"$.repayments[{index}].payment_id", "is missing; instalments need it, or a reference")
    if instalments:
        keys = [f"{row.loan_id}\0{row.payment_id}" for row in message.repayments]
    else:
        keys = [row.loan_id for row in message.repayments]
    yield from _unique("$.repayments", "loan_id", keys)


def _repayment_reference(message: Repayments, row: Repayment) -> str:
    loan = _segment(row.loan_id)
    if message.reference is not UNSET:
        return (
            f"{message.reference}:{loan}" if row.payment_id is UNSET else f"{message.reference}:{loan}:{row.payment_id}"
        )
    if row.payment_id is not UNSET:
        return f"{loan}:{row.payment_id}"
    return f"{message.period}:{loan}:{row.amount}"


# --- shared by the kinds --------------------------------------------------------------------------------------------


def _list_message(kind: Kind, given: str | UnsetType, submissions: list[Submission]) -> Message:
    if given is not UNSET:
        reference = given
    elif len(submissions) == 1:
        reference = submissions[0].reference
    else:
        reference = "list-" + _fingerprint([each.reference for each in submissions])[:24]
    return Message(kind, reference, tuple(submissions))


def _unique(path: str, field: str, keys: list[str], rule: str = "is twice in this message") -> Iterable[Violation]:
    seen: set[str] = set()
    for index, key in enumerate(keys):
        if key in seen:
            yield Violation(f"{path}[{index}].{field}", rule)
        seen.add(key)


def proves_nothing(kiva_reference: str) -> bool:
    """Whether what stands in the place of Kiva's id is none: nothing but zeros, a nil UUID, a program's word for it."""
    return kiva_reference.casefold() in _NO_IDS or not kiva_reference.strip("0-")


_NO_IDS = frozenset({"", "undefined", "null", "none", "nil", "nan", "unknown", "true", "false", "n-a", "na"})


def _segment(text: str) -> str:
    """An id as part of a reference: what a URL path would need to escape becomes `~` and two hex digits a byte.

    So does a dot in front: clients take `.` and `..` out of a path.
    """
    return re.sub(r"^\.|[^A-Za-z0-9._-]", lambda found: "".join(f"~{byte:02X}" for byte in found[0].encode()), text)


def _fingerprint(content: object) -> str:
    return hashlib.sha256(encode(content)).hexdigest()


def _as_is(value: object) -> object:
    return value


def to_text(submission: Submission) -> bytes:
    """A submission as JSON, to be read by `from_text` when it is to be sent again."""
    told = {name: getattr(submission, name) for name in Submission.__struct_fields__ if name != "photo"}
    return encode({"v": formats.VERSION, **told})


def from_text(text: str) -> Submission:
    """What `to_text` wrote; amounts are Decimals as before, so that its fingerprint still fits. Raises NewerVersion."""
    document = decode(text)
    if isinstance(document, dict):
        formats.refuse_newer(document.get("v"))
    return msgspec.convert(document, Submission)


def json_schema(kind: Kind, ref_template: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """JSON Schema (2020-12) of a kind's message and of the parts it refers to, for the OpenAPI document."""
    (schema,), parts = msgspec.json.schema_components(
        [SCHEMAS[kind]], schema_hook=_money_schema, ref_template=ref_template
    )
    return schema, parts


def _money_schema(wanted: type) -> dict[str, Any]:
    if wanted is not Money:
        raise NotImplementedError
    # No `multipleOf: 0.01`: validators divide floats, and so refuse 19.99.
    return {"type": "number", "minimum": 0, "description": "in the loan's currency, to the cent"}
