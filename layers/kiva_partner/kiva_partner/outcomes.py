"""Outcomes as events: what has settled goes from the ledger's stream to an EventBridge bus; a digest there and by mail.

From the stream, and not from the sender's last line: DynamoDB puts every change into it and keeps it for 24 hours, so
an outcome is told also when its sender died right after writing it down. A record may come twice, with the same id.
Sources: Amazon DynamoDB Developer Guide, "Change data capture for DynamoDB Streams"; AWS Lambda Developer Guide,
"Configuring partial batch response with DynamoDB and Lambda"; Amazon EventBridge API Reference, "PutEvents".
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import batched
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from .errors import where
from .ledger import Ledger, Row, State, row_of
from .messages import Kind
from .runs import Runs
from .sending import Sending, Standing
from .settings import Settings
from .telemetry import Telemetry
from .versions import Versions, falls, linked, not_sent, shown
from .waiting import Waiting, counts, look

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef
    from mypy_boto3_sqs import SQSClient

SOURCE = "kiva-relay"
SETTLED = "SubmissionSettled"
NOT_SENT = "SubmissionNotSent"
DIGEST = "SubmissionDigest"

DIGEST_DAYS = 60
"""What has waited for longer is no news; `GET /waiting` shows it."""

MOST_NAMED = 20
"""Archives or uploads that a digest names one by one."""

ENTRIES = 10
"""Of one PutEvents, at most."""

MAX_DETAIL_BYTES = 25_000
"""Ten of them fit into a PutEvents, which takes 256 KiB. What a row holds comes to a fifth of it."""

_STATES = (State.ACCEPTED, State.REJECTED, State.STUCK, State.UNKNOWN, State.ABANDONED)
_log = logging.getLogger(__name__)

Record = Mapping[str, Any]
"""The stream's wrapper around one change."""


class Problem(Struct, frozen=True):
    """Something that Kiva found, in its words, with `•••` for what may be of the message itself.

    `loan_id` is the loan that Kiva names, where it is not simply that of the submission.
    """

    severity: str
    code: str
    details: str
    loan_id: str | UnsetType = UNSET


class Settled(Struct, frozen=True, kw_only=True):
    """What became of one submission. Holds no borrower's data: ids, states, Kiva's references and masked findings.

    New fields may be added under the same version: pass over what you do not know.
    """

    version: Literal["1"]
    id: Annotated[str, Meta(description="Of the change. An event may come twice, and then has the same id.")]
    at: Annotated[str, Meta(description="When the ledger was told; UTC, ISO 8601. Events may overtake each other.")]
    environment: Literal["stage", "production", "sandbox"]
    partner_id: Annotated[str, Meta(description="The partner's number at Kiva.")]
    kind: Kind
    reference: Annotated[str, Meta(description="Names the submission for ever: GET /submissions/{kind}/{reference}.")]
    loan_id: Annotated[str, Meta(description="The partner's own id of the loan; of a group, internal_loan_id.")]
    state: Annotated[
        Literal["ACCEPTED", "REJECTED", "STUCK", "UNKNOWN", "ABANDONED"],
        Meta(
            description="Of what is UNKNOWN nobody knows whether Kiva has it; what is STUCK it has not, and no message"
            " brings it there by itself."
        ),
    ]
    final: Annotated[
        bool, Meta(description="False for UNKNOWN and STUCK: a person is needed, and another event follows in the end.")
    ]
    previous_state: State | UnsetType = UNSET
    kiva: Annotated[
        dict[str, str],
        Meta(
            description="Kiva's ids: loan_draft_uuid, archive_id and confirm_url, upload_id, or kiva_id and loan_uuid."
        ),
    ]
    reason: Annotated[str, Meta(description="Why it is not, or by whom it was, accepted; masked.")] | UnsetType = UNSET
    problems: Annotated[list[Problem], Meta(description="What Kiva found, the worst first.")] | UnsetType = UNSET
    warnings: Annotated[list[str], Meta(description="What PA2 will want mended, though Kiva took it.")] | UnsetType = (
        UNSET
    )
    decision: (
        Annotated[
            Literal["accepted", "abandon"],
            Meta(description="A person's or the policy's word that brought this about. Who and why is in the ledger."),
        ]
        | UnsetType
    ) = UNSET
    amount: Annotated[str, Meta(description="Of a repayment: what it states for its loan and month.")] | UnsetType = (
        UNSET
    )
    replaces: (
        Annotated[str, Meta(description="The amount of the same loan and month that Kiva took before this.")]
        | UnsetType
    ) = UNSET
    replaced_by: (
        Annotated[str, Meta(description="The one that Kiva took after this, where that is known already.")] | UnsetType
    ) = UNSET
    stands_last: (
        Annotated[str, Meta(description="The one that Kiva took last, where that is another one.")] | UnsetType
    ) = UNSET
    in_doubt: (
        Annotated[list[str], Meta(description="Others of that month of which nobody knows whether Kiva has them.")]
        | UnsetType
    ) = UNSET
    attempts: Annotated[int, Meta(description="How often it was claimed for sending.")]
    call_id: Annotated[str, Meta(description="Of the call to Kiva: the same for all that went in it.")]


