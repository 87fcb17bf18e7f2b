"""What waits for a person, as `GET /waiting` tells it: chosen by filters, and its problems for a spreadsheet."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from cli.show import words_of

SECTIONS: Final = {
    "unknown": "To decide",
    "stuck": "Stuck",
    "rejected": "Refused",
    "not_sent": "Came again, not sent",
    "uploads": "Repayment uploads to finalise",
    "archives": "Journals to confirm",
    "drafts": "Drafts to publish",
}
"""By urgency: what nobody knows of, then what Kiva has not, then what it has and nobody has looked at."""

COLUMNS: Final = ("kind", "reference", "loan_id", "state", "code", "details", "next_step", "updated_at")

_KIND_OF: Final = {"uploads": "repayment", "archives": "journal_update", "drafts": "loan_draft"}
# A spreadsheet takes a cell that begins so for a formula or a command (OWASP, CSV Injection); the last four are the
# full-width forms of East Asian keyboards. Where ; or a tab separates, as the country's settings say, a cell begins
# within one of ours: our quote marks do not protect it, for they are not at its beginning.
_FORMULA: Final = re.compile(r"""(^|;|\t|\r\n?|\n)(?=\A[\t\r\n]|(?:[^\S\t\r\n]|")*[=+\-@|%\uff1d\uff0b\uff0d\uff20])""")

type Entries = dict[str, list[dict[str, Any]]]
"""The entries of each section."""


def choose(waiting: Mapping[str, Any], *, section: str = "", kind: str = "", text: str = "") -> Entries:
    """The entries that fit all filters; an empty filter fits everything. `text` is found in whatever an entry says."""
    return {
        name: [
            entry
            for entry in waiting.get(name, ())
            if section in ("", name) and kind in ("", _KIND_OF.get(name) or entry.get("kind")) and _holds(entry, text)
        ]
        for name in SECTIONS
    }


def listed(waiting: Mapping[str, Any]) -> dict[str, int]:
    """How many entries of each section are here; of very many the relay lists the latest, and counts the others."""
    return {name: len(waiting.get(name, ())) for name in SECTIONS}


def problems(entries: Entries) -> list[dict[str, Any]]:
    """Each submission that has a problem, once: a refused row of an upload stands in two sections."""
    calls = (row for call in entries["unknown"] for row in call.get("submissions", ()))
    rows = (row for upload in entries["uploads"] for row in upload.get("problems", ()))
    every = [*calls, *entries["stuck"], *entries["rejected"], *rows]
    return list({(row.get("kind"), row.get("reference")): row for row in every}.values())


def as_csv(submissions: Iterable[Mapping[str, Any]]) -> bytes:
    """Submissions as a spreadsheet opens them: UTF-8 with a byte order mark, and no cell that is a formula.

    That holds whether it separates by commas, semicolons or tabs.
    """
    text = io.StringIO()
    table = csv.writer(text, quoting=csv.QUOTE_ALL)
    table.writerow(COLUMNS)
    table.writerows([_harmless(cell) for cell in _cells(submission)] for submission in submissions)
    return text.getvalue().encode("utf-8-sig", "replace")


def of_call(waiting: Mapping[str, Any], kind: str, reference: str) -> dict[str, Any] | None:
    """The call of an UNKNOWN submission, with all that is decided together, or None when it does not wait."""
    for call in waiting.get("unknown", ()):
        if call.get("kind") == kind and reference in (row.get("reference") for row in call.get("submissions", ())):
            return dict(call)
    return None


def _cells(submission: Mapping[str, Any]) -> Sequence[str]:
    problems = submission.get("problems") or ()
    codes = ", ".join(filter(None, (each.get("code") for each in problems)))
    details = words_of({**submission, "problems": [{**each, "code": ""} for each in problems]})
    found = {**submission, "code": codes, "details": details}
    return [str(found.get(column, "")) for column in COLUMNS]


def _harmless(cell: str) -> str:
    return _FORMULA.sub(r"\1'", cell)


def _holds(entry: object, text: str) -> bool:
    sought = text.strip().casefold()
    return not sought or any(sought in said.casefold() for said in _said(entry))


def _said(entry: object) -> Iterator[str]:
    match entry:
        case Mapping():
            for value in entry.values():
                yield from _said(value)
        case list():
            for value in entry:
                yield from _said(value)
        case _:
            yield str(entry)
