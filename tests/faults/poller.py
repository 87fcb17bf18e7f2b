"""An SQS standard queue, and Lambda's event source mapping that empties it, with their time in the test's hand.

MiniStack and moto differ from AWS where it matters here: in which answers of a function delete a batch, and in what
counts as received. Sources: AWS Lambda Developer Guide, "Handling errors for an SQS event source"; Amazon SQS Developer
Guide, "Visibility timeout", "Dead-letter queues", "Message quotas"; SQS API Reference, ChangeMessageVisibility(Batch).
"""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from functools import wraps
from itertools import count

MAX_MESSAGE_BYTES = 1_048_576
LONGEST_VISIBILITY = 43_200
MAX_ENTRIES = 10

_numbers = count(1)
_lock = threading.RLock()


class SqsError(Exception):
    """What SQS answers instead of doing it; the text begins with AWS's name of the error."""


class Died(BaseException):
    """The execution environment ended in the middle: no handler of errors is given the time to see it."""


@dataclass
class Message:
    """One message in a queue, and how far its deliveries have come."""

    message_id: str
    body: str
    attributes: dict[str, dict[str, str]]
    sent_at: float
    visible_at: float
    receives: int = 0
    first_received_at: float | None = None
    received_at: float = 0.0
    receipt_handle: str | None = None


def _alone(method):
    """One at a time: a batch may be received while another one is being dealt with."""

    @wraps(method)
    def locked(queue, *args, **kwargs):
        with _lock:
            return method(queue, *args, **kwargs)

    return locked


