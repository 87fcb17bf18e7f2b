"""Files of events, read and checked before anything is sent: JSON of any kind, CSV of repayments or of journals.

What is wrong is named by file, line and rule, and never by what stands there. A CSV of repayments is what PA2 takes, of
two or three columns. Sources: Kiva partner portal, "Report payments"; PA2 > Account > Profile > "CSV upload format".
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from kiva_partner.errors import InvalidMessage, Violation
from kiva_partner.messages import KIND_OF_LIST, MAX_MESSAGE_BYTES, MAX_ROWS, Kind, parse, parse_json
from kiva_partner.photos import sniff_image
from kiva_partner.settings import AmountMode, PartnerRules
from kiva_partner.strict_json import decode, encode

ROWS_PER_MESSAGE: Final = 1000
"""Enough that ten thousand repayments are ten requests, and few enough that each is answered in a moment."""
MAX_BODY_BYTES: Final = 6_000_000
"""What a Lambda function takes in one request is a little more."""

_FRAME_BYTES: Final = 500
"""More than reference, period and brackets around the rows take."""
_AMOUNT: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,2})?")
_LIST_OF: Final = {kind: name for name, kind in KIND_OF_LIST.items()}
_COLUMNS: Final[Mapping[tuple[str, ...], Kind]] = {
    ("loan_id", "amount"): Kind.REPAYMENT,
    ("loan_id", "client_id", "amount"): Kind.REPAYMENT,
    ("loan_id", "amount", "payment_id"): Kind.REPAYMENT,
    ("loan_id", "client_id", "amount", "payment_id"): Kind.REPAYMENT,
    ("internal_loan_id", "subject", "body"): Kind.JOURNAL_UPDATE,
    ("internal_loan_id", "internal_client_id", "subject", "body"): Kind.JOURNAL_UPDATE,
    ("internal_loan_id", "subject", "body", "image_url"): Kind.JOURNAL_UPDATE,
    ("internal_loan_id", "internal_client_id", "subject", "body", "image_url"): Kind.JOURNAL_UPDATE,
}


class WrongUse(Exception):
    """The command was called in a way that cannot be meant; the message says what is missing. Nothing was sent."""


@dataclass(frozen=True)
class Bad:
    """Something to mend: which `line` of the file (or which message of its list), and the rule. Never the value."""

    file: str
    rule: str
    number: int = 0
    unit: str = "line"


@dataclass(frozen=True)
class Ready:
    """A message that was found good: its JSON, where it stands, and the photos to upload, by the key it calls them."""

    kind: Kind
    body: bytes
    where: str
    submissions: int = 1
    photos: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class _Row:
    line: int
    thing: Mapping[str, str | Decimal]
    size: int


def read(
    files: Iterable[Path], rules: PartnerRules, *, period: str = "", reference: str = ""
) -> tuple[list[Ready], list[Bad]]:
    """Read files into messages, and find everything in them that breaks a rule of the stack.

    Args:
        files: JSON (a message, a list of them, or JSON Lines named .jsonl), or CSV whose first line names its columns.
        rules: Those of the stack.
        period: The reporting month (YYYY-MM) of the repayments in a CSV.
        reference: The reference of the one message that a CSV becomes.

    Raises:
        WrongUse: A CSV needs a month or a reference, or it is too long for the one message of a reference.
    """
    ready: list[Ready] = []
    bad: list[Bad] = []
    for file in files:
        for found in _read(file, rules, period, reference):
            (bad if isinstance(found, Bad) else ready).append(found)  # type: ignore[arg-type]
    return ready, bad


def _read(file: Path, rules: PartnerRules, period: str, reference: str) -> Iterator[Ready | Bad]:
    content = file.read_bytes()
    try:
        # Spreadsheets put a mark in front of UTF-8.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        rule = "is not UTF-8; save the file as UTF-8 (in a spreadsheet: «CSV UTF-8»)"
        yield Bad(str(file), rule, content[: error.start].count(b"\n") + 1)
        return
    if file.suffix in (".json", ".jsonl") or text.lstrip()[:1] in ("{", "["):
        yield from _read_json(file, text, rules)
    else:
        yield from _read_csv(file, text, rules, {"period": period, "reference": reference})


# --- JSON -------------------------------------------------------------------------------------------------------------


def _read_json(file: Path, text: str, rules: PartnerRules) -> Iterator[Ready | Bad]:
    if file.suffix == ".jsonl":
        sources = [("line", number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    else:
        sources = [("message", 0, text)]
    for unit, number, source in sources:
        try:
            document = decode(source)
        except InvalidMessage as error:
            yield from _violations(file, error, number, unit)
            continue
        if document == []:
            yield Bad(str(file), "$ is an empty list", number, unit)
        listed = enumerate(document, start=1) if isinstance(document, list) and not number else [(number, document)]
        for at, each in listed:
            try:
                yield _ready(each, f"{file}, {unit} {at}" if at else str(file), file.parent, rules)
            except InvalidMessage as error:
                yield from _violations(file, error, at, unit)


def _violations(file: Path, error: InvalidMessage, number: int, unit: str) -> Iterator[Bad]:
    return (Bad(str(file), f"{each.path} {each.rule}", number, unit) for each in error.violations)


def _ready(document: object, where: str, folder: Path, rules: PartnerRules) -> Ready:
    """Raises InvalidMessage."""
    held = document if isinstance(document, dict) else {}
    kind = next((kind for name, kind in KIND_OF_LIST.items() if name in held), None)
    if kind is None:
        raise InvalidMessage(Violation("$", "must hold entreps (a loan draft), journals or repayments"))
    photos: dict[str, Path] = {}
    match held.get("photo"):
        case {"file": str(name), **others} if not others:
            key = _photo(folder, name, rules)
            photos, document = {key: folder / name}, {**held, "photo": {"s3_key": key}}
    message = parse_json(kind, document, rules)
    body = encode(document)
    # A photo inside travels by the API alone, which lays it into the bucket.
    inside = len(held.get("image_encoded", ""))
    if len(body) - inside > MAX_MESSAGE_BYTES:
        raise InvalidMessage(Violation("$", f"must be at most {MAX_MESSAGE_BYTES} bytes; send several messages"))
    if len(body) > MAX_BODY_BYTES:
        raise InvalidMessage(Violation("$.image_encoded", 'is too long; lay it beside and say "photo": {"file": …}'))
    return Ready(kind, body, where, len(message.submissions), photos)


def _photo(folder: Path, name: str, rules: PartnerRules) -> str:
    """The key by which the bucket knows a photo of the message's own folder. Raises InvalidMessage."""
    # A message may come from elsewhere: it has no say over the other files of this machine.
    if not (folder / name).resolve().is_relative_to(folder.resolve()) or not (folder / name).is_file():
        raise InvalidMessage(Violation("$.photo.file", "names no file in the folder of the message"))
    image, broken = sniff_image(_beginning(folder / name, rules.max_image_bytes + 1), rules.max_image_bytes)
    if not image:
        raise InvalidMessage(*(Violation("$.photo.file", rule) for rule in broken))
    return image.s3_key


