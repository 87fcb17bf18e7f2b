"""Files of events, read and checked before anything is sent: JSON of any kind, CSV of repayments or of journals.

What is wrong is named by file, line and rule, and never by a name or a text that stands there. Every row of a file is
in a message or is named. A CSV of repayments is what PA2 takes, of two or three columns. Sources: Kiva partner portal,
"Report payments"; PA2 > Account > Profile > "CSV upload format".
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from itertools import dropwhile, groupby, islice
from pathlib import Path
from typing import Final, NamedTuple

from cli.spreadsheets import ChangedId, Record, original_id, records, why_no_header
from kiva_partner.errors import InvalidMessage, Violation
from kiva_partner.messages import (
    KIND_OF_LIST,
    MAX_MESSAGE_BYTES,
    MAX_ROWS,
    Kind,
    Message,
    Repayments,
    checked,
    parse,
    parse_json,
)
from kiva_partner.photos import sniff_image
from kiva_partner.settings import AmountMode, PartnerRules
from kiva_partner.strict_json import decode, encode

ROWS_PER_MESSAGE: Final = 1000
"""Enough that ten thousand repayments are ten requests, and few enough that each is answered in a moment."""
MAX_BODY_BYTES: Final = 6_000_000
"""What a Lambda function takes in one request is a little more."""
MONTHS_AHEAD: Final = 1
MONTHS_BACK: Final = 12
"""A report of a month farther away is probably a slip of the pen."""

_FRAME_BYTES: Final = 500
"""More than reference, period and brackets around the rows take."""
_AMOUNT: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,2})?")
_IDS: Final = ("loan_id", "client_id", "internal_loan_id", "internal_client_id", "payment_id")
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


class NoMonth(WrongUse):
    """A CSV of repayments has no reference, and nobody says of which month they are."""


@dataclass(frozen=True)
class Bad:
    """Something to fix: which `line` of the file (or which message of its list), and the rule. Never the value.

    It may be several lines, to `last`. Number 0, or `whole`: nothing of the file is sent.
    """

    file: str
    rule: str
    number: int = 0
    unit: str = "line"
    last: int = 0
    whole: bool = False


@dataclass(frozen=True)
class Ready:
    """A message that was found good: its JSON, where it stands, and the photos to upload, by the key it calls them."""

    kind: Kind
    body: bytes
    where: str
    submissions: int = 1
    photos: Mapping[str, Path] = field(default_factory=dict)
    period: str = ""


@dataclass(frozen=True, eq=False)
class _Table:
    """A CSV: its kind and columns, how many cells a row has, and what stands in its messages beside the rows."""

    file: Path
    kind: Kind
    columns: Sequence[str]
    width: int
    head: Mapping[str, str]


class _Thing(NamedTuple):
    """What one submission is: by each of its keys no other thing of the command may be called."""

    path: str
    kind: Kind
    keys: Sequence[tuple[str, ...]]
    reference: str
    fingerprint: str
    amount: Decimal | None


@dataclass(frozen=True)
class _Good:
    """What is good by itself: where it stands, and what it is about."""

    file: Path
    number: int
    unit: str
    things: Sequence[_Thing]

    def place(self) -> str:
        return f"{self.file}, {self.unit} {self.number}" if self.number else str(self.file)


@dataclass(frozen=True)
class _Message(_Good):
    """One in JSON."""

    ready: Ready


@dataclass(frozen=True)
class _Row(_Good):
    """One of a CSV; `size` is what it takes in its message."""

    table: _Table
    content: Mapping[str, str | Decimal]
    size: int


def read(
    files: Iterable[Path], rules: PartnerRules, *, period: str = "", reference: str = ""
) -> tuple[list[Ready], list[Bad]]:
    """Read files into messages, and find everything in them that breaks a rule of the stack, or contradicts itself.

    Args:
        files: JSON (a message, a list of them, or JSON Lines named .jsonl), or CSV whose first line names its columns.
        rules: Those of the stack.
        period: The reporting month (YYYY-MM) of all repayments; a message that says another is bad.
        reference: The reference of the one message that the files hold; a message that says another is bad.

    Raises:
        WrongUse: An option is none, a CSV needs a month or a reference, or a reference was given for several messages.
    """
    options = _checked_options(period, reference)
    good: list[_Good] = []
    bad: list[Bad] = []
    order: dict[str, int] = {}
    for file in files:
        order.setdefault(str(file), len(order))
        for found in _read(file, rules, options):
            (bad if isinstance(found, Bad) else good).append(found)  # type: ignore[arg-type]
    clashes = _clashes(good)
    bad += clashes.values()
    left_out = {at for at, _ in clashes}
    ready = list(_messages(each for at, each in enumerate(good) if at not in left_out))
    return ready, sorted(bad, key=lambda each: (order[each.file], each.number))


def far_off(period: str, today: date) -> str:
    """How far a reporting month (YYYY-MM) is away, or "" when it is one that is reported nowadays."""
    year, month = map(int, period.split("-"))
    ahead = (year - today.year) * 12 + month - today.month
    if -MONTHS_BACK <= ahead <= MONTHS_AHEAD:
        return ""
    return f"{period} is {abs(ahead)} months {'ahead' if ahead > 0 else 'back'}"


def month_before(today: date) -> str:
    """Last month (YYYY-MM), of which most reports are."""
    return f"{today.replace(day=1) - timedelta(days=1):%Y-%m}"


def lacks_month(bad: Iterable[Bad]) -> bool:
    """Whether repayments in JSON are among what is bad because nothing says of which month they are."""
    return any(each.rule.startswith("$.period is missing") for each in bad)


def _checked_options(period: str, reference: str) -> Mapping[str, str]:
    options = {name: it for name, it in (("period", period), ("reference", reference)) if it}
    try:
        checked({**options, "repayments": [{"loan_id": "any", "amount": 0}]}, Repayments)
    except InvalidMessage as error:
        raise WrongUse("; ".join(f"--{each.path[2:]} {each.rule}" for each in error.violations)) from None
    return options


def _read(file: Path, rules: PartnerRules, options: Mapping[str, str]) -> Iterator[_Good | Bad]:
    content = file.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:2]:
        yield _unread(file, "is UTF-16; save the file as UTF-8 (in a spreadsheet: «CSV UTF-8»)")
        return
    try:
        # Spreadsheets put a mark in front of UTF-8.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        rule = "is not UTF-8; save the file as UTF-8 (in a spreadsheet: «CSV UTF-8»)"
        yield _unread(file, rule, content[: error.start].count(b"\n") + 1)
        return
    if file.suffix in (".json", ".jsonl") or text.lstrip()[:1] in ("{", "["):
        yield from _read_json(file, text, rules, options)
    else:
        yield from _read_csv(file, text, rules, options)


def _unread(file: Path, rule: str, line: int = 1) -> Bad:
    return Bad(str(file), f"{rule}; nothing of this file was read", line, whole=True)


# --- JSON -------------------------------------------------------------------------------------------------------------


def _read_json(file: Path, text: str, rules: PartnerRules, options: Mapping[str, str]) -> Iterator[_Good | Bad]:
    if file.suffix == ".jsonl":
        sources = [("line", number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        _one_message(file, len(sources), options)
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
        listed = document if isinstance(document, list) and not number else None
        _one_message(file, len(listed or ()), options)
        for at, each in enumerate(listed, start=1) if listed is not None else [(number, document)]:
            try:
                yield _message(file, each, at, unit, rules, options)
            except InvalidMessage as error:
                yield from _violations(file, error, at, unit)


def _one_message(file: Path, count: int, options: Mapping[str, str]) -> None:
    if count > 1 and "reference" in options:
        raise WrongUse(f"--reference names one message, and {file} holds {count}: say the reference in each of them.")


def _violations(file: Path, error: InvalidMessage, number: int, unit: str) -> Iterator[Bad]:
    return (Bad(str(file), f"{each.path} {each.rule}", number, unit) for each in error.violations)


def _message(
    file: Path, document: object, number: int, unit: str, rules: PartnerRules, options: Mapping[str, str]
) -> _Message:
    """Raises InvalidMessage."""
    held = document if isinstance(document, dict) else {}
    kind = next((kind for name, kind in KIND_OF_LIST.items() if name in held), None)
    if kind is None:
        raise InvalidMessage(Violation("$", "must hold entreps (a loan draft), journals or repayments"))
    said = _options_of(kind, options)
    document = {**said, **held}
    photos: dict[str, Path] = {}
    match held.get("photo"):
        case {"file": str(name), **others} if not others:
            photo, key = _photo(file.parent, name, rules)
            photos, document["photo"] = {key: photo}, {"s3_key": key}
    message = parse_json(kind, document, rules)
    if contradicted := [name for name in said if document[name] != said[name]]:
        raise InvalidMessage(
            *(Violation(f"$.{it}", f"is {document[it]}, and --{it} says {said[it]}") for it in contradicted)
        )
    body = encode(document)
    # A photo inside travels by the API alone, which lays it into the bucket.
    inside = len(held.get("image_encoded", ""))
    if len(body) - inside > MAX_MESSAGE_BYTES:
        raise InvalidMessage(Violation("$", f"must be at most {MAX_MESSAGE_BYTES} bytes; send several messages"))
    if len(body) > MAX_BODY_BYTES:
        raise InvalidMessage(Violation("$.image_encoded", 'is too long; lay it beside and say "photo": {"file": …}'))
    where = f"{file}, {unit} {number}" if number else str(file)
    ready = Ready(kind, body, where, len(message.submissions), photos, document.get("period", ""))
    return _Message(file, number, unit, _things(message, rules), ready)


def _options_of(kind: Kind, options: Mapping[str, str]) -> Mapping[str, str]:
    """Those that belong to messages of a kind: only repayments have a month."""
    return {name: it for name, it in options.items() if name == "reference" or kind is Kind.REPAYMENT}


def _photo(folder: Path, name: str, rules: PartnerRules) -> tuple[Path, str]:
    """A photo of the message's own folder, and the key by which the bucket knows it. Raises InvalidMessage."""
    file = folder
    for part in Path(name).parts:
        file = _entry(file, part)
    try:
        # A message may come from elsewhere: it has no say over the other files of this machine.
        found = file.resolve().is_relative_to(folder.resolve()) and file.is_file()
    except (OSError, ValueError):  # no file can have such a name
        found = False
    if not found:
        raise InvalidMessage(Violation("$.photo.file", "names no file in the folder of the message"))
    image, broken = sniff_image(_beginning(file, rules.max_image_bytes + 1), rules.max_image_bytes)
    if not image:
        raise InvalidMessage(*(Violation("$.photo.file", rule) for rule in broken))
    return file, image.s3_key