class Queue:
    """One queue. What was received too often goes to `dead_letters` when it would be received once more."""

    def __init__(
        self,
        name,
        clock,
        *,
        visibility_timeout=1800,
        retention=7 * 86_400,
        dead_letters=None,
        max_receive_count=100,
    ):
        self.url = f"https://sqs.us-east-1.amazonaws.com/000000000000/{name}"
        self.arn = f"arn:aws:sqs:us-east-1:000000000000:{name}"
        self.clock = clock
        self.visibility_timeout = visibility_timeout
        self.retention = retention
        self.dead_letters = dead_letters
        self.max_receive_count = max_receive_count
        self.expired = []
        self._messages = {}
        self._held = {}

    def __repr__(self):
        return f"{list(self._messages.values())}, dead letters: {self.dead_letters}"

    @property
    @_alone
    def messages(self):
        """All that it holds, visible or not. What is older than the retention is gone, whoever has it in hand."""
        for message in [each for each in self._messages.values() if each.sent_at + self.retention <= self.clock()]:
            self._take_out(message)
            self.expired.append(message)
        return list(self._messages.values())

    @property
    def visible(self):
        now = self.clock()
        return [each for each in self.messages if each.visible_at <= now]

    @property
    def next_visible_at(self):
        """When the first of its messages can be received; None when there is none."""
        return min((each.visible_at for each in self.messages), default=None)

    @_alone
    def send(self, body, attributes=None, *, delay=0):
        size = len(body.encode()) + sum(
            len(name) + sum(len(part.encode()) for part in value.values()) for name, value in (attributes or {}).items()
        )
        if not body or size > MAX_MESSAGE_BYTES:
            raise SqsError("InvalidParameterValue: a message has 1 byte to 1 MiB")
        now = self.clock()
        message = Message(f"message-{next(_numbers):06}", body, dict(attributes or {}), now, now + delay)
        self._messages[message.message_id] = message
        return message.message_id

    @_alone
    def receive(self, most):
        """Up to `most` visible messages, oldest first (SQS promises no order), each with a new receipt handle."""
        received = []
        for message in self.visible:
            if self.dead_letters is not None and message.receives >= self.max_receive_count:
                self._bury(message)
            elif len(received) < most:
                received.append(self._deliver(message))
        return received

    @_alone
    def duplicate(self):
        """At-least-once delivery: messages that somebody has in hand are received once more."""
        now = self.clock()
        return [self._deliver(each) for each in self.messages if each.visible_at > now and each.receipt_handle]

    def _deliver(self, message):
        now = self.clock()
        message.receives += 1
        message.first_received_at = message.first_received_at or now
        message.received_at = now
        message.visible_at = now + self.visibility_timeout
        self._held.pop(message.receipt_handle, None)
        message.receipt_handle = f"handle-{next(_numbers)}"
        self._held[message.receipt_handle] = message
        return self._record(message)

    def _take_out(self, message):
        del self._messages[message.message_id]
        self._held.pop(message.receipt_handle, None)

    def _bury(self, message):
        """The message keeps its id and the time at which it was sent: so its age counts on (standard queues)."""
        self._take_out(message)
        message.receives, message.receipt_handle, message.visible_at = 0, None, self.clock()
        self.dead_letters._messages[message.message_id] = message

    def _record(self, message):
        """As Lambda hands it to a function."""
        milliseconds = {
            "SentTimestamp": message.sent_at,
            "ApproximateFirstReceiveTimestamp": message.first_received_at,
        }
        return {
            "messageId": message.message_id,
            "receiptHandle": message.receipt_handle,
            "body": message.body,
            "attributes": {
                "ApproximateReceiveCount": str(message.receives),
                "SenderId": "AIDAEXAMPLE",
                **{name: str(int(seconds * 1000)) for name, seconds in milliseconds.items()},
            },
            "messageAttributes": {
                name: {"stringValue": value["StringValue"], "dataType": value["DataType"]}
                for name, value in message.attributes.items()
            },
            "md5OfBody": hashlib.md5(message.body.encode(), usedforsecurity=False).hexdigest(),
            "eventSource": "aws:sqs",
            "eventSourceARN": self.arn,
            "awsRegion": "us-east-1",
        }

    @_alone
    def delete(self, receipt_handle):
        """Only the latest handle deletes; with an older one SQS may answer success and delete nothing."""
        message = self._in_hand(receipt_handle)
        if message:
            self._take_out(message)

    @_alone
    def change_visibility(self, receipt_handle, seconds):
        message, now = self._in_hand(receipt_handle), self.clock()
        if message is None:
            raise SqsError("ReceiptHandleIsInvalid: not the latest one, or the message is gone")
        if message.visible_at <= now:
            raise SqsError("MessageNotInflight")
        if not (isinstance(seconds, int) and 0 <= seconds <= LONGEST_VISIBILITY):
            raise SqsError("InvalidParameterValue: VisibilityTimeout has 0 to 43200 whole seconds")
        if now + seconds > message.received_at + LONGEST_VISIBILITY:
            raise SqsError("InvalidParameterValue: 12 hours from the receipt is the most")
        message.visible_at = now + seconds

    def _in_hand(self, receipt_handle):
        message = self._held.get(receipt_handle)
        return message if message and message.sent_at + self.retention > self.clock() else None

    @_alone
    def purge(self):
        """PurgeQueue: all that it holds is gone, also what somebody has in hand."""
        for message in self.messages:
            self._take_out(message)
            self.expired.append(message)

    @_alone
    def redrive(self, to):
        """StartMessageMoveTask: a message that is moved is a new one, with another id and its age beginning anew."""
        moved = []
        for message in self.messages:
            self._take_out(message)
            moved.append(to.send(message.body, message.attributes))
        return moved


