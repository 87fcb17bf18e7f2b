"""What Kiva says besides yes and no: its wording in any of the forms that servers use, and its findings on rows.

Nothing that Kiva finds is dropped. A finding belongs to a row only where that is certain, and a row counts as taken or
refused only by a word that is known; everything else is a doubt, which makes the call UNKNOWN and is shown to a person.
This reads findings and nothing else: references and fingerprints are always compared exactly, for `00123` and `123`
may be two loans.
Sources: Kiva partner portal, "Report payments"; the names of severities that Java libraries use.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any

from msgspec import Struct

MAX_WORDING = 2000
"""Characters of a text of Kiva's that are looked at."""

MAX_DEPTH = 4
"""Of objects in objects in which words are looked for."""

MILD = frozenset({"warning", "warn", "info", "information", "notice"})
GRAVE = frozenset({"error", "fatal", "critical", "severe", "failure", "failed", "rejected"})


class Weight(IntEnum):
    """What a finding means for its row; the greater one counts where a row has several."""

    MILD = 0
    """The row was taken."""
    UNCLEAR = 1
    """Nobody can tell: its severity is missing, or a word that nobody knows."""
    GRAVE = 2
    """The row was refused."""


class Finding(Struct, frozen=True):
    """One entry of `problems`, in Kiva's words: mask them before anybody sees them. What is missing is empty."""

    loan_id: str
    severity: str
    code: str
    details: str

    @property
    def weight(self) -> Weight:
        """By the severity, in any case."""
        word = self.severity.strip().casefold()
        return Weight.MILD if word in MILD else Weight.GRAVE if word in GRAVE else Weight.UNCLEAR


class Findings(Struct, frozen=True):
    """What Kiva found in the rows of one call.

    `of_rows` has a list for each row, in the order of the call, and `of_call` holds what fits no row. `doubt` says why
    nobody can tell what Kiva has of this call; empty where that is certain.
    """

    of_rows: list[list[Finding]]
    of_call: list[Finding]
    doubt: str = ""


def read_findings(answer: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Findings:
    """Read what an answer (names in snake_case) that says success finds in rows of `loan_id` and perhaps `client_id`.

    A finding is about the row that has exactly its loan id. Where no row has, it is about the one that has the same id
    but for its being a number, blanks around it, capitals or leading zeros; and only if there is exactly one such row,
    no other finding names that row exactly, and no client id contradicts. None is about a row without an id.
    """
    problems = answer.get("problems")
    if problems is None:  # as empty lists of other programs are written
        problems = []
    doubt = ""
    if not isinstance(problems, list):
        doubt, problems = "its problems are not a list", [problems]
    exact = {row["loan_id"]: index for index, row in enumerate(rows) if "loan_id" in row}
    named_exactly = exact.keys() & {_id(each, "loan") for each in problems}
    of_rows: list[list[Finding]] = [[] for _ in rows]
    of_call: list[Finding] = []
    for each in problems:
        name = _id(each, "loan")
        index = exact.get(name) if isinstance(name, str) else None
        if index is None and name is not None:
            alike = [at for loan, at in exact.items() if loan not in named_exactly and _is_alike(each, rows[at])]
            index = alike[0] if len(alike) == 1 else None
        (of_call if doubt or index is None else of_rows[index]).append(_finding(each))
    if said := wording({name: answer.get(name) for name in ("error", "errors", "field_errors", "violations")}):
        of_call.append(Finding("", "", "", said))
    if any(each.weight is not Weight.MILD for each in of_call):
        doubt = doubt or "it names a problem that fits no row of this call"
    elif of_call and not any(of_rows) and exact and any(_id(each, "loan") is not None for each in problems):
        doubt = doubt or "its problems are about loans of another call"
    return Findings(of_rows, of_call, doubt)


def _is_alike(finding: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    if _folded(_id(finding, "loan")) != _folded(row["loan_id"]):
        return False
    client = _id(finding, "client")
    return client is None or "client_id" not in row or _folded(client) == _folded(row["client_id"])


def _id(finding: object, of: str) -> str | int | None:
    """The id of a loan or client as Kiva wrote it; its French pages call them as its loans do."""
    if not isinstance(finding, dict):
        return None
    for name in (f"{of}_id", f"internal_{of}_id"):
        value = finding.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip():
            return value
    return None


def _folded(name: object) -> str:
    return str(name).strip().casefold().lstrip("0")


def _finding(entry: object) -> Finding:
    if not isinstance(entry, dict):
        return Finding("", "", "", wording(entry))
    name = _id(entry, "loan")
    return Finding(
        loan_id="" if name is None else str(name)[:MAX_WORDING],
        severity=_text(entry, "severity"),
        code=_text(entry, "code"),
        details=_text(entry, "details") or wording(entry),
    )


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    return str(value)[:MAX_WORDING] if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


# --- wording ----------------------------------------------------------------------------------------------------------

_WORDS = ("message", "detail", "details", "title", "error_description", "error", "default_message", "description")
_LISTS = ("errors", "field_errors", "violations", "problems")
_PLACES = ("field", "pointer", "path", "property", "name")


def wording(answer: object) -> str:
    """All that an answer (names in snake_case) says in words, unmasked, `MAX_WORDING` characters at most.

    Understood are OAuth's `error`, Spring Boot's `message` and `errors[]` of `field` and `defaultMessage`, `detail` and
    `title` of RFC 9457, an `error` that is an object, errors by field, and lists of any of these.
    """
    # Each text once, in its order.
    return "; ".join(dict.fromkeys(_texts(answer, MAX_DEPTH)))[:MAX_WORDING]


def _texts(value: object, depth: int) -> Iterator[str]:
    match value:
        case str() if text := " ".join(value[:MAX_WORDING].split()):
            yield text
        case list() if depth:
            for each in value:
                yield from _texts(each, depth - 1)
        case dict() if depth:
            place = next((value[name] for name in _PLACES if isinstance(value.get(name), str)), "")
            said = [text for name in _WORDS for text in _texts(value.get(name), depth - 1)]
            yield from (f"{place}: {text}" for text in said) if place and said else said
            for name in _LISTS:
                yield from _of_fields(value.get(name), depth - 1)


def _of_fields(value: object, depth: int) -> Iterator[str]:
    """A list of errors; or errors by the field that they are about, as ASP.NET and others write them."""
    if isinstance(value, dict) and value.keys().isdisjoint(_WORDS):
        for field, errors in value.items():
            yield from (f"{field}: {text}" for text in _texts(errors, depth))
    else:
        yield from _texts(value, depth)
