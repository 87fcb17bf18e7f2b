"""What a person decides about a submission of which nobody knows whether Kiva has it, or that is stuck.

Reading can prove that Kiva has it, never that it has not. So somebody looks in PA2 and says what is true; who, when and
why stays with the submission. What went to Kiva in one call is decided in one decision, for Kiva has the call or has it
not; of a call that it has, the decision may except rows that Kiva did not take. What Kiva refused may be reopened.
"""

import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, field

from .errors import InvalidMessage, NotDecidable, Violation
from .ledger import Ledger, Outcome, Row, State
from .messages import MAX_ROWS, Kind, KivaReference, Line, Strict, checked, proves_nothing
from .strict_json import decode

SETTLING_SECONDS = 15 * 60
"""After a claim's end: until then a gateway may still deliver what the sender gave up waiting for."""

KIVA_REFERENCE = {
    Kind.LOAN_DRAFT: "loan_draft_uuid",
    Kind.JOURNAL_UPDATE: "archive_id",
    Kind.REPAYMENT: "upload_id",
}
"""What Kiva calls its own id of what was created."""


class Choice(StrEnum):
    """What can be decided."""

    ACCEPTED = "accepted"
    """Kiva has it, under the reference that is given."""
    SEND_AGAIN = "send-again"
    """Kiva has it not: send it again."""
    ABANDON = "abandon"
    """Whether Kiva has it or not, it is not to be sent."""
    REOPEN = "reopen"
    """Kiva refused it, and nothing is wrong with it: it is sent once more when its event is sent again."""


class Decision(Strict, frozen=True, kw_only=True):
    """The body of `POST /submissions/{kind}/{reference}/decision`."""

    decision: Choice
    reason: Line
    kiva_reference: KivaReference | UnsetType = UNSET
    excepted: (
        Annotated[
            list[str],
            Meta(min_length=1, max_length=MAX_ROWS, description="References of the call that Kiva has not taken"),
        ]
        | UnsetType
    ) = field(name="except", default=UNSET)


def parse_decision(body: str) -> Decision:
    """Read a decision. Raises InvalidMessage."""
    decision = checked(decode(body), Decision)
    if (decision.decision is Choice.ACCEPTED) != (decision.kiva_reference is not UNSET):
        rule = "is needed to say that Kiva accepted it, and belongs to nothing else"
        raise InvalidMessage(Violation("$.kiva_reference", rule))
    if decision.kiva_reference is not UNSET and proves_nothing(decision.kiva_reference):
        raise InvalidMessage(Violation("$.kiva_reference", "is no id of Kiva's; copy the one that PA2 shows"))
    if decision.excepted is not UNSET and decision.decision is not Choice.ACCEPTED:
        raise InvalidMessage(Violation("$.except", "belongs to the decision accepted alone"))
    return decision