def _entry(folder: Path, name: str) -> Path:
    """What a folder has under a name, which a Mac writes in another normal form (NFD) than the message has it.

    Source: Unicode Standard Annex #15.

    Raises:
        InvalidMessage: Two names of the folder are this one.
    """
    if name.isascii() or not folder.is_dir():
        return folder / name
    wanted = unicodedata.normalize("NFC", name)
    alike = [each for each in folder.iterdir() if unicodedata.normalize("NFC", each.name) == wanted]
    if len(alike) > 1:
        raise InvalidMessage(Violation("$.photo.file", "fits two files whose names look the same; rename one of them"))
    return alike[0] if alike else folder / name


def _beginning(file: Path, size: int) -> bytes:
    with file.open("rb") as content:
        return content.read(size)


# --- CSV --------------------------------------------------------------------------------------------------------------


def _read_csv(file: Path, text: str, rules: PartnerRules, options: Mapping[str, str]) -> Iterator[_Good | Bad]:
    names = next(records(text, multiline=False), Record(1, 1, ())).cells
    if isinstance(names, str):
        yield _unread(file, names)
        return
    # A separator at the end of every line makes a column without a name.
    columns = tuple(dropwhile(lambda name: not name, reversed(names)))[::-1]
    kind = _COLUMNS.get(columns)
    if kind is None:
        must = why_no_header(next(iter(text.lstrip().splitlines()), ""), _COLUMNS)
        rule = f"must name the columns: {', or '.join(map(','.join, _COLUMNS))}"
        yield _unread(file, must or rule)
        return
    table = _Table(file, kind, columns, len(names), _options_of(kind, options))
    record = None
    for record in islice(records(text, multiline=kind is Kind.JOURNAL_UPDATE), 1, None):
        found = record.cells if isinstance(record.cells, str) else _row(record.first, record.cells, table, rules)
        last = record.last if record.last > record.first else 0
        yield found if isinstance(found, _Row) else Bad(str(file), found, record.first, last=last)
    if record is None:
        yield Bad(str(file), "holds no line after the one with the columns", 1, whole=True)


