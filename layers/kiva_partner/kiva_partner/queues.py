"""An SQS batch in, a partial batch response out.

Only what may come again is reported back. What code can never take goes to the dead-letter queue at once, with the
reason as an attribute, while its neighbours are submitted. A response of None would delete the whole batch.
Source: AWS Lambda Developer Guide, "Handling errors for an SQS event source".
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from .client import Remaining
from .errors import InvalidMessage, Misconfigured, NotSent
from .messages import MAX_MESSAGE_BYTES, Kind, Message, parse
from .relay import Relay, Result, Verdict
from .settings import Settings
from .telemetry import Telemetry

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

DEAD_LETTER_PREFIX = "dead-letters/"
MAX_REASON = 1000
_log = logging.getLogger(__name__)

Record = Mapping[str, Any]
"""SQS's wrapper around one message."""


class DeadLetters:
    """The dead-letter queue, for what no repetition can help."""

    def __init__(
        self,
        sqs: Callable[[], "SQSClient"],
        s3: Callable[[], "S3Client"],
        queue_url: str,
        bucket: str,
    ) -> None:
        self._sqs = sqs
        self._s3 = s3
        self._queue_url = queue_url
        self._bucket = bucket

    def put(self, record: Record, kind: Kind, reason: str) -> None:
        """Lay the message aside with the reason. A body too large for that is kept in the bucket."""
        body = record["body"]
        in_bytes = body.encode("utf-8", "surrogatepass")
        if len(in_bytes) > MAX_MESSAGE_BYTES:
            key = f"{DEAD_LETTER_PREFIX}{record['messageId']}"
            self._s3().put_object(Bucket=self._bucket, Key=key, Body=in_bytes)
            body = json.dumps({"body_in_bucket": key})
        attributes = {"Reason": reason[:MAX_REASON], "Kind": kind.value, "SourceMessageId": record["messageId"]}
        self._sqs().send_message(
            QueueUrl=self._queue_url,
            MessageBody=body,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
        )


@dataclass(frozen=True, slots=True)
class Consumer:
    """What stands behind the queue of one kind."""

    kind: Kind
    settings: Settings
    relay: Relay
    dead_letters: DeadLetters
    telemetry: Telemetry

    def consume(self, records: Iterable[Record], remaining: Remaining) -> "PartialItemFailureResponse":
        """Submit every message of the batch; report those that should be delivered again."""
        again: list[str] = []
        messages: list[tuple[Record, Message]] = []
        for record in records:
            try:
                messages.append((record, parse(self.kind, record["body"], self.settings.rules)))
            except InvalidMessage as error:
                again += self._lay_aside(record, str(error))
        results = iter(self._submit([message for _, message in messages], remaining))
        for record, message in messages:
            of_message = list(islice(results, len(message.submissions)))
            if not of_message or any(result.verdict is Verdict.AGAIN for result in of_message):
                again.append(record["messageId"])
            elif reason := "; ".join(_complaints(of_message)):
                again += self._lay_aside(record, reason)
        return come_again(again)

    def _submit(self, messages: list[Message], remaining: Remaining) -> list[Result]:
        """A result for each submission; none at all when all may come again: their rows say which were sent."""
        submissions = [each for message in messages for each in message.submissions]
        if not submissions:
            return []
        try:
            results = self.relay.submit(self.kind, submissions, remaining)
        except (NotSent, Misconfigured) as error:
            self.telemetry.refused("nothing could be submitted, all messages come again", error)
            return []
        except Exception as error:  # noqa: BLE001 whatever was claimed is protected by its claim
            self.telemetry.unexpected("nothing could be submitted, all messages come again", error)
            return []
        self.telemetry.submissions(self.kind, results)
        return results

    def _lay_aside(self, record: Record, reason: str) -> list[str]:
        """The ids of messages that have to come again because even laying aside failed."""
        _log.warning("message %s goes to the dead-letter queue: %s", record["messageId"], reason[:MAX_REASON])
        try:
            self.dead_letters.put(record, self.kind, reason)
        except Exception as error:  # noqa: BLE001 it stays in its queue and is tried again
            self.telemetry.unexpected(f"the dead-letter queue does not take message {record['messageId']}", error)
            return [record["messageId"]]
        self.telemetry.count("DeadLetter")
        return []


def come_again(message_ids: Iterable[str]) -> "PartialItemFailureResponse":
    """The partial batch response that has these messages delivered again and deletes the others."""
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in message_ids]}


def _complaints(results: Iterable[Result]) -> Iterable[str]:
    for result in results:
        if result.verdict in (Verdict.CONFLICT, Verdict.INVALID):
            yield f"{result.submission.reference}: {result.reason}"