class Decisions(Struct, frozen=True):
    """Puts decisions into effect."""

    ledger: Ledger
    clock: Callable[[], float] = time.time

    def decide(self, row: Row, decision: Decision, by: str) -> list[Row]:
        """Decide about a submission and all that went to Kiva in the same call; gives those that were decided.

        Raises:
            InvalidMessage: it excepts what is not of this call.
            NotDecidable: it is neither UNKNOWN nor STUCK (any more), its sender or a gateway may still be at work, it
                cannot be sent again because it is not kept, Kiva's id proves another call, or it is STUCK and not to be
                abandoned. Then nothing was changed.
        """
        if decision.decision is Choice.REOPEN:
            return self._reopen(row, decision, by)
        if row.state is State.STUCK:
            return self._give_up(row, decision, by)
        if row.state is not State.UNKNOWN:
            raise NotDecidable(f"it is {row.state}: only what is UNKNOWN or STUCK waits for this decision")
        now = self.clock()
        rows = self._of_the_same_call(row)
        if (wait := max(map(decidable_at, rows)) - now) > 0:
            raise NotDecidable(f"its call may still be under way; {_possible_from(now + wait, wait)}", retry_after=wait)
        if decision.decision is Choice.SEND_AGAIN and (gone := sum(not each.payload for each in rows)):
            raise NotDecidable(f"{gone} of {len(rows)} are not kept here: send the event once more, then decide again")
        outcomes = [(each, _outcome(each, decision)) for each in rows]
        _refuse_strangers(decision, rows)
        if not self.ledger.claim_proofs(row.kind, outcomes[0][1], call_id(row) or row.reference):
            raise NotDecidable("this id of Kiva's proves another call already: look in PA2 which it is of")
        resolved = self.ledger.resolve(
            outcomes, decision=_record(decision, by, now), claimed_until=now - SETTLING_SECONDS
        )
        return self._decided(rows, resolved)

    def _give_up(self, row: Row, decision: Decision, by: str) -> list[Row]:
        """What is STUCK surely is not at Kiva, and nobody is at work on it: it may be given up at once, and alone."""
        if decision.decision is not Choice.ABANDON:
            raise NotDecidable(
                "it is STUCK, and can only be abandoned; else redrive its dead letter or send the event again"
            )
        record = _record(decision, by, self.clock())
        return self._decided([row], self.ledger.resolve([(row, _outcome(row, decision))], decision=record))

    def _reopen(self, row: Row, decision: Decision, by: str) -> list[Row]:
        """What Kiva refused as a call is reopened as a call; what it refused as a row of a call, alone."""
        if row.state is not State.REJECTED:
            raise NotDecidable(f"it is {row.state}: only what is REJECTED can be reopened")
        if row.reopened:
            raise NotDecidable("it is reopened already: send its event again")
        rows = [row]
        if row.outcome and row.outcome.http_status and call_id(row):
            refused = self.ledger.every(row.kind, State.REJECTED, since=day_before(row.updated_at))
            rows += [each for each in refused if call_id(each) == call_id(row) and each.reference != row.reference]
        return self._decided(rows, self.ledger.reopen(rows, _record(decision, by, self.clock())))

    def _decided(self, rows: Sequence[Row], done: Sequence[bool]) -> list[Row]:
        decided = [each.reference for each, it in zip(rows, done, strict=True) if it]
        if not decided:
            raise NotDecidable("it was decided, proved or claimed a moment ago: look what it is now")
        return list(self.ledger.read_all(rows[0].kind, decided).values())

    def _of_the_same_call(self, row: Row) -> list[Row]:
        """The row first. A draft is alone in its call."""
        if row.kind is Kind.LOAN_DRAFT or not call_id(row):
            return [row]
        others = self.ledger.every(row.kind, State.UNKNOWN)
        return [row] + [each for each in others if call_id(each) == call_id(row) and each.reference != row.reference]


def decidable_at(row: Row) -> float:
    """Epoch seconds from which on nobody can be at work on it any more."""
    return row.lease_until + SETTLING_SECONDS


def _possible_from(when: float, wait: float) -> str:
    """When a decision will be possible, in minutes, rounded up. `when` in epoch seconds, `wait` in seconds."""
    minutes, moment = math.ceil(wait / 60), datetime.fromtimestamp(math.ceil(when / 60) * 60, UTC)
    return f"it can be decided from {moment:%Y-%m-%d %H:%M} UTC on, in {minutes} min"


def day_before(updated_at: str) -> date:
    """Since when (UTC) the rows that were settled together with one have changed: that may have been at midnight."""
    return date.fromisoformat(updated_at[:10]) - timedelta(days=1)


def call_id(row: Row) -> str:
    """The call to Kiva that its outcome is of."""
    return row.outcome.call_id if row.outcome else ""


def _refuse_strangers(decision: Decision, rows: Sequence[Row]) -> None:
    references = {row.reference for row in rows}
    strangers = [
        Violation(f"$.except[{index}]", "names no submission of this call that waits for a decision")
        for index, reference in enumerate(decision.excepted or ())
        if reference not in references
    ]
    if strangers:
        raise InvalidMessage(*strangers)


def _outcome(row: Row, decision: Decision) -> Outcome:
    """What becomes of one row of the call. What Kiva had found in it stays with it."""
    problems = row.outcome.problems if row.outcome else ()
    kiva = {KIVA_REFERENCE[row.kind]: str(decision.kiva_reference)}
    match decision.decision:
        case Choice.ACCEPTED if row.reference in (decision.excepted or ()):
            reason = "somebody found that Kiva did not take it"
            return Outcome(State.REJECTED, reason, kiva, problems, call_id=call_id(row))
        case Choice.ACCEPTED:
            return Outcome(State.ACCEPTED, "somebody found it at Kiva", kiva, problems, call_id=call_id(row))
        case Choice.SEND_AGAIN:
            return Outcome(State.RETRY, "it was decided to send it again")
    return Outcome(State.ABANDONED, "it was decided to give it up")


def _record(decision: Decision, by: str, now: float) -> dict[str, str]:
    record = {
        "decision": decision.decision.value,
        "reason": decision.reason,
        "by": by,
        "at": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
    }
    if decision.kiva_reference is not UNSET:
        record["kiva_reference"] = decision.kiva_reference
    if decision.excepted is not UNSET:
        record["except"] = f"{len(decision.excepted)} of its call"
    return record
