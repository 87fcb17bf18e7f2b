"""What the demo sent, what the relay says became of it, and what Kiva has: kept, compared, and shown to people."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from typing import Any

from rich.console import Console

from cli.show import Group, Submission, cell, kivas, outcomes, table, to_confirm, totals


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
        if (reference := kivas(ended))
    )


def _wrong_endings(books: Books, readme: str) -> Iterator[str]:
    """Compare with the tables of events/README.md, whose last column says how a file ends."""
    promised = dict(re.findall(r"^\| `([a-z]+/\S+)` \|.*\| ([^|]+) \|$", readme, re.MULTILINE))
    found: dict[str, Counter[str]] = {reading.file: Counter([f"HTTP {reading.status}"]) for reading in books.readings}
    for message in books.messages:
        ending = found.setdefault(message.file, Counter())
        ending["dead letter"] += bool(message.dead_letter)
        for submission in message.submissions.values():
            ending[submission["state"]] += 1
            ending["of them with a warning"] += submission["state"] == "ACCEPTED" and "problems" in submission
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
    every = [submission for message in books.messages for submission in message.submissions.values()]
    console.print(outcomes([_group(message) for message in books.messages], console.width), "")
    for title, columns, rows in (
        ("Dead letters: nothing of them is at Kiva; correct them and send them anew", ("File", "Reason"), dead_letters),
        ("Refused by the API: nothing of them is at Kiva", ("File", "Status", "Rule"), refusals),
        ("Read, and done by the clock", ("File", "Request", "Status", "Answer"), readings),
    ):
        shown = table(title, *columns)
        for row in rows:
            shown.add_row(*("\n".join(map(cell, it.splitlines())) for it in row))
        console.print(shown, "")
    console.print("[bold]Journals to confirm[/]")
    for line in to_confirm(every):
        console.print(line, soft_wrap=True)
    console.print("\n[bold]Totals[/]")
    for name, value in _totals(books):
        console.print(f"{name:<16}{value}")


def _group(message: Message) -> Group:
    """Its submissions, in the order in which they were sent."""
    ended = message.submissions
    return Group(message.kind, [ended[loan_id] for loan_id in message.things if loan_id in ended], message.way)


def _totals(books: Books) -> Iterator[tuple[str, str]]:
    dead = sum(bool(message.dead_letter) for message in books.messages)
    refused = sum(bool(message.refusal) for message in books.messages)
    every = [submission for message in books.messages for submission in message.submissions.values()]
    yield "Messages", f"{len(books.messages)}, {dead} of them dead letters and {refused} refused by the API"
    yield "Submissions", totals(every)
    yield "Token requests", str(books.token_requests)
    yield "Calls to Kiva", ", ".join(f"{count} {name}" for name, count in books.calls.items())
