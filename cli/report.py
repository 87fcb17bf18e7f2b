"""What `relay submit` says: what there is to mend, what was taken in, and what became of it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from cli import show
from cli.files import Bad
from cli.submit import Sent
from kiva_partner.messages import Kind

FINE: Final = 0
PROBLEM: Final = 1
WRONG: Final = 2
UNREACHABLE: Final = 3
UNFINISHED: Final = 4
INTERRUPTED: Final = 130


def mistakes(bad: Sequence[Bad]) -> Iterator[str]:
    """A line for each thing to fix; lines below each other that break the same rule share one."""
    for (file, rule, unit, _), run in groupby(
        enumerate(bad), key=lambda it: (it[1].file, it[1].rule, it[1].unit, it[1].number - it[0])
    ):
        some = [each for _, each in run]
        first, last = some[0].number, some[-1].last or some[-1].number
        several = f"{unit}s {first} to {last}" if last > first else f"{unit} {first}"
        yield show.harmless(f"{file}, {several}: {rule}" if first else f"{file}: {rule}")


def outcome(sent: Sequence[Sent], bad: Sequence[Bad], *, wait: bool, as_json: bool) -> None:
    """Print what was taken in, and what became of it where somebody has waited for that."""
    submissions = [it for each in sent for it in each.submissions]
    refused = [(each.ready.where, each.refused or each.unanswered) for each in sent if not each.answer]
    document = {
        "bad": list(map(_mistake, bad)),
        "left_out": _left_out(bad),
        "messages": list(map(_message, sent)),
        "totals": _states(submissions),
    }
    if wait:
        document["submissions"] = submissions
    shown: list[Any] = []
    if wait and submissions:
        kinds = [show.Group(kind, [it for it in submissions if it["kind"] == kind]) for kind in Kind]
        shown += [show.outcomes([it for it in kinds if it.submissions], show.screen().width), ""]
        shown += [*show.to_confirm(submissions)]
    if refused:
        table = show.table("Not taken in", "Where", "Why")
        for row in refused:
            table.add_row(*map(show.cell, row))
        shown += [table, ""]
    taken = sum(bool(each.answer) for each in sent)
    told = f"Taken in: {taken} of {len(sent)} messages; submissions: {show.totals(submissions) or 'none'}"
    shown.append(told if sent else "Nothing was sent.")
    if sent and bad:
        counts = (f"{count} {unit}{'s' * (count > 1)}" for unit, count in _left_out(bad).items())
        shown.append(f"Not sent, and to be fixed: {', '.join(counts)}")
    if not wait and taken == 1:
        of = next(each for each in sent if each.answer)
        shown.append(f"See what becomes of it: relay status {show.cell(of.answer['reference'])} --kind {of.ready.kind}")
    show.answer(document, *shown, as_json=as_json)


def _mistake(bad: Bad) -> dict[str, Any]:
    place = {bad.unit: bad.number} if bad.number else {}
    last = {f"last_{bad.unit}": bad.last} if bad.last else {}
    return {"file": bad.file, **place, **last, "rule": bad.rule}


def _left_out(bad: Sequence[Bad]) -> dict[str, int]:
    """How many lines, messages and files are not sent; of one several rules may say so."""
    things = {
        ("file", each.file, 0) if each.whole or not each.number else (each.unit, each.file, number)
        for each in bad
        for number in range(each.number, max(each.number, each.last) + 1)
    }
    return Counter(unit for unit, _, _ in sorted(things))


def _states(submissions: Sequence[show.Submission]) -> dict[str, int]:
    return Counter(each["state"] for each in submissions)


def _message(sent: Sent) -> dict[str, Any]:
    told: dict[str, Any] = {"where": sent.ready.where, "kind": sent.ready.kind}
    if sent.answer:
        return {**told, "reference": sent.answer["reference"], "states": _states(sent.submissions)}
    return told | ({"refused": sent.refused} if sent.refused else {"no_answer": sent.unanswered})


def exit_code(sent: Sequence[Sent], bad: Sequence[Bad], *, wait: bool) -> int:
    """What repeating the command mends comes before what a person must see to."""
    states = {it["state"] for each in sent for it in each.submissions}
    if any(each.unanswered for each in sent):
        return UNREACHABLE
    if wait and any(each.open for each in sent):
        return UNFINISHED
    if bad or any(each.refused for each in sent) or states & {"REJECTED", "STUCK", "UNKNOWN", "ABANDONED"}:
        return PROBLEM
    return FINE
