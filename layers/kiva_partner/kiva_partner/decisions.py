"""What a person decides about a submission of which nobody knows whether Kiva has it.

Reading can prove that Kiva has it, never that it has not. So somebody looks in PA2 and says what is true; who, when and
why stays with the submission. What went to Kiva in one call is decided together.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum

from msgspec import UNSET, Struct, UnsetType

from .errors import InvalidMessage, NotDecidable, Violation
from .ledger import Ledger, Outcome, Row, State
from .messages import Kind, KivaReference, Line, Strict, checked
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


class Decision(Strict, frozen=True, kw_only=True):
    """The body of `POST /submissions/{kind}/{reference}/decision`."""

    decision: Choice
    reason: Line
    kiva_reference: KivaReference | UnsetType = UNSET


def parse_decision(body: str) -> Decision:
    """Read a decision. Raises InvalidMessage."""
    decision = checked(decode(body), Decision)
    if (decision.decision is Choice.ACCEPTED) != (decision.kiva_reference is not UNSET):
        rule = "is needed to say that Kiva accepted it, and belongs to nothing else"
        raise InvalidMessage(Violation("$.kiva_reference", rule))
    return decision


class Decisions(Struct, frozen=True):
    """Puts decisions into effect."""

    ledger: Ledger
    clock: Callable[[], float] = time.time

    def decide(self, row: Row, decision: Decision, by: str) -> list[Row]:
        """Decide about a submission and all that went to Kiva in the same call; gives those that were decided.

        Raises:
            NotDecidable: it is not UNKNOWN (any more), its sender or a gateway may still be at work, or it cannot be
                sent again because it is not kept. Then nothing was changed.
        """
        if row.state is not State.UNKNOWN:
            raise NotDecidable(f"it is {row.state}: only what is UNKNOWN waits for a decision")
        now = self.clock()
        rows = self._of_the_same_call(row)
        if (wait := max(map(decidable_at, rows)) - now) > 0:
            raise NotDecidable("its call may still be under way; look again later", retry_after=wait)
        if decision.decision is Choice.SEND_AGAIN and (gone := sum(not each.payload for each in rows)):
            raise NotDecidable(f"{gone} of {len(rows)} are not kept here: send the event once more, then decide again")
        resolved = self.ledger.resolve(
            rows,
            _outcome(row.kind, decision),
            decision=_record(decision, by, now),
            claimed_until=now - SETTLING_SECONDS,
        )
        decided = [each.reference for each, done in zip(rows, resolved, strict=True) if done]
        if not decided:
            raise NotDecidable("somebody else decided it, or it was proved, a moment ago: look what it is now")
        return list(self.ledger.read_all(row.kind, decided).values())

    def _of_the_same_call(self, row: Row) -> list[Row]:
        """The row first. A draft is alone in its call."""
        if row.kind is Kind.LOAN_DRAFT or not call_id(row):
            return [row]
        others = self.ledger.every(row.kind, State.UNKNOWN)
        return [row] + [each for each in others if call_id(each) == call_id(row) and each.reference != row.reference]


def decidable_at(row: Row) -> float:
    """Epoch seconds from which on nobody can be at work on it any more."""
    return row.lease_until + SETTLING_SECONDS


def call_id(row: Row) -> str:
    """The call to Kiva that its outcome is of."""
    return row.outcome.call_id if row.outcome else ""


def _outcome(kind: Kind, decision: Decision) -> Outcome:
    match decision.decision:
        case Choice.ACCEPTED:
            kiva = {KIVA_REFERENCE[kind]: str(decision.kiva_reference)}
            return Outcome(State.ACCEPTED, "somebody found it at Kiva", kiva)
        case Choice.SEND_AGAIN:
            return Outcome(State.RETRY, "it was decided to send it again")
        case Choice.ABANDON:
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
    return record