def _row(line: int, cells: Sequence[str], table: _Table, rules: PartnerRules) -> _Row | str:
    """A record as the relay wants it, or the first rule that it breaks."""
    if len(cells) != table.width:
        return f"must have {table.width} columns and has {len(cells)}"
    if any(cells[len(table.columns) :]):
        return f"has something in column {len(table.columns) + 1}, which has no name"
    thing: dict[str, str | Decimal] = {}
    for name, cell in zip(table.columns, cells, strict=False):
        try:
            value = original_id(cell) if name in _IDS else cell
        except ChangedId as error:
            return f"{name} {error}"
        # What is left empty is not there.
        if value:
            thing[name] = value
    if table.kind is Kind.REPAYMENT:
        if not _AMOUNT.fullmatch(str(thing.get("amount", ""))):
            return "amount must be digits, with a point and up to two decimals where needed"
        thing["amount"] = Decimal(thing["amount"])
    try:
        # Alone, so that whatever is wrong is wrong with this line.
        message = parse(table.kind, encode({**table.head, _LIST_OF[table.kind]: [thing]}).decode(), rules)
    except InvalidMessage as error:
        return "; ".join(_of_the_line(violation) for violation in error.violations)
    return _Row(table.file, line, "line", _things(message, rules), table, thing, len(encode(thing)) + 1)


