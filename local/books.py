"""What the demo sent, what the relay says became of it, and what Kiva has: kept, compared, and shown to people."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

Submission = Mapping[str, Any]
"""A submission as the relay's API shows it."""

FEW: Final = 10
"""Submissions of a message that are shown one by one. Of more, those that ended alike share a line."""
WIDE: Final = 120

_NOUNS: Final = {"loan_draft": "Loan drafts", "journal_update": "Journal updates", "repayment": "Repayments"}
_STYLES: Final = {"ACCEPTED": "green", "REJECTED": "red", "UNKNOWN": "yellow"}


@dataclass(slots=True)
class Message:
    """One message, where it comes from and went in, and what became of it.

    `things` holds what Kiva should get: each loan's id, with the subject of its journal or the amount of its repayment.
    The API refused the message when there is a `refusal`; code could not take it when there is a `dead_letter`, the
    reason for that; else each loan id gets its submission when that has ended.
    """

    file: str
    way: str
    kind: str
    body: str
    status: int | None = None
    refusal: str = ""
    dead_letter: str = ""
    submissions: dict[str, Submission] = field(default_factory=dict)
    things: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        try:
            self.things = dict(_things(self.kind, json.loads(self.body, parse_float=Decimal)))
        except (ValueError, KeyError, TypeError):
            self.things = {}

    @property
    def missing(self) -> int:
        """How many of its submissions have not ended. A message that cannot be read counts as one."""
        if self.refusal or self.dead_letter:
            return 0
        return max(1, len(self.things)) - len(self.submissions)


def _things(kind: str, document: Any) -> Iterator[tuple[str, str]]:
    match kind:
        case "loan_draft":
            yield _loan_of(document), ""
        case "journal_update":
            yield from ((each["internal_loan_id"], each.get("subject", "")) for each in document["journals"])
        case "repayment":
            yield from ((each["loan_id"], f"{each['amount']:.2f}") for each in document["repayments"])


def _loan_of(draft: Mapping[str, Any]) -> str:
    borrowers = draft["entreps"]
    loan_id: str = draft["internal_loan_id"] if len(borrowers) > 1 else borrowers[0]["loan_id"]
    return loan_id


@dataclass(frozen=True, slots=True)
class Reading:
    """A file of events/ that submits nothing: what was asked for, the HTTP status, and the answer in a few words."""

    file: str
    what: str
    status: int
    answer: str


@dataclass(frozen=True, slots=True)
class AtKiva:
    """One thing that Kiva has, or ought to have. A repayment row that Kiva refused is there, but not taken."""

    kind: str
    loan_id: str
    detail: str
    reference: str
    taken: bool = True

    def __str__(self) -> str:
        return f"{self.kind} of loan {self.loan_id} as {self.reference}"


@dataclass(slots=True)
class Books:
    """Everything that a run sent and found."""

    messages: list[Message] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    strangers: set[str] = field(default_factory=set)
    at_kiva: Counter[AtKiva] = field(default_factory=Counter)
    token_requests: int = 0
    calls: Mapping[str, int] = field(default_factory=dict)


# --- compared -------------------------------------------------------------------------------------------------------


def at_kiva(drafts: Sequence[Any], journals: Sequence[Any], uploads: Sequence[Any]) -> Counter[AtKiva]:
    """Everything that the sandbox has received, from its three views, and how often."""
    return Counter(
        chain(
            (AtKiva("loan_draft", _loan_of(kept["body"]), "", kept["loan_draft_uuid"]) for kept in drafts),
            (
                AtKiva(
                    "journal_update",
                    kept["journal"]["internal_loan_id"],
                    kept["journal"]["subject"],
                    kept["archive_id"],
                )
                for kept in journals
            ),
            (
                AtKiva("repayment", row["loan_id"], f"{row['amount']:.2f}", str(kept["upload_id"]), row["recorded"])
                for kept in uploads
                for row in kept["rows"]
            ),
        )
    )


def mistakes(books: Books, readme: str) -> Iterator[str]:
    """Each thing that is not as it should be, one line for one thing; `readme` is the text of events/README.md."""
    yield from sorted(books.strangers)
    yield from _wrong_endings(books, readme)
    for thing, count in _expected_at_kiva(books).items():
        if books.at_kiva[thing] != count:
            yield f"{thing}: {books.at_kiva[thing]} times at Kiva instead of once"
    for thing in books.at_kiva.keys() - _expected_at_kiva(books).keys():
        yield f"{thing}: at Kiva, but not in the ledger as that"
    if books.token_requests != 1:
        yield f"{books.token_requests} token requests instead of 1"


def _expected_at_kiva(books: Books) -> Counter[AtKiva]:
    return Counter(
        AtKiva(message.kind, loan_id, message.things[loan_id], reference, ended["state"] == "ACCEPTED")
        for message in books.messages
        for loan_id, ended in message.submissions.items()
        if (reference := _reference(ended))
    )


def _reference(submission: Submission) -> str:
    """Kiva's id of what it made of a submission; empty when it made nothing."""
    kiva = submission.get("kiva", {})
    return str(kiva.get("loan_draft_uuid") or kiva.get("archive_id") or kiva.get("upload_id") or "")


