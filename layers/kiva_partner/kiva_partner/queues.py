"""An SQS batch in, a partial batch response out.

Only what may come again is reported back, and waits in its queue, longer each time. What code can never take goes to
the dead-letter queue at once, with the reason as an attribute, while its neighbours are submitted; so does what has
been delivered for the last time. A row that waited for such a message is STUCK from then on. A response of None would
delete the whole batch. Source: AWS Lambda Developer Guide, "Handling errors for an SQS event source".
"""

import json
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import batched, islice
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from . import formats
from .client import Remaining
from .errors import InvalidMessage, KivaUnavailable, Misconfigured, NewerVersion, NotSent, Violation, where
from .ledger import Ledger, Row
from .messages import FROM_API, MAX_MESSAGE_BYTES, Kind, Message, Submission, parse
from .pa2 import Review, refusals
from .payloads import Payloads, pointed
from .relay import Relay, Result, Verdict
from .settings import Settings
from .telemetry import Telemetry

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from mypy_boto3_sqs import SQSClient

FIRST_WAIT = 30
LONGEST_WAIT = 3600
"""Seconds. `template.yaml` counts with it: 100 receives outlast a day's outage."""

MOST_RECEIVES = 100
"""How often a queue gives a message (`maxReceiveCount` in `template.yaml`); then SQS moves it, and gives no reason."""

MAX_REASON = 1000
_log = logging.getLogger(__name__)

Record = Mapping[str, Any]
"""SQS's wrapper around one message."""


_Left = Sequence[tuple[Submission | Row, str]]
"""What of a message is not settled, each with the reason."""


