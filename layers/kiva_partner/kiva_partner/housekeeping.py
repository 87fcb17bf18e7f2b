"""What nobody should have to remember: dead claims, proof that can be read, sending again, and forgetting.

Everything here is conditional on what the ledger says at that moment, so it may run twice, and die anywhere.
"""

import logging
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from .catalogue import Catalogue, Catalogues
from .client import KivaClient, Remaining, made_at
from .decisions import Choice, Decision, Decisions, decidable_at
from .errors import Misconfigured, NewerVersion, NotDecidable, NotSent
from .ledger import WAITING, Ledger, Outcome, Row, State
from .messages import Kind
from .payloads import Kept, Payloads
from .sending import Sending
from .settings import OUTCOMES, Settings, UnknownPolicy
from .telemetry import Telemetry

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

RUN_SECONDS = 300
"""Between two runs (`template.yaml`)."""

CLOCK_SKEW = 600
"""By which Kiva's clock may be behind ours."""

CATALOGUE_SECONDS = 3600
"""So a location that is added in PA2 is known within the hour."""

MOST_ATTEMPTS = 3
"""Of a submission that is sent again without anybody being asked; then a person is."""

RETENTION_SECONDS = 7 * 86_400
"""For which a queue keeps a message (`MessageRetentionPeriod` in `template.yaml`)."""

MOST_STUCK = 1000
"""Of a kind and a state that one run marks; the next one goes on."""

JUDGED_SECONDS = 3600
"""By the answers of which it is told whether Kiva refuses many."""

FEWEST_REFUSED, MOST_REFUSED = 10, 200
"""Refusals of a kind in that time: with fewer nothing is told, for of three one alone is a third; no more are read."""

_GONE = (
    f"it has waited for {RETENTION_SECONDS // 86_400} days, and its queue keeps no message for longer: its message is a"
    " dead letter, has expired or was purged"
)
_log = logging.getLogger(__name__)


