"""What spreadsheets do to a CSV, and how it is read all the same: no line is lost, and no id is one that was changed.

Sources: RFC 4180 (quote marks, line breaks in a cell); Microsoft Support, "Keeping leading zeros and large numbers" and
"Stop automatically changing numbers to dates" (what becomes of an id in a cell that is not text).
"""

import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple


class Record(NamedTuple):
    """The cells of a record, or why it was not read; with its lines from `first` to `last`."""

    first: int
    last: int
    cells: Sequence[str] | str


class ChangedId(ValueError):
    """An id is probably not the one that was meant; the text says what to do, and does not repeat the id."""


# --- lines ------------------------------------------------------------------------------------------------------------


def records(text: str, *, multiline: bool) -> Iterator[Record]:
    """Read a CSV record by record; every line that is not blank is in exactly one of them.

    After a record that is broken by its quote marks reading goes on at the next line, for a row without texts is one
    line. Where cells may hold line breaks (`multiline`) the next line may as well be the middle of a text, so the rest
    is one record that was not read.
    """
    lines = io.StringIO(text, newline="").readlines()
    reader = csv.reader(lines, strict=True)
    while True:
        first = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            last = len(lines) if multiline else reader.line_num
            yield Record(first, last, f"not read, because {_broken(error)}")
            if multiline:
                return
            continue
        cells = [cell.strip() for cell in cells]
        if not any(cells):
            continue
        yield Record(first, reader.line_num, _swallowed(cells, lines[first : reader.line_num], first) or cells)


def _broken(error: csv.Error) -> str:
    match str(error):
        case "unexpected end of data":
            return "a quote mark opens a cell that no other closes"
        case text if text.startswith("field larger"):
            return f"a cell has more than {csv.field_size_limit()} characters; is a quote mark missing?"
        case _:
            return 'a quote mark closes a cell that goes on; one that belongs to the text is written twice ("")'


def _swallowed(cells: Sequence[str], continued: Sequence[str], first: int) -> str:
    """Why a record is none: a text of several lines that holds rows, since its quote mark closes lines too late."""
    shape = _shape(cells[0])
    for number, line in enumerate(continued, first + 1):
        held = next(csv.reader([line[: csv.field_size_limit()]]), [])
        if len(held) == len(cells) and re.search(r"\d", held[0]) and _shape(held[0].strip()) == shape:
            return f"not read, because line {number} looks like a row within a text; is a quote mark missing before it?"
    return ""


def _shape(text: str) -> str:
    return re.sub(r"\w+", "w", text)


# --- the line with the names of the columns ---------------------------------------------------------------------------


def why_no_header(first: str, known: Collection[Sequence[str]]) -> str:
    """What to do about a first line that names no known columns."""
    if first.casefold().startswith("sep="):
        return "is a hint for Excel (sep=) and no list of columns: remove it, and separate the columns by commas"
    for separator, words in ((";", "semicolons"), ("\t", "tabs"), ("|", "|")):
        if _plain(first.split(separator)) in map(_plain, known):
            return f"separates the columns by {words}: save the file with commas, and amounts with a decimal point"
    names = first.split(",")
    for columns in known:
        if _plain(names) == _plain(columns):
            return f"must name the columns {','.join(columns)}, letter for letter"
    if nameless := [at for at, name in enumerate(names, start=1) if not name.strip()]:
        return f"has no name for column {nameless[0]}: remove the column, or name it"
    return ""


def _plain(names: Sequence[str]) -> Sequence[str]:
    return [re.sub(r"[\W_]+", "", name.casefold()) for name in names]


# --- ids --------------------------------------------------------------------------------------------------------------

_TEXT_CELL: Final = re.compile(r'="([^"]*)"')
_TOTALS: Final = frozenset(
    {"total", "totals", "totales", "totale", "totaux", "totais", "subtotal", "sum", "sums", "suma", "summe", "gesamt"}
    | {"somme", "soma", "jumla", "jumlah", "toplam", "итого", "итог", "всего", "сумма", "разом", "усього", "жами"}
)
"""Words in the languages of Kiva's field partners."""
_MONTHS: Final = (
    "jan|janv|ene|янв|feb|fév|févr|fev|фев|mar|mars|mrt|мар|apr|avr|abr|апр|may|mai|май|мая|jun|juin|июн|jul|juil|июл"
    "|aug|août|ago|agu|авг|sep|sept|set|сен|oct|out|okt|окт|nov|ноя|dec|déc|dic|dez|des|дек"
)
_DAY: Final = "(?:0?[1-9]|[12][0-9]|3[01])"
_YEAR: Final = "(?:(?:19|20)[0-9]{2})"
_DATE: Final = re.compile(
    rf"(?:{_DAY}/{_DAY}(?:/(?:{_YEAR}|[0-9]{{2}}))?|{_DAY}([-.]){_DAY}\1{_YEAR}|{_YEAR}([-./]){_DAY}\2{_DAY}"
    rf"|(?:{_DAY}[-. /])?(?:{_MONTHS})\.?[-. /](?:{_YEAR}|[0-9]{{2}})|{_DAY}[-. /](?:{_MONTHS})\.?)"
    r"(?: [0-9]{1,2}:[0-9:]+)?",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(r"[0-9]+([.,][0-9]+)?E[+-][0-9]+|[0-9]+\.0+", re.IGNORECASE)
_SPREADSHEET_ERROR: Final = re.compile(r"#(N/A|[A-Z/0]+[!?]|#+)")
_DASH: Final = re.compile("[\u00ad\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
_QUOTES: Final = ("'", "\u2018", "\u2019", "`")
_AS_TEXT: Final = "format the column as text and type the id again"
_OR_SO: Final = ' (or write ="…" where the id is so)'


def original_id(cell: str) -> str:
    """The id that a cell holds. `="00123"`, by which a spreadsheet is told to keep a text, is 00123 as it stands.

    Raises:
        ChangedId: It is no id, or not the one that was typed.
    """
    if kept := _TEXT_CELL.fullmatch(cell):
        return kept[1].strip()
    if _NUMBER.fullmatch(cell):
        raise ChangedId(f"looks like a number that a spreadsheet has rewritten; {_AS_TEXT}{_OR_SO}")
    if _DATE.fullmatch(cell):
        raise ChangedId(f"looks like a date that a spreadsheet has made of an id; {_AS_TEXT}{_OR_SO}")
    if cell.startswith("=") or _SPREADSHEET_ERROR.fullmatch(cell):
        raise ChangedId(f"is a formula or an error of the spreadsheet; {_AS_TEXT}")
    if cell.startswith(_QUOTES) or '"' in cell:
        raise ChangedId(f"holds a quote mark; {_AS_TEXT}, without the mark")
    if found := _DASH.search(cell):
        raise ChangedId(f"holds a dash that is no hyphen (U+{ord(found[0]):04X}); type it as -")
    if _is_total(cell):
        raise ChangedId("is a word for a total; leave out rows that are no loan")
    return cell


def _is_total(cell: str) -> bool:
    """`Total` and `Grand total: 3` are; `TOTAL-1` is an id."""
    compact = re.search(r"\d", cell) and not re.search(r"\s", cell)
    return not compact and not _TOTALS.isdisjoint(re.findall(r"[^\W\d_]+", cell.casefold()))
