"""Repayment reports as PA2 takes them, a CSV of two or three columns, read into messages for the relay.

Sources: Kiva partner portal, "Report payments"; PA2 > Account > Profile > "CSV upload format".
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import batched
from pathlib import Path
from typing import Final

ROWS_PER_MESSAGE: Final = 1000
"""The longest rows that pass the relay's checks, so many of them, make a quarter of the largest message."""

_COLUMNS: Final = (["loan_id", "amount"], ["loan_id", "client_id", "amount"])
_ID: Final = re.compile(r"\S(.{0,62}\S)?")
_AMOUNT: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,2})?")

Row = Mapping[str, str | float]
"""One line of a report, named and typed as the relay and Kiva want it."""


class BadReport(Exception):
    """The file is no repayment report; `mistakes` holds one line of text for each thing to mend, and no values."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


def read_report(file: Path) -> list[Row]:
    """Read a report whose first line names its columns: `loan_id`, `client_id` where Kiva wants it, and `amount`.

    Raises:
        BadReport: naming every line that is wrong, by its number in the file and what is wrong with it.
    """
    try:
        # Spreadsheets put a mark in front of UTF-8.
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise BadReport([f"line {line}: is not UTF-8; save the report as «CSV UTF-8»"]) from None
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns = [name.strip() for name in next(lines, [])]
    if columns not in _COLUMNS:
        raise BadReport(["line 1: must name the columns: loan_id,amount or loan_id,client_id,amount"])
    rows: list[Row] = []
    mistakes: list[str] = []
    first_line_of: dict[str, int] = {}
    try:
        for fields in lines:
            if not fields:
                continue
            found = dict(zip(columns, (field.strip() for field in fields), strict=False))
            wrong = list(_mistakes(columns, fields, found))
            if (first := first_line_of.setdefault(found["loan_id"], lines.line_num)) != lines.line_num:
                wrong.append(f"has the same loan_id as line {first}")
            mistakes += [f"line {lines.line_num}: {each}" for each in wrong]
            if not wrong:
                # Twelve digits and two decimals survive a float and come out as they went in.
                rows.append({**found, "amount": float(found["amount"])})
    except csv.Error as error:
        mistakes.append(f"line {lines.line_num}: {error}")
    if mistakes or not rows:
        raise BadReport(mistakes or ["holds no line after the one with the columns"])
    return rows


def _mistakes(columns: Sequence[str], fields: Sequence[str], found: Mapping[str, str]) -> Iterator[str]:
    if len(fields) != len(columns):
        yield f"must have {len(columns)} columns and has {len(fields)}"
        return
    for name in columns[:-1]:
        if not _ID.fullmatch(found[name]):
            yield f"{name} must have 1 to 64 characters"
    if not _AMOUNT.fullmatch(found["amount"]):
        yield "amount must be digits, with a point and up to two decimals where needed"


def messages(rows: Sequence[Row], period: str) -> Iterator[str]:
    """Pack the rows of the reporting month `period` (YYYY-MM) into as few messages as queue and API take."""
    for some in batched(rows, ROWS_PER_MESSAGE):
        yield json.dumps({"period": period, "repayments": some}, ensure_ascii=False)