class Queues:
    """The queue that a function works on, and the dead letters of it, for what no repetition can help."""

    def __init__(
        self,
        sqs: Callable[[], "SQSClient"],
        payloads: Payloads,
        queue_url: str,
        dead_letter_queue_url: str,
        *,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._sqs = sqs
        self._payloads = payloads
        self._queue_url = queue_url
        self._dead_letter_queue_url = dead_letter_queue_url
        self._jitter = jitter

    def lay_aside(self, record: Record, kind: Kind, reason: str) -> None:
        """Put the message among the dead letters. A body too large for that is kept in the bucket."""
        body = record["body"]
        in_bytes = body.encode("utf-8", "surrogatepass")
        if len(in_bytes) > MAX_MESSAGE_BYTES:
            body = json.dumps({"body_in_bucket": self._payloads.put_dead_letter(record["messageId"], in_bytes)})
        attributes = {"Reason": reason[:MAX_REASON], "Kind": kind.value, "SourceMessageId": record["messageId"]}
        if sent := record["attributes"].get("SentTimestamp"):  # the letter is a message of its own, and has its own
            sent_at = datetime.fromtimestamp(int(sent) / 1000, UTC)
            attributes["FirstSentAt"] = sent_at.isoformat(timespec="seconds")
        self._sqs().send_message(
            QueueUrl=self._dead_letter_queue_url,
            MessageBody=body,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
        )

    def put_off(self, waits: Iterable[tuple[Record, float]]) -> None:
        """Let messages that come again wait: at least the seconds given, and longer with every delivery.

        On top of the seconds comes a time by chance, half of the longest at least ("equal jitter"): what failed
        together does not come back together, and one message that Kiva does not take is delivered often enough for an
        alarm (tests/template/rules.py). Where SQS does not take it, a message waits for the visibility timeout of its
        queue.
        Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
        """
        for some in batched(waits, 10):
            entries = [
                {
                    "Id": str(index),
                    "ReceiptHandle": record["receiptHandle"],
                    "VisibilityTimeout": self._wait(int(record["attributes"]["ApproximateReceiveCount"]), seconds),
                }
                for index, (record, seconds) in enumerate(some)
            ]
            answer = self._sqs().change_message_visibility_batch(QueueUrl=self._queue_url, Entries=entries)  # type: ignore[arg-type]
            if failed := answer.get("Failed"):
                _log.warning("%s messages wait for the visibility timeout of their queue", len(failed))

    def _wait(self, deliveries: int, at_least: float) -> int:
        longest = min(FIRST_WAIT * 2 ** min(deliveries - 1, 20), LONGEST_WAIT)
        return max(1, int(min(at_least + self._jitter(longest / 2, longest), LONGEST_WAIT)))


class Consumer(Struct, frozen=True):
    """What stands behind the queue of one kind."""

    kind: Kind
    settings: Settings
    ledger: Ledger
    relay: Relay
    payloads: Payloads
    review: Review
    queues: Queues
    telemetry: Telemetry
    clock: Callable[[], float] = time.time

    def consume(self, records: Sequence[Record], remaining: Remaining) -> "PartialItemFailureResponse":
        """Submit every message of the batch; report those that should be delivered again."""
        waits: list[tuple[Record, float]] = []
        messages: list[tuple[Record, Message]] = []
        for record in records:
            try:
                if message := self._read(record):
                    messages.append((record, message))
            except NewerVersion as error:
                waits += self._again(record, LONGEST_WAIT, str(error))
            except _NotKept as error:
                waits += self._lay_aside(record, str(error), [(error.row, str(error))])
            except InvalidMessage as error:
                waits += self._lay_aside(record, str(error))
            except Exception as error:  # noqa: BLE001 its neighbours need not wait for it
                self.telemetry.unexpected(f"message {record['messageId']} could not be read", error)
                waits += self._again(record, 0, f"it could not be read: {where(error)}")
        unnoted = {record["messageId"] for record, message in messages if not self._noted(record, message)}
        results = iter(self._submit([message for _, message in messages], remaining))
        for record, message in messages:
            unsettled = [it for it in islice(results, len(message.submissions)) if it.verdict is not Verdict.STANDS]
            left = [(result.submission, result.reason) for result in unsettled]
            again = [result.retry_after for result in unsettled if result.verdict is Verdict.AGAIN]
            again += [0.0] * (record["messageId"] in unnoted)
            if again:
                waits += self._again(record, max(again), _reason(unsettled) or "it could not be noted", left)
            elif unsettled:
                waits += self._lay_aside(record, _reason(unsettled), left)
        self._put_off(waits)
        self._tell_age(records)
        return come_again(record["messageId"] for record, _ in waits)

    def _read(self, record: Record) -> Message | None:
        """The message; for one that points to a kept submission, that; None when it has been settled since.

        Raises NewerVersion where a newer version of the relay has queued or kept it.
        """
        body: str = record["body"]
        formats.refuse_newer(record.get("messageAttributes", {}).get(FROM_API, {}).get("stringValue"))
        kept = pointed(body)
        if not kept:
            return self._reviewed(parse(self.kind, body, self.settings.rules))
        if kept.kind is not self.kind:
            raise InvalidMessage(Violation("$.kept", f"is no {self.kind}"))
        try:
            return Message(self.kind, kept.reference, (self.payloads.load(kept),))
        except KeyError:
            row = self.ledger.read(self.kind, kept.reference)
            if row and not row.state.is_final and row.fingerprint.startswith(kept.fingerprint):
                raise _NotKept(row) from None
            return None

    def _noted(self, record: Record, message: Message) -> bool:
        """See to it that a message can be looked up whose sender was told so. What fails here comes again."""
        if FROM_API not in record.get("messageAttributes", ()):
            return True
        try:
            if not self.ledger.has_noted(message):
                self.ledger.note(message)
        except Exception as error:  # noqa: BLE001 it is submitted all the same
            self.telemetry.unexpected(f"message {record['messageId']} is not noted yet", error)
            return False
        return True

    def _reviewed(self, message: Message) -> Message:
        """With what PA2 would find. Raises InvalidMessage for that, where drafts are judged strictly."""
        message = self.review(message)
        if self.settings.strict_drafts and any(each.warnings for each in message.submissions):
            rows = self.ledger.read_all(self.kind, [each.reference for each in message.submissions])
            if found := refusals(message, rows):
                raise InvalidMessage(*found)
        return message

    def _submit(self, messages: list[Message], remaining: Remaining) -> list[Result]:
        """A result for each submission; where nothing could be submitted, all of them come again."""
        submissions = [each for message in messages for each in message.submissions]
        if not submissions:
            return []
        retry_after, reason = 0.0, ""
        try:
            results = self.relay.submit(self.kind, submissions, remaining)
        except (NotSent, Misconfigured) as error:
            self.telemetry.refused("nothing could be submitted, all messages come again", error)
            self.telemetry.count("KivaUnavailable", int(isinstance(error, KivaUnavailable)))
            retry_after, reason = getattr(error, "retry_after", None) or 0, str(error)
        except Exception as error:  # noqa: BLE001 whatever was claimed is protected by its claim
            self.telemetry.unexpected("nothing could be submitted, all messages come again", error)
            reason = f"unexpected {where(error)}"
        else:
            self.telemetry.submissions(self.kind, results)
            return results
        return [Result(each, Verdict.AGAIN, reason=reason, retry_after=retry_after) for each in submissions]

    def _tell_age(self, records: Sequence[Record]) -> None:
        """SQS's own metric leaves out what was received three times, and so whatever waits in an outage.

        Source: Amazon SQS Developer Guide, "Available CloudWatch metrics", `ApproximateAgeOfOldestMessage`.
        """
        if sent_at := [int(at) for record in records if (at := record["attributes"].get("SentTimestamp"))]:
            self.telemetry.received(self.clock() - min(sent_at) / 1000)

    def _put_off(self, waits: list[tuple[Record, float]]) -> None:
        try:
            self.queues.put_off(waits)
        except Exception as error:  # noqa: BLE001 they come again all the same, after the queue's own time
            self.telemetry.unexpected("messages wait for the visibility timeout of their queue", error)

    def _again(self, record: Record, seconds: float, reason: str, left: _Left = ()) -> list[tuple[Record, float]]:
        """What is to be delivered again, and after how many seconds; nothing if this was its last delivery."""
        if int(record["attributes"]["ApproximateReceiveCount"]) < MOST_RECEIVES:
            return [(record, seconds)]
        often = f"it was received {MOST_RECEIVES} times; the last time: "
        return self._lay_aside(record, often + reason, [(each, often + its_reason) for each, its_reason in left])

    def _lay_aside(self, record: Record, reason: str, left: _Left = ()) -> list[tuple[Record, float]]:
        """What has to come again because even laying aside failed, and after how many seconds."""
        _log.warning("message %s goes to the dead-letter queue: %s", record["messageId"], reason[:MAX_REASON])
        try:
            self.queues.lay_aside(record, self.kind, reason)
        except Exception as error:  # noqa: BLE001 it stays in its queue and is tried again
            self.telemetry.unexpected(f"the dead-letter queue does not take message {record['messageId']}", error)
            return [(record, 0)]
        self.telemetry.count("DeadLetter", 1, self.kind)
        self._mark_stuck(left)
        return []

    def _mark_stuck(self, left: _Left) -> None:
        """What needs a message that is a dead letter is STUCK. The letter comes first: no row may promise one."""
        unsettled = {each.reference: (each.fingerprint, reason) for each, reason in left}
        try:
            rows = self.ledger.read_all(self.kind, list(unsettled))
            found = [
                (row, f"its message is a dead letter: {reason}")
                for reference, (fingerprint, reason) in unsettled.items()
                if (row := rows.get(reference)) and row.needs_its_message and row.fingerprint == fingerprint
            ]
            self.telemetry.stuck(self.ledger.mark_stuck(found))
        except Exception as error:  # noqa: BLE001 its message is safe, and in the end housekeeping finds the row
            self.telemetry.unexpected("rows whose message is a dead letter are not marked as stuck", error)


def come_again(message_ids: Iterable[str]) -> "PartialItemFailureResponse":
    """The partial batch response that has these messages delivered again and deletes the others."""
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in message_ids]}


class _NotKept(InvalidMessage):
    """A message that points to what is not kept here any more, though its row is not settled."""

    def __init__(self, row: Row) -> None:
        rule = "is not kept here any more, though it is not settled; send the event once more"
        super().__init__(Violation("$.kept", rule))
        self.row = row


def _reason(unsettled: Iterable[Result]) -> str:
    """Why a message is not settled: of each submission that a person must see to, and what keeps the others, once."""
    return "; ".join(
        dict.fromkeys(
            each.reason if each.verdict is Verdict.AGAIN else f"{each.submission.reference}: {each.reason}"
            for each in unsettled
        )
    )