def _wrong_endings(books: Books, readme: str) -> Iterator[str]:
    """Compare with the tables of events/README.md, whose last column says how a file ends."""
    promised = dict(re.findall(r"^\| `([a-z]+/\S+)` \|.*\| ([^|]+) \|$", readme, re.MULTILINE))
    found: dict[str, Counter[str]] = {reading.file: Counter([f"HTTP {reading.status}"]) for reading in books.readings}
    for message in books.messages:
        ending = found.setdefault(message.file, Counter())
        ending["dead letter"] += bool(message.dead_letter)
        for submission in message.submissions.values():
            ending[submission["state"]] += 1
            ending["of them with a warning"] += submission["state"] == "ACCEPTED" and "problem" in submission
        if message.file.startswith("api/"):
            ending[f"HTTP {message.status}"] += 1
    for file in sorted(promised.keys() | found.keys()):
        if file not in promised or file not in found:
            yield f"{file}: " + ("is not in events/README.md" if file in found else "was not used")
        elif _ending(promised[file]) != +found[file]:
            got = ", ".join(f"{count} {what}" for what, count in (+found[file]).items())
            yield f"{file}: should end as «{promised[file]}», but ended as «{got}»"


def _ending(words: str) -> Counter[str]:
    counts = re.findall(r"(\d+) (ACCEPTED|REJECTED|dead letter|of them with a warning)", words)
    ending = Counter({what: int(count) for count, what in counts})
    if status := re.match(r"\d{3}\b(?! [A-Z])", words):
        ending[f"HTTP {status[0]}"] = 1
    # The schedule's tick ends in words alone.
    return ending or Counter({"HTTP 200": 1})


# --- shown ----------------------------------------------------------------------------------------------------------


def show(books: Books, console: Console) -> None:
    """Print what became of everything, for people: no borrower's name, and no thousand lines."""
    dead_letters = [(each.file, each.dead_letter) for each in books.messages if each.dead_letter]
    refusals = [(each.file, str(each.status), each.refusal) for each in books.messages if each.refusal]
    readings = [(each.file, each.what, str(each.status), each.answer) for each in books.readings]
    console.print(_submissions(books.messages, console.width), "")
    for title, columns, rows in (
        ("Dead letters: nothing of them is at Kiva; correct them and send them anew", ("File", "Reason"), dead_letters),
        ("Refused by the API: nothing of them is at Kiva", ("File", "Status", "Rule"), refusals),
        ("Read, and done by the clock", ("File", "Request", "Status", "Answer"), readings),
    ):
        table = _table(title, *columns)
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table, "")
    console.print("[bold]Journals to confirm[/]")
    for archive_id, url in sorted(_confirm_urls(books)):
        console.print(f"archive {archive_id}: {url}", soft_wrap=True)
    console.print("\n[bold]Totals[/]")
    for name, value in _totals(books):
        console.print(f"{name:<16}{value}")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
    table.padding, table.pad_edge = (0, 1, 0, 0), False
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _submissions(messages: Sequence[Message], width: int) -> Table:
    table = _table("", "Submission", "By", "State", "Kiva's reference", "Problem, and what a person must do next")
    # A draft's uuid takes one line or, where that would leave no room for the rest, two.
    table.columns[3].width = 36 if width >= WIDE else 18
    above = ""
    for kind, noun in _NOUNS.items():
        table.add_section()
        table.add_row(f"[bold]{noun}[/]")
        for message in messages:
            for name, state, kiva, to_do in _lines(message) if message.kind == kind else ():
                table.add_row(name, message.way, state, kiva, "as above" if to_do == above else to_do)
                above = to_do
    return table


def _lines(message: Message) -> Iterator[tuple[str, str, str, str]]:
    """One line for each submission; of a long message one for each way of ending."""
    groups: dict[tuple[str, str], list[Submission]] = {}
    for submission in (message.submissions[loan_id] for loan_id in message.things if loan_id in message.submissions):
        ending = submission["state"], submission.get("problem", {}).get("code", "")
        alike = ending if len(message.submissions) > FEW else (submission["reference"], "")
        groups.setdefault(alike, []).append(submission)
    for group in groups.values():
        names = [each["reference"] for each in group]
        name = f"{names[0].split(':')[0]}: {len(group)} loans" if len(group) > FEW else "\n".join(names)
        state = group[0]["state"]
        ids = list(dict.fromkeys(map(_reference, group)))
        noun = {"journal_update": "archive ", "repayment": "upload "}.get(message.kind, "")
        yield (
            escape(name),
            f"[{_STYLES.get(state, 'bold')}]{state}[/]",
            noun + ", ".join(ids),
            _to_do(group[0], ids[1:]),
        )


def _to_do(submission: Submission, ids: Sequence[str]) -> str:
    """What is wrong with it and what comes next; `ids` are Kiva's for all the submissions that share the line."""
    problem = submission.get("problem", {})
    found = f"{problem['code']}: {problem['details']}" if problem else submission.get("reason", "")
    step = submission["next_step"].replace("confirm_url", "its URL below")
    others = [each for each in ids if each != _reference(submission)]
    if submission["state"] == "ACCEPTED" and others:
        step += f"; likewise {', '.join(others)}"
    return escape(f"{found}\n→ {step}" if found else step)


def _confirm_urls(books: Books) -> set[tuple[str, str]]:
    shown = (each.get("kiva", {}) for message in books.messages for each in message.submissions.values())
    return {(kiva["archive_id"], kiva["confirm_url"]) for kiva in shown if "confirm_url" in kiva}


def _totals(books: Books) -> Iterator[tuple[str, str]]:
    dead = sum(bool(message.dead_letter) for message in books.messages)
    refused = sum(bool(message.refusal) for message in books.messages)
    states = Counter(each["state"] for message in books.messages for each in message.submissions.values())
    yield "Messages", f"{len(books.messages)}, {dead} of them dead letters and {refused} refused by the API"
    yield "Submissions", ", ".join(f"{count} {state}" for state, count in states.most_common())
    yield "Token requests", str(books.token_requests)
    yield "Calls to Kiva", ", ".join(f"{count} {name}" for name, count in books.calls.items())