def _of_submission(record: Record, row: Row, settings: Settings) -> dict[str, Any]:
    """What every event about one submission says of it."""
    return {
        "version": "1",
        "id": record["eventID"],
        "environment": settings.environment,
        "partner_id": settings.partner_id,
        "kind": row.kind,
        "reference": row.reference,
        "loan_id": row.loan_id,
    }


def settled(record: Record, settings: Settings) -> Settled | None:
    """The event that a record of the stream tells; None where nothing has settled by it.

    A mark on a row that has settled before is no event: that it is kept, that somebody has seen to it. Whatever error
    it raises, the record is none of the ledger's.
    """
    images = record["dynamodb"]
    if images.get("NewImage", {}).get("state", {}).get("S") not in _STATES:
        return None
    row = row_of(images["NewImage"])
    before = row_of(images["OldImage"]) if "OldImage" in images else None
    if before and (before.state, before.outcome) == (row.state, row.outcome):
        return None
    facts = row.outcome.facts() if row.outcome else {}
    event = {
        **_of_submission(record, row, settings),
        "at": row.updated_at,
        "state": row.state,
        "final": row.state.is_final,
        "previous_state": before.state if before else UNSET,
        "kiva": facts.get("kiva", {}),
        "reason": facts.get("reason", UNSET),
        "problems": facts.get("problems", UNSET),
        "warnings": list(row.warnings) or UNSET,
        "amount": row.amount or UNSET,
        "decision": _decision(before, row),
        "attempts": row.attempts,
        "call_id": row.call_id,
    }
    return msgspec.convert({name: value for name, value in event.items() if value is not UNSET}, Settled)


def _decision(before: Row | None, row: Row) -> str | UnsetType:
    """The decision that this change is the effect of. Its reason is a person's free text, and stays in the ledger."""
    decided = before is not None and len(row.decisions) > len(before.decisions)
    return row.decisions[-1]["decision"] if decided else UNSET


class NotSent(Struct, frozen=True, kw_only=True):
    """An amount of a loan and month that came again after another one, and was not sent: perhaps it was a late copy.

    New fields may be added under the same version: pass over what you do not know.
    """

    version: Literal["1"]
    id: Annotated[str, Meta(description="Of the change. An event may come twice, and then has the same id.")]
    at: Annotated[str, Meta(description="When it came again; UTC, ISO 8601.")]
    environment: Literal["stage", "production", "sandbox"]
    partner_id: Annotated[str, Meta(description="The partner's number at Kiva.")]
    kind: Kind
    reference: Annotated[str, Meta(description="Names the submission that was sent once and not again.")]
    loan_id: Annotated[str, Meta(description="The partner's own id of the loan.")]
    period: Annotated[str, Meta(description="The month (YYYY-MM).")]
    amount: Annotated[str, Meta(description="What it states for that month.")]
    stands_last: Annotated[str, Meta(description="The reference of what Kiva took last for that month.")]
    in_doubt: Annotated[list[str], Meta(description="Those of which nobody knows whether Kiva has them.")]
    not_sent: Annotated[str, Meta(description="The same in words, and what to do.")]


def came_again(record: Record) -> Row | None:
    """The row of a record which tells that an amount that Kiva has came again; None for every other record."""
    images = record["dynamodb"]
    before, after = images.get("OldImage", {}), images.get("NewImage", {})
    again = after.get("state", {}).get("S") == State.ACCEPTED and "came_again_at" in after
    return row_of(after) if again and before.get("came_again_at") != after["came_again_at"] else None


class Digest(Struct, frozen=True, kw_only=True):
    """What waits for a person: how much of each, and the same as a text. Holds Kiva's ids and nothing of a borrower."""

    version: Literal["1"]
    environment: str
    partner_id: str
    waiting: dict[str, int]
    text: str


def text_of(waiting: Waiting, standing: Standing) -> str:
    """What waits, for a person to read, in lines; empty when nothing does."""
    return "\n".join(_parts(waiting, standing))


