"""What waits for a person: unknown outcomes, what is stuck or refused, what is to be published, confirmed or finalised.

Kiva's API ends at a draft, an archive or an upload. A coordinator goes on in PA2, and nothing tells us when
they have; so what was made waits until somebody says that it is done.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any

from msgspec import Struct

from .api import show
from .decisions import KIVA_REFERENCE, call_id, decidable_at
from .ledger import Ledger, Row, State
from .messages import Kind

MOST_DAYS = 400
"""Settled rows are kept no longer."""


class Call(Struct, frozen=True):
    """A call to Kiva of which nobody knows what it came to; its submissions are decided together."""

    kind: Kind
    id: str
    rows: list[Row]

    @property
    def decidable_at(self) -> float:
        """Epoch seconds."""
        return max(map(decidable_at, self.rows))


class Made(Struct, frozen=True):
    """What a call made at Kiva: a draft, an archive of journals, or an upload of repayments."""

    kind: Kind
    kiva_reference: str
    rows: list[Row]

    @property
    def accepted_at(self) -> str:
        """UTC, ISO 8601."""
        return min(row.updated_at for row in self.rows)


class Waiting(Struct, frozen=True):
    """All that waits, the latest first."""

    unknown: list[Call]
    stuck: list[Row]
    rejected: list[Row]
    not_sent: list[Row]
    made: dict[Kind, list[Made]]


def look(ledger: Ledger, since: date) -> Waiting:
    """What has changed since a day (UTC) and nobody has marked as done; what is unknown or stuck whatever its age."""
    unknown: list[Call] = []
    stuck: list[Row] = []
    rejected: list[Row] = []
    not_sent: list[Row] = []
    made: dict[Kind, list[Made]] = {}
    for kind in Kind:
        unknown += _calls(kind, ledger.every(kind, State.UNKNOWN))
        stuck += ledger.every(kind, State.STUCK)
        refused = list(ledger.every(kind, State.REJECTED, since=since))
        accepted = list(ledger.every(kind, State.ACCEPTED, since=since))
        again = [row for row in accepted if row.is_not_sent]
        things = _things(kind, [*accepted, *refused])
        keys = [*(thing.kiva_reference for thing in things), *(row.reference for row in [*refused, *again])]
        done = ledger.read_done(kind, keys)
        rejected += [row for row in refused if done.get(row.reference, "") < row.updated_at]
        not_sent += [row for row in again if done.get(row.reference, "") < row.came_again_at]
        made[kind] = [thing for thing in things if done.get(thing.kiva_reference, "") < thing.accepted_at]
    by_arrival = sorted(not_sent, key=lambda row: row.came_again_at, reverse=True)
    return Waiting(unknown, _latest_first(stuck), _latest_first(rejected), by_arrival, made)


def _calls(kind: Kind, rows: Iterable[Row]) -> list[Call]:
    calls: dict[str, list[Row]] = {}
    for row in rows:
        calls.setdefault(call_id(row) or row.reference, []).append(row)
    return [Call(kind, call, of_call) for call, of_call in calls.items()]


def _things(kind: Kind, rows: Sequence[Row]) -> list[Made]:
    """What of it is at Kiva. A refused row of a report is in an upload nevertheless."""
    things: dict[str, list[Row]] = {}
    for row in rows:
        if reference := (row.outcome.kiva if row.outcome else {}).get(KIVA_REFERENCE[kind]):
            things.setdefault(reference, []).append(row)
    made = [Made(kind, reference, of_thing) for reference, of_thing in things.items()]
    # Where Kiva refused every row there is nothing to finalise.
    made = [thing for thing in made if any(row.state is State.ACCEPTED for row in thing.rows)]
    return sorted(made, key=lambda thing: thing.accepted_at, reverse=True)


def _latest_first(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.updated_at, reverse=True)


def counts(waiting: Waiting) -> dict[str, int]:
    """How much of each waits."""
    return {
        "unknown": len(waiting.unknown),
        "stuck": len(waiting.stuck),
        "rejected": len(waiting.rejected),
        "not_sent": len(waiting.not_sent),
        "uploads": len(waiting.made[Kind.REPAYMENT]),
        "archives": len(waiting.made[Kind.JOURNAL_UPDATE]),
        "drafts": len(waiting.made[Kind.LOAN_DRAFT]),
    }


# --- how it is shown ------------------------------------------------------------------------------------------------

LOOK_IN: dict[Kind, tuple[str, str]] = {
    Kind.LOAN_DRAFT: ("PA2 > Loans > Drafts, then PA2 > Loans", "the loan id, or the borrower's name"),
    Kind.JOURNAL_UPDATE: (
        "PA2 > Journals, and archives that are still to be confirmed",
        "these loan ids, at the time it was sent",
    ),
    Kind.REPAYMENT: ("PA2 > Repayments", "an upload of that time with as many rows"),
}
"""Where in PA2 a person sees whether Kiva has it, and what to look for."""

_THINGS = {Kind.LOAN_DRAFT: "the draft", Kind.JOURNAL_UPDATE: "archive", Kind.REPAYMENT: "upload"}

MOST_LOAN_IDS = 20
"""Of an archive that are shown: enough to recognise it."""

MOST_SHOWN = 500
"""Of each sort. Five times as many submissions, with all that Kiva says of each, are what one answer holds (6 MB)."""


def shown(waiting: Waiting, days: int) -> dict[str, Any]:
    """What waits for a client, by what a person must do: how much of each, and the latest `MOST_SHOWN`."""
    drafts, archives, uploads = (waiting.made[kind][:MOST_SHOWN] for kind in Kind)
    rows_of_calls, rows_of_uploads = _Room(), _Room()
    return {
        "days": days,
        "counts": counts(waiting),
        "unknown": [_show_call(call, rows_of_calls) for call in waiting.unknown[:MOST_SHOWN]],
        "stuck": [show(row) for row in waiting.stuck[:MOST_SHOWN]],
        "rejected": [show(row) for row in waiting.rejected[:MOST_SHOWN]],
        "not_sent": [show(row) for row in waiting.not_sent[:MOST_SHOWN]],
        "drafts": [_show_draft(made, made.rows[0]) for made in drafts],
        "archives": [_show_archive(made) for made in archives],
        "uploads": [_show_upload(made, rows_of_uploads) for made in uploads],
    }


class _Room:
    """What is left of `MOST_SHOWN` for rows of several things."""

    def __init__(self) -> None:
        self._left = MOST_SHOWN

    def take(self, rows: Sequence[Row], at_least: int) -> list[dict[str, Any]]:
        """As many of the rows as there is room for, and in any case the first few."""
        taken = rows[: max(self._left, at_least)]
        self._left -= len(taken)
        return [show(row) for row in taken]


def _show_call(call: Call, room: _Room) -> dict[str, Any]:
    where, what = LOOK_IN[call.kind]
    known = next((it.outcome.kiva for it in call.rows if it.outcome and it.outcome.kiva), {})
    if kiva_reference := known.get(KIVA_REFERENCE[call.kind]):
        what = f"{_THINGS[call.kind]} {kiva_reference}"
    return {
        "kind": call.kind,
        "call_id": call.id,
        "sent_at": min(row.updated_at for row in call.rows),
        "decidable_at": datetime.fromtimestamp(call.decidable_at, UTC).isoformat(timespec="seconds"),
        "look_in": where,
        "look_for": what,
        **({"kiva_reference": kiva_reference} if kiva_reference else {}),
        "rows": len(call.rows),
        "submissions": room.take(call.rows, 1),
    }


def _show_draft(made: Made, row: Row) -> dict[str, Any]:
    return {
        "reference": row.reference,
        "loan_id": row.loan_id,
        "loan_draft_uuid": made.kiva_reference,
        "accepted_at": made.accepted_at,
        "warnings": list(row.warnings),
    }


def _show_archive(made: Made) -> dict[str, Any]:
    url = next(
        (row.outcome.kiva["confirm_url"] for row in made.rows if row.outcome and "confirm_url" in row.outcome.kiva), ""
    )
    return {
        "archive_id": made.kiva_reference,
        **({"confirm_url": url} if url else {}),
        "accepted_at": made.accepted_at,
        "journals": len(made.rows),
        "loan_ids": sorted({row.loan_id for row in made.rows})[:MOST_LOAN_IDS],
    }


def _show_upload(made: Made, room: _Room) -> dict[str, Any]:
    problems = [row for row in made.rows if row.outcome and row.outcome.problems]
    return {
        "upload_id": made.kiva_reference,
        "accepted_at": made.accepted_at,
        "rows": len(made.rows),
        "periods": sorted({row.period for row in made.rows if row.period}),
        "problem_rows": len(problems),
        "problems": room.take(problems, 0),
    }