class Sqs:
    """These queues, as the calls of boto3's client that we make; moto's queues would keep their own time."""

    def __init__(self, *queues):
        self._queues = {queue.url: queue for queue in queues}

    def send_message(self, *, QueueUrl, MessageBody, MessageAttributes=None, DelaySeconds=0):  # noqa: N803 boto3's names
        return {"MessageId": self._queues[QueueUrl].send(MessageBody, MessageAttributes, delay=DelaySeconds)}

    def receive_message(self, *, QueueUrl, MaxNumberOfMessages, **_):  # noqa: N803
        received = self._queues[QueueUrl].receive(MaxNumberOfMessages)
        return {
            "Messages": [
                {
                    "MessageId": record["messageId"],
                    "ReceiptHandle": record["receiptHandle"],
                    "Body": record["body"],
                    "MessageAttributes": {
                        name: {"StringValue": it["stringValue"]} for name, it in record["messageAttributes"].items()
                    },
                }
                for record in received
            ]
        }

    def get_queue_attributes(self, *, QueueUrl, AttributeNames):  # noqa: N803
        queue = self._queues[QueueUrl]
        visible = len(queue.visible)
        told = {
            "ApproximateNumberOfMessages": str(visible),
            "ApproximateNumberOfMessagesNotVisible": str(len(queue.messages) - visible),
        }
        return {"Attributes": {name: told[name] for name in AttributeNames}}

    def delete_message(self, *, QueueUrl, ReceiptHandle):  # noqa: N803
        self._queues[QueueUrl].delete(ReceiptHandle)

    def change_message_visibility(self, *, QueueUrl, ReceiptHandle, VisibilityTimeout):  # noqa: N803
        self._queues[QueueUrl].change_visibility(ReceiptHandle, VisibilityTimeout)

    def change_message_visibility_batch(self, *, QueueUrl, Entries):  # noqa: N803
        ids = [entry["Id"] for entry in Entries]
        if not 1 <= len(ids) <= MAX_ENTRIES:
            raise SqsError("EmptyBatchRequest or TooManyEntriesInBatchRequest")
        if len(set(ids)) < len(ids):
            raise SqsError("BatchEntryIdsNotDistinct")
        answer = {"Successful": [], "Failed": []}
        for entry in Entries:
            try:
                self._queues[QueueUrl].change_visibility(entry["ReceiptHandle"], entry["VisibilityTimeout"])
                answer["Successful"].append({"Id": entry["Id"]})
            except SqsError as error:
                answer["Failed"].append({"Id": entry["Id"], "SenderFault": True, "Code": str(error)})
        return {name: entries for name, entries in answer.items() if entries}


@dataclass
class EventSource:
    """Lambda's poller for one queue and one environment of the function, with ReportBatchItemFailures switched on.

    `handler` takes an event and is what the function is. `busy` while it has a batch in hand.
    """

    queue: Queue
    handler: object
    batch_size: int = 10
    busy: bool = False
    responses: list = field(default_factory=list)

    def poll(self):
        """Receive one batch, call the function, and delete what its answer says; gives how many were received."""
        records = self.receive()
        if records:
            self.invoke(records)
        return len(records)

    def drain(self):
        """Poll until nothing is visible."""
        return sum(iter(self.poll, 0))

    def receive(self):
        records = self.queue.receive(self.batch_size)
        self.busy = bool(records)
        return records

    def invoke(self, records):
        """One invocation. What it raises is an invocation that failed: nothing is deleted, all time out."""
        try:
            response = self.handler({"Records": records})
        except (Exception, Died) as error:  # noqa: BLE001 to Lambda they are all one
            response = error
        self.busy = False
        self.responses.append(response)
        failed = failures(response, [record["messageId"] for record in records])
        for record in records:
            if record["messageId"] not in failed:
                self.queue.delete(record["receiptHandle"])


def failures(response, message_ids):
    """The ids of the messages that stay in the queue after this answer of the function.

    A list under another name is read as no list at all: AWS says nothing about it, and this is the reading that loses.
    """
    everything = set(message_ids)
    if isinstance(response, BaseException):
        return everything
    try:
        answer = json.loads(json.dumps(response, allow_nan=False))
    except (TypeError, ValueError):
        return everything
    if answer is None or answer == {}:
        return set()
    if not isinstance(answer, dict):
        return everything
    listed = answer.get("batchItemFailures") or []
    if not isinstance(listed, list):
        return everything
    found = [each.get("itemIdentifier") if isinstance(each, dict) else None for each in listed]
    return set(found) if all(each in everything for each in found if each) and all(found) else everything