def _parts(waiting: Waiting, standing: Standing) -> Iterator[str]:
    yield from dict.fromkeys(standing.keeps(kind) for kind in Kind if standing.restored or kind in standing.paused)
    if drafts := len(waiting.made[Kind.LOAN_DRAFT]):
        yield f"{_number(drafts, 'draft')} to publish in PA2 > Loans > Drafts"
    if archives := waiting.made[Kind.JOURNAL_UPDATE]:
        outcomes = (made.rows[0].outcome for made in archives)
        urls = [outcome.kiva["confirm_url"] for outcome in outcomes if outcome and "confirm_url" in outcome.kiva]
        yield f"{_number(len(archives), 'archive')} to confirm{':' if urls else ''}"
        yield from _named(urls)
    if uploads := [made.kiva_reference for made in waiting.made[Kind.REPAYMENT]]:
        yield f"{_number(len(uploads), 'upload')} to finalise in PA2 > Repayments: {', '.join(_named(uploads))}"
    if calls := len(waiting.unknown):
        yield f"{_number(calls, 'call')} to decide, of which nobody knows whether Kiva has it"
    if not_sent := len(waiting.not_sent):
        yield f"{_number(not_sent, 'amount')} that came again and {'was' if not_sent == 1 else 'were'} not sent"
    if stuck := len(waiting.stuck):
        yield f"{_number(stuck, 'stuck submission')} that Kiva has not: to put right and send, or to give up"
    if rejected := len(waiting.rejected):
        yield f"{_number(rejected, 'refused submission')} to correct"


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"


def _named(names: Sequence[str]) -> list[str]:
    more = len(names) - MOST_NAMED
    return [*names[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])]