def _of_the_line(violation: Violation) -> str:
    if violation.path == "$.period":
        raise NoMonth(f"--period {violation.rule}")
    return f"{re.sub(r'^\$\.[a-z]+\[0\]\.?|^\$$', '', violation.path)} {violation.rule}".strip()


# --- of all files together --------------------------------------------------------------------------------------------


def _things(message: Message, rules: PartnerRules) -> Sequence[_Thing]:
    things = []
    for at, each in enumerate(message.submissions):
        keys: list[tuple[str, ...]] = [(each.kind, "reference", each.reference)]
        match each.kind:
            case Kind.LOAN_DRAFT:
                keys.append((each.kind, "loan", each.loan_id))
            case Kind.JOURNAL_UPDATE:
                keys.append((each.kind, "content", each.fingerprint))
            case Kind.REPAYMENT if rules.amount_mode is not AmountMode.INSTALMENT:
                keys.append((each.kind, "month", each.period or message.reference, each.loan_id))
        path = "$" if each.kind is Kind.LOAN_DRAFT else f"$.{_LIST_OF[each.kind]}[{at}]"
        things.append(_Thing(path, each.kind, keys, each.reference, each.fingerprint, each.content.get("amount")))
    return things


def _clashes(good: Sequence[_Good]) -> Mapping[tuple[int, str], Bad]:
    """Things that are there twice and do not say the same: nobody knows which of them is meant, so none is sent.

    The same thing twice is harmless, for the relay sends what has the same reference and content once; within a CSV it
    is a mistake all the same.
    """
    called: dict[tuple[str, ...], list[tuple[int, _Thing]]] = defaultdict(list)
    for at, each in enumerate(good):
        for thing in each.things:
            for key in thing.keys:
                called[key].append((at, thing))
    clashes: dict[tuple[int, str], Bad] = {}
    repeated: dict[tuple[int, str], Bad] = {}
    for several in called.values():
        (_, one), others = several[0], several[1:]
        other = next((it for it in others if _says(it[1]) != _says(one)), None)
        lines: dict[Path, int] = {}
        for at, thing in several if others else ():
            where = at, thing.path
            if other:
                against = several[0] if _says(thing) != _says(one) else other
                clashes.setdefault(where, _bad(good[at], thing, _contradiction(thing, against[1], good[against[0]])))
            elif isinstance(good[at], _Row):
                first = lines.setdefault(good[at].file, good[at].number)
                if first != good[at].number:
                    repeated[where] = _bad(good[at], thing, f"is the same as line {first}")
    return {**repeated, **clashes}


def _says(thing: _Thing) -> tuple[str, str]:
    return thing.reference, thing.fingerprint


def _contradiction(thing: _Thing, other: _Thing, there: _Good) -> str:
    place = there.place() if isinstance(there, _Row) else f"{there.place()}, {other.path}"
    if thing.amount != other.amount:
        return f"reports {thing.amount}, and {place} reports {other.amount} for the same loan; remove the wrong one"
    if thing.reference == other.reference:
        return f"has the reference of {place} and other content; remove the wrong one"
    return f"is the same {thing.kind.replace('_', ' ')} as {place} under another reference; remove one of them"


def _bad(good: _Good, thing: _Thing, rule: str) -> Bad:
    said = rule if isinstance(good, _Row) else f"{thing.path} {rule}"
    return Bad(str(good.file), said, good.number, good.unit)


def _messages(good: Iterable[_Good]) -> Iterator[Ready]:
    """The messages in JSON as they are, and the rows of each CSV in as few messages as rows and bytes allow."""
    for table, run in groupby(good, key=lambda each: each.table if isinstance(each, _Row) else None):
        if table:
            yield from _messages_of(table, [each for each in run if isinstance(each, _Row)])
        else:
            yield from (each.ready for each in run if isinstance(each, _Message))


def _messages_of(table: _Table, rows: Sequence[_Row]) -> Iterator[Ready]:
    packed = list(_pack(rows, MAX_ROWS if "reference" in table.head else ROWS_PER_MESSAGE))
    if "reference" in table.head and len(packed) > 1:
        raise WrongUse(
            f"{table.file} is too long for one message, and a reference names one: at most {MAX_ROWS} rows and"
            f" {MAX_MESSAGE_BYTES} bytes. Split it, and give each part a reference of its own."
        )
    for some in packed:
        body = encode({**table.head, _LIST_OF[table.kind]: [row.content for row in some]})
        where = f"{table.file}, lines {some[0].number} to {some[-1].number}"
        yield Ready(table.kind, body, where, len(some), period=table.head.get("period", ""))


def _pack(rows: Iterable[_Row], most: int) -> Iterator[list[_Row]]:
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