def _beginning(file: Path, size: int) -> bytes:
    with file.open("rb") as content:
        return content.read(size)


# --- CSV --------------------------------------------------------------------------------------------------------------


def _read_csv(file: Path, text: str, rules: PartnerRules, options: Mapping[str, str]) -> Iterator[Ready | Bad]:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = tuple(name.strip() for name in next(lines, ()))
    except csv.Error:
        columns = ()
    kind = _COLUMNS.get(columns)
    if kind is None:
        yield Bad(str(file), f"must name the columns: {', or '.join(map(','.join, _COLUMNS))}", 1)
        return
    # Journals have no month.
    head = {name: it for name, it in options.items() if it and (name == "reference" or kind is Kind.REPAYMENT)}
    good: list[_Row] = []
    mistakes = False
    first_line_of: dict[str, int] = {}
    for line, fields in _records(lines):
        found = fields if isinstance(fields, str) else _row(line, fields, columns, kind, head, rules, first_line_of)
        if isinstance(found, _Row):
            good.append(found)
        else:
            mistakes = True
            yield Bad(str(file), found, line)
    if not good and not mistakes:
        yield Bad(str(file), "holds no line after the one with the columns", 1)
    packed = list(_pack(good, MAX_ROWS if "reference" in head else ROWS_PER_MESSAGE))
    if "reference" in head and len(packed) > 1:
        raise WrongUse(
            f"{file} is too long for one message, and a reference names one: at most {MAX_ROWS} rows and"
            f" {MAX_MESSAGE_BYTES} bytes. Split it, and give each part a reference of its own."
        )
    for rows in packed:
        body = encode({**head, _LIST_OF[kind]: [row.thing for row in rows]})
        yield Ready(kind, body, f"{file}, lines {rows[0].line} to {rows[-1].line}", len(rows))


def _records(lines: Any) -> Iterator[tuple[int, list[str] | str]]:
    """Each record with the line that it begins in; what no CSV is ends them, with the reason."""
    while True:
        line = lines.line_num + 1
        try:
            fields = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, str(error)
            return
        if fields:
            yield line, fields


def _row(
    line: int,
    fields: Sequence[str],
    columns: Sequence[str],
    kind: Kind,
    head: Mapping[str, str],
    rules: PartnerRules,
    first_line_of: dict[str, int],
) -> _Row | str:
    """A record as the relay wants it, or the first rule that it breaks."""
    if len(fields) != len(columns):
        return f"must have {len(columns)} columns and has {len(fields)}"
    # What is left empty is not there.
    thing: dict[str, str | Decimal] = {
        name: it for name, it in zip(columns, (each.strip() for each in fields), strict=True) if it
    }
    if kind is Kind.REPAYMENT:
        if not _AMOUNT.fullmatch(str(thing.get("amount", ""))):
            return "amount must be digits, with a point and up to two decimals where needed"
        thing["amount"] = Decimal(thing["amount"])
    try:
        # Alone, so that whatever is wrong is wrong with this line.
        (submission,) = parse(kind, encode({**head, _LIST_OF[kind]: [thing]}).decode(), rules).submissions
    except InvalidMessage as error:
        return "; ".join(_of_the_line(violation) for violation in error.violations)
    per_loan = kind is Kind.REPAYMENT and rules.amount_mode is not AmountMode.INSTALMENT
    first = first_line_of.setdefault(submission.loan_id if per_loan else submission.reference, line)
    if first != line:
        return f"has the same loan_id as line {first}" if per_loan else f"is the same as line {first}"
    return _Row(line, thing, len(encode(thing)) + 1)


def _of_the_line(violation: Violation) -> str:
    if violation.path in ("$.period", "$.reference"):
        raise WrongUse(f"--{violation.path[2:]} {violation.rule}")
    return f"{re.sub(r'^\$\.[a-z]+\[0\]\.?|^\$$', '', violation.path)} {violation.rule}".strip()


def _pack(rows: Iterable[_Row], most: int) -> Iterator[list[_Row]]:
    """As few messages as rows and bytes allow."""
    some: list[_Row] = []
    size = 0
    for row in rows:
        if some and (len(some) == most or size + row.size > MAX_MESSAGE_BYTES - _FRAME_BYTES):
            yield some
            some, size = [], 0
        some.append(row)
        size += row.size
    if some:
        yield some
