"""What is shown: tables for people, JSON for programs. Nothing that came from outside commands the terminal."""

import io
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

Submission = Mapping[str, Any]
"""A submission as the relay's API shows it."""

FEW: Final = 20
"""Submissions that are shown one by one. Of more, those that ended alike share a line."""
WIDE: Final = 120

NOUNS: Final = {"loan_draft": "Loan drafts", "journal_update": "Journal updates", "repayment": "Repayments"}
"""What submissions of a kind are called."""
_STYLES: Final = {"ACCEPTED": "green", "REJECTED": "red", "STUCK": "red", "UNKNOWN": "yellow"}


class Group(NamedTuple):
    """Submissions of one kind that are shown together, and by which way they went in where that is of interest."""

    kind: str
    submissions: Sequence[Submission]
    way: str = ""


# --- where to ---------------------------------------------------------------------------------------------------------


def fit_every_terminal() -> None:
    r"""From here on a character that the terminal's encoding lacks is printed by name, such as `\N{BULLET}`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="namereplace")


def screen(*, stderr: bool = False) -> Console:
    """Standard output or error; as wide as a page where it is no terminal."""
    console = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    return console


def answer(document: Any, *shown: RenderableType, as_json: bool) -> None:
    """Print the JSON document on standard output, or what is shown to people instead."""
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        screen().print(*shown, sep="\n")


def say(text: str) -> None:
    """A line for people, on standard error."""
    print(text, file=sys.stderr, flush=True)


def somebody_answers() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty()


def progress(*, as_json: bool) -> Progress:
    """A bar on standard error, while somebody looks at it."""
    console = screen(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=console, transient=True, disable=as_json or not console.is_terminal)


@dataclass(frozen=True)
class Line:
    """One thing that was looked at. `next` is a command or a place in the runbook; empty where nothing is to do."""

    name: str
    verdict: Literal["ok", "look", "bad", "unseen"]
    detail: str
    next: str = ""

    def __rich__(self) -> str:
        """With its mark, for Rich to print."""
        mark = {"ok": "[green]✓[/]", "look": "[yellow]![/]", "bad": "[red]✗[/]", "unseen": "?"}[self.verdict]
        shown = f"{mark} {cell(self.name)}: {cell(self.detail)}"
        return f"{shown}\n  → {cell(self.next)}" if self.next else shown


def harmless(text: object) -> str:
    """One line that a terminal obeys in nothing: control characters and changes of direction become `?`."""
    return "".join(it if it.isprintable() else "?" for it in str(text))


def cell(text: object) -> str:
    """As `harmless`, with brackets that Rich takes for themselves."""
    return escape(harmless(text))


def moment(when: datetime, now: datetime) -> str:
    """A moment as people write it, the day only where it is another one: `14:05 UTC`, `29 November, 14:05 UTC`."""
    when = when.astimezone(UTC)
    day = "" if when.date() == now.astimezone(UTC).date() else f"{when.day} {when:%B}, "
    return f"{day}{when:%H:%M} UTC"


def span(time: timedelta) -> str:
    """A length of time in its largest unit, rounded down: `3 days`, `5 h`, `12 min`, `40 s`."""
    seconds = max(int(time.total_seconds()), 0)
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if number := seconds // size:
            return f"{number} {'day' if (number, unit) == (1, 'days') else unit}"
    return f"{seconds} s"


# --- tables -----------------------------------------------------------------------------------------------------------


def table(title: str, *columns: str) -> Table:
    """An empty table; what is added to it must be `cell`s."""
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
    made.padding, made.pad_edge = (0, 1, 0, 0), False
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def rows(title: str, columns: Mapping[str, str], found: Iterable[Mapping[str, Any]]) -> Table:
    """A table of things, by the name of each column and of the field that is in it."""
    made = table(title, *columns)
    for each in found:
        made.add_row(*(cell(each.get(name) or "") for name in columns.values()))
    return made


def outcomes(groups: Sequence[Group], width: int) -> Table:
    """What became of submissions: no borrower's name, and no thousand lines."""
    by = ["By"] if any(group.way for group in groups) else []
    made = table("", "Submission", *by, "State", "Kiva's reference", "Problem, and what a person must do next")
    # A draft's uuid takes one line or, where that would leave no room for the rest, two.
    made.columns[-2].width = 36 if width >= WIDE else 18
    above = ""
    for kind, noun in NOUNS.items():
        of_kind = [group for group in groups if group.kind == kind]
        if not (of_kind or by):
            continue
        made.add_section()
        made.add_row(f"[bold]{noun}[/]")
        for group in of_kind:
            for name, state, kiva, to_do in _lines(group):
                way = [group.way] if by else []
                made.add_row(name, *way, state, kiva, "as above" if to_do == above else to_do)
                above = to_do
    return made