class Outcomes(Struct, frozen=True):
    """What stands behind the ledger's stream, and behind the clock's tick of every morning."""

    settings: Settings
    ledger: Ledger
    sending: Sending
    runs: Runs
    events: "Callable[[], EventBridgeClient]"
    sqs: "Callable[[], SQSClient]"
    sns: Callable[[], Any]
    telemetry: Telemetry
    clock: Callable[[], float] = time.time

    def publish(self, records: Sequence[Record]) -> list[str]:
        """Publish what a batch tells; gives the sequence number of the record from which on it is to come again.

        A record that cannot be read would hold up all that come after it, for a day, and then be lost with them: it is
        laid aside.
        """
        told: list[tuple[int, PutEventsRequestEntryTypeDef]] = []
        unreadable: list[tuple[int, Exception]] = []
        end = len(records)
        for position, record in enumerate(records):
            try:
                event, row = settled(record, self.settings), came_again(record)
            except Exception as error:  # noqa: BLE001 whatever it holds, the others must not wait for it
                unreadable.append((position, error))
                continue
            try:
                told += [(position, entry) for entry in self._entries(record, event, row)]
            except ValueError as error:
                unreadable.append((position, error))
            except Exception as error:  # noqa: BLE001 it comes again, and those before it need not
                self.telemetry.unexpected("outcomes come again, the ledger does not answer", error)
                end = position
                break
        end = self._put(told, end)
        # Only what comes before: the rest comes again, and would be laid aside twice.
        end = self._lay_aside([(records[position], position, error) for position, error in unreadable], end)
        return [records[end]["dynamodb"]["SequenceNumber"]] if end < len(records) else []

    def publish_digest(self) -> str:
        """Tell the bus and the coordinator what waits for a person, and give the text; nothing when nothing waits.

        Each of the two is told, whatever becomes of the other. Lambda repeats a run that failed; what the day's run has
        told before is not told again.

        Raises:
            ConnectionError: one of them has not taken it.
        """
        now = datetime.fromtimestamp(self.clock(), UTC)
        waiting = look(self.ledger, (now - timedelta(days=DIGEST_DAYS)).date())
        text = text_of(waiting, self.sending.standing())
        if text:
            stage = {"environment": self.settings.environment, "partner_id": self.settings.partner_id}
            self._tell(Digest(version="1", **stage, waiting=counts(waiting), text=text), now)
        self.runs.ended("digest", counts(waiting))
        return text

    def _tell(self, digest: Digest, now: datetime) -> None:
        parts: dict[str, Callable[[], None]] = {"event": partial(self._put_digest, digest, now)}
        if self.settings.digest_topic:
            parts["mail"] = partial(self._mail, digest)
        day = now.date().isoformat()
        told = self.runs.parts("digest", day)
        for name in parts.keys() - told:
            try:
                parts[name]()
            except Exception as error:  # noqa: BLE001 the other one must not suffer for it
                self.telemetry.unexpected(f"the digest's {name} was not taken", error)
            else:
                told |= {name}
        if missing := parts.keys() - told:
            self.runs.parted("digest", day, told)
            raise ConnectionError(f"the digest's {' and '.join(sorted(missing))} was not taken; the log says why")

    def _put_digest(self, digest: Digest, now: datetime) -> None:
        (taken,) = self.events().put_events(Entries=[self._entry(DIGEST, digest, now)])["Entries"]
        if "ErrorCode" in taken:
            raise ConnectionError(taken["ErrorCode"])

    def _mail(self, digest: Digest) -> None:
        """Source of a subject's limits, 100 characters in one line: Amazon SNS API Reference, "Publish"."""
        number = sum(digest.waiting.values())
        news = {0: "sending is paused", 1: "1 thing waits for a person"}.get(
            number, f"{number} things wait for a person"
        )
        subject = f"Kiva {digest.environment}, partner {digest.partner_id}: {news}"
        self.sns().publish(TopicArn=self.settings.digest_topic, Subject=subject, Message=digest.text)

    def _entries(
        self, record: Record, event: Settled | None, again: Row | None
    ) -> "Iterator[PutEventsRequestEntryTypeDef]":
        """What a record tells. Raises ValueError for what can never be an event."""
        if event:
            row = row_of(record["dynamodb"]["NewImage"])
            if row.states_month and row.state in (State.ACCEPTED, State.UNKNOWN):
                event = self._compared(event, row)
            yield self._entry(SETTLED, event, datetime.fromisoformat(event.at))
        if again:
            versions = linked(self.ledger, again, self.settings.rules.amount_mode)
            if text := not_sent(again, versions):
                yield self._entry(
                    NOT_SENT, self._not_sent(record, again, versions, text), datetime.fromisoformat(again.came_again_at)
                )

    def _compared(self, event: Settled, row: Row) -> Settled:
        """With what it is to the other amounts of its month, which the ledger is told as well."""
        versions = linked(self.ledger, row, self.settings.rules.amount_mode)
        facts = {name: told for name, told in shown(row, versions).items() if name in Settled.__struct_fields__}
        before = versions.before(row) if row.state is State.ACCEPTED else None
        warning = falls(before, row, self.settings.rules.amount_mode) if before else ""
        warnings = list(dict.fromkeys([*row.warnings, *([warning] if warning else [])]))
        return msgspec.structs.replace(event, **facts, warnings=warnings or UNSET)

    def _not_sent(self, record: Record, row: Row, versions: Versions, text: str) -> NotSent:
        told = {
            **_of_submission(record, row, self.settings),
            "at": row.came_again_at,
            "period": row.period,
            "amount": row.amount,
            "stands_last": versions.taken[-1].reference,
            "in_doubt": [each.reference for each in versions.in_doubt],
            "not_sent": text,
        }
        return msgspec.convert(told, NotSent)

    def _entry(
        self, detail_type: str, event: Settled | NotSent | Digest, at: datetime
    ) -> "PutEventsRequestEntryTypeDef":
        detail = msgspec.json.encode(event)
        if len(detail) > MAX_DETAIL_BYTES:
            raise ValueError("too large for an event")
        return {
            "EventBusName": self.settings.event_bus,
            "Source": SOURCE,
            "DetailType": detail_type,
            "Time": at,
            "Detail": detail.decode(),
        }

    def _put(self, told: Iterable[tuple[int, "PutEventsRequestEntryTypeDef"]], end: int) -> int:
        """The position of the first entry that the bus has not taken; `end` when it has all of them."""
        for some in batched(told, ENTRIES):
            try:
                answer = self.events().put_events(Entries=[entry for _, entry in some])
            except Exception as error:  # noqa: BLE001 they come again, and those before them need not
                self.telemetry.unexpected("outcomes come again, the bus does not take them", error)
                return some[0][0]
            refused = [
                (position, it["ErrorCode"])
                for (position, _), it in zip(some, answer["Entries"], strict=True)
                if "ErrorCode" in it
            ]
            self.telemetry.count("OutcomePublished", len(some) - len(refused))
            if refused:
                _log.warning("outcomes come again, the bus refused %s of them: %s", len(refused), refused[0][1])
                return refused[0][0]
        return end

    def _lay_aside(self, unreadable: Iterable[tuple[Record, int, Exception]], end: int) -> int:
        """As `_put`, for the dead-letter queue: which record it was and where it failed, and nothing that it holds."""
        for record, position, error in unreadable:
            if position >= end:
                break
            _log.error("a record of the stream is laid aside: unexpected %s", where(error))
            letter = {
                "eventID": record.get("eventID"),
                "Keys": record.get("dynamodb", {}).get("Keys"),
                "error": where(error),
            }
            try:
                self.sqs().send_message(QueueUrl=self.settings.dead_letter_queue_url, MessageBody=json.dumps(letter))
            except Exception as failure:  # noqa: BLE001 it comes again
                self.telemetry.unexpected("the dead-letter queue does not take a record of the stream", failure)
                return position
            self.telemetry.count("OutcomeLaidAside")
        return end