class Housekeeping(Struct, frozen=True):
    """One run does each of these once, in this order."""

    settings: Settings
    ledger: Ledger
    client: KivaClient
    payloads: Payloads
    decisions: Decisions
    catalogues: Catalogues
    sending: Sending
    sqs: "Callable[[], SQSClient]"
    telemetry: Telemetry
    clock: Callable[[], float] = time.time

    def expire_claims(self) -> int:
        """Turn claims whose sender ended without a word into UNKNOWN."""
        dead = [
            row for kind in Kind for row in self.ledger.every(kind, State.SENDING) if row.lease_until < self.clock()
        ]
        expired = [self.ledger.expire_claim(row) for row in dead]
        self.telemetry.expired(expired)
        return len(expired)

    def find_stuck(self) -> int:
        """Mark what has waited for longer than its queue keeps a message: nothing brings it to Kiva by itself."""
        before = self.clock() - RETENTION_SECONDS
        waiting = [
            row
            for kind in Kind
            for state in WAITING
            for row in self.ledger.list_by_state(kind, state, before=before, limit=MOST_STUCK).rows
        ]
        stuck = self.ledger.mark_stuck([(row, _GONE) for row in waiting if row.needs_its_message])
        self.telemetry.stuck(stuck)
        return len(stuck)

    def prove(self, remaining: Remaining) -> int:
        """Look for UNKNOWN drafts among Kiva's loans. What is found was accepted; what is not found proves nothing."""
        proved = 0
        due = [row for row in self.ledger.every(Kind.LOAN_DRAFT, State.UNKNOWN) if self._is_due(row)]
        if not due:
            return 0
        with self.client.session(remaining) as kiva:
            for row in due:
                if not kiva.has_time():
                    break
                try:
                    loans = kiva.all_loans(query=row.loan_id)
                    loan = next((loan for loan in loans if _is_loan_of(row, loan)), None)
                except (NotSent, Misconfigured) as error:
                    _log.warning("drafts whose outcome is unknown cannot be looked for: %s", error)
                    break
                proved += bool(loan and self._accept(row, loan))
        self.telemetry.count("SubmissionProved", proved, Kind.LOAN_DRAFT)
        return proved

    def _is_due(self, row: Row) -> bool:
        """At every run for an hour, then hourly: a draft shows among the loans only when somebody has published it."""
        since = self.clock() - _epoch(row.updated_at)
        return since < 3600 or self.clock() % 3600 < RUN_SECONDS  # noqa: PLR2004 seconds of an hour

    def _accept(self, row: Row, loan: dict[str, Any]) -> bool:
        ids = [("kiva_id", "kiva_id", r"[0-9]{1,20}"), ("loan_uuid", "uuid", r"[0-9A-Fa-f-]{1,64}")]
        kiva = {name: text for name, of, shape in ids if re.fullmatch(shape, text := str(loan.get(of)))}
        found = Outcome(State.ACCEPTED, "found among Kiva's loans", kiva)
        # Another draft of the same loan may have become this one.
        return (
            self.ledger.claim_proofs(row.kind, found, row.call_id or row.reference)
            and self.ledger.resolve([(row, found)])[0]
        )

    def refresh_catalogue(self, remaining: Remaining) -> bool:
        """Fetch Kiva's lists, with which drafts are compared, when they are an hour old. Tells whether it did."""
        stored = self.catalogues.load()
        if stored and self.clock() - stored.fetched_at < CATALOGUE_SECONDS:
            return False
        try:
            with self.client.session(remaining) as kiva:
                self.catalogues.save(Catalogue.of(kiva.config, self.clock()))
        except (NotSent, Misconfigured) as error:
            _log.warning("Kiva's lists cannot be fetched: %s", error)
            return False
        return True

    def send_again(self) -> int:
        """Decide to send again what is UNKNOWN, where the policy of its kind is to do so without asking a person."""
        sent: set[tuple[Kind, str]] = set()
        for kind in Kind:
            if self.settings.unknown_policies[kind] is UnknownPolicy.RESEND:
                for row in list(self.ledger.every(kind, State.UNKNOWN)):
                    due = decidable_at(row) <= self.clock() and row.attempts < MOST_ATTEMPTS
                    if due and (kind, row.reference) not in sent:
                        sent |= {(kind, reference) for reference in self._send_again(row)}
        return len(sent)

    def _send_again(self, row: Row) -> list[str]:
        """What of its call is sent again."""
        decision = Decision(decision=Choice.SEND_AGAIN, reason="the policy for unknown outcomes is to send again")
        try:
            return [each.reference for each in self.decisions.decide(row, decision, "policy")]
        except NotDecidable as error:  # not kept, or a person was quicker
            _log.info("%s %s is not sent again: %s", row.kind, row.reference, error)
            return []

    def requeue(self) -> int:
        """Put a message into the queue for each submission that is to be sent again. Twice would do no harm."""
        requeued = 0
        for kind in Kind:
            for row in [each for each in self.ledger.every(kind, State.RETRY) if each.requeue]:
                if kept := Kept.at(row.payload):
                    self.sqs().send_message(QueueUrl=self.settings.queue_urls[kind], MessageBody=kept.pointer)
                    self.ledger.requeued(row)
                    requeued += 1
        return requeued

    def forget_settled(self) -> int:
        """Delete the payloads of what is no longer unknown, by whatever way it was settled."""
        forgotten = 0
        all_kept = list(self.payloads.all_kept())
        for kind in Kind:
            every = [kept for kept in all_kept if kept.kind is kind]
            rows = self.ledger.read_all(kind, [kept.reference for kept in every])
            for kept in every:
                if self._is_needless(kept, rows.get(kept.reference)):
                    self.payloads.forget(kept)
                    forgotten += 1
        return forgotten

    def _is_needless(self, kept: Kept, row: Row | None) -> bool:
        try:
            row = row or self.ledger.read(kept.kind, kept.reference)
        except NewerVersion:
            return False
        return row is None or row.state.is_final or not row.fingerprint.startswith(kept.fingerprint)

    def report(self) -> int:
        """Tell what waits for a person and what is held up; gives how many are UNKNOWN."""
        unknown = sum(1 for kind in Kind for _ in self.ledger.every(kind, State.UNKNOWN))
        standing = self.sending.standing()
        letters = {name: sum(self._in_queue(url)) for name, url in self.settings.dead_letter_queue_urls.items()}
        of_outcomes = letters.pop(OUTCOMES)
        self.telemetry.stands(
            {
                "UnknownWaiting": unknown,
                "CircuitsOpen": len(standing.open_until),
                "DeadLetters": sum(letters.values()),
                "OutcomeDeadLetters": of_outcomes,
                "QueuesNotEmptied": sum(self._is_left_alone(kind) for kind in Kind if kind not in standing.paused),
            },
            max(map(self._refused_percent, Kind)),
        )
        return unknown

    def _in_queue(self, url: str) -> tuple[int, int]:
        """How many messages of a queue can be received, and how many somebody has in hand or wait to be retried.

        Asked here, for SQS's own metrics of a queue that was at rest begin up to 15 minutes late. Source: Amazon SQS
        Developer Guide, "Available CloudWatch metrics".
        """
        told = self.sqs().get_queue_attributes(
            QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        )["Attributes"]
        return int(told["ApproximateNumberOfMessages"]), int(told["ApproximateNumberOfMessagesNotVisible"])

    def _is_left_alone(self, kind: Kind) -> bool:
        """Whether messages can be received and nobody has any: then the function is not called, or cannot read them.

        By chance that is so for a moment; the alarm wants it three times in a row.
        """
        visible, in_hand = self._in_queue(self.settings.queue_urls[kind])
        return visible > 0 and in_hand == 0

    def _refused_percent(self, kind: Kind) -> float:
        """The share of what Kiva refused of that which it answered within the hour; 0 where it refused only a few.

        A bounded number of rows is read: where more were refused, it is that of the time in which the last were. Four
        accepted ones for each are enough to tell that it is a fifth at most.
        """
        since = datetime.fromtimestamp(self.clock() - JUDGED_SECONDS, UTC)
        # Not by one page, which DynamoDB ends after 1 MB.
        refused = list(islice(self.ledger.every(kind, State.REJECTED, since=since), MOST_REFUSED))
        if len(refused) < FEWEST_REFUSED:
            return 0
        if len(refused) == MOST_REFUSED:
            since = datetime.fromisoformat(refused[-1].updated_at)
        accepted = sum(1 for _ in islice(self.ledger.every(kind, State.ACCEPTED, since=since), 4 * len(refused)))
        return 100 * len(refused) / (len(refused) + accepted)


def _is_loan_of(row: Row, loan: dict[str, Any]) -> bool:
    """The very ids, and made after the draft was first sent: an older loan may have had the same id."""
    made = made_at(loan)
    return (
        loan.get("internal_loan_id") == row.loan_id
        and loan.get("internal_client_id") == row.client_id
        and made is not None
        and made >= _epoch(row.created_at) - CLOCK_SKEW
    )


def _epoch(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