def _lines(group: Group) -> Iterator[tuple[str, str, str, str]]:
    """One line for each submission; of many one for each way of ending."""
    alike: dict[tuple[str, str], list[Submission]] = {}
    for submission in group.submissions:
        ending = submission["state"], ", ".join(each.get("code", "") for each in submission.get("problems", ()))
        key = ending if len(group.submissions) > FEW else (submission["reference"], "")
        alike.setdefault(key, []).append(submission)
    for some in alike.values():
        state = some[0]["state"]
        ids = list(dict.fromkeys(filter(None, map(kivas, some))))
        noun = {"journal_update": "archive ", "repayment": "upload "}.get(group.kind, "") if ids else ""
        yield (
            _name(some),
            f"[{_STYLES.get(state, 'bold')}]{cell(state)}[/]",
            noun + ", ".join(map(cell, ids)),
            _to_do(some, ids),
        )


def _name(some: Sequence[Submission]) -> str:
    names = [each["reference"] for each in some]
    if len(names) <= FEW:
        return "\n".join(map(cell, names))
    beginnings = {name.partition(":")[0] for name in names}
    shared = f"{cell(beginnings.pop())}: " if len(beginnings) == 1 else ""
    return f"{shared}{len(names)} loans"


def kivas(submission: Submission) -> str:
    """Kiva's id of what it made of a submission; empty when it made nothing."""
    kiva = submission.get("kiva", {})
    return str(kiva.get("loan_draft_uuid") or kiva.get("archive_id") or kiva.get("upload_id") or "")


def _to_do(some: Sequence[Submission], ids: Sequence[str]) -> str:
    """What is wrong with submissions that share a line, and what comes next; `ids` are Kiva's for them."""
    first = some[0]
    found = words_of(first)
    if not found and len(some) == 1:
        found = "; ".join(first.get("warnings", ()))
    step = first["next_step"].replace("confirm_url", "its URL below")
    if first["state"] == "ACCEPTED" and (others := [each for each in ids if each != kivas(first)]):
        step += f"; likewise {', '.join(others)}"
    return f"{cell(found)}\n→ {cell(step)}" if found else cell(step)


def words_of(submission: Submission) -> str:
    """What was found wrong: Kiva's findings where there are some, and else what happened to the call."""
    state, found = submission.get("state"), [finding(each) for each in submission.get("problems", ())]
    # Findings alone do not say why nobody knows.
    first = [str(submission.get("reason", ""))] if state == "UNKNOWN" or not found else []
    return "; ".join(filter(None, [*first, *found]))


def finding(problem: Mapping[str, str]) -> str:
    """One of Kiva's findings: what it is about where that is not the submission, its code and its words."""
    about = f"{problem['loan_id']}: " if problem.get("loan_id") else ""
    return about + ": ".join(filter(None, (problem.get("code", ""), problem.get("details", ""))))


def to_confirm(submissions: Iterable[Submission]) -> Iterator[str]:
    """A line for each archive of journals that a person opens and confirms."""
    shown = (each.get("kiva", {}) for each in submissions)
    for archive_id, url in sorted(
        {(kiva["archive_id"], kiva["confirm_url"]) for kiva in shown if "confirm_url" in kiva}
    ):
        yield f"archive {cell(archive_id)}: {cell(url)}"


def totals(submissions: Iterable[Submission]) -> str:
    """How many are in which state, the most first."""
    return ", ".join(
        f"{count} {harmless(state)}" for state, count in Counter(it["state"] for it in submissions).most_common()
    )


def details(submission: Submission) -> Table:
    """Everything that is known of one submission."""
    made = table("", "", "")
    made.show_header = False
    for name, value in _facts(submission):
        made.add_row(f"[bold]{name}[/]", cell(value))
    return made


def _facts(submission: Submission) -> Iterator[tuple[str, Any]]:
    for name, value in submission.items():
        label = name.replace("_", " ")
        match name, value:
            case "decisions", _:
                for each in value:
                    kiva = f", Kiva's reference {each['kiva_reference']}" if "kiva_reference" in each else ""
                    yield "decision", f"{each['at']}  {each['decision']}{kiva}: {each['reason']} ({each['by']})"
            case "problems", _:
                yield from (("problem", f"{each.get('severity', '')} {finding(each)}".strip()) for each in value)
            case _, dict():
                yield from ((f"{label}'s {key}".replace("_", " "), it) for key, it in value.items())
            case _, list():
                yield label, ", ".join(map(str, value))
            case _:
                yield label, value
