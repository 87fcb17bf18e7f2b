"""Dead letters: `relay deadletters` reads them without moving them, and `relay redrive` puts them back after a fix.

Shown is the reason of each, and never its body, which holds borrowers' data. A letter that is put back is sent first
and deleted second, so that an interruption makes a copy and never a hole; the ledger answers a copy, and everything
that Kiva has already.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import batched
from typing import Any, Final

from cli.show import harmless
from cli.stacks import DEAD_LETTERS, KINDS, StackOfStage

HIDDEN_SECONDS: Final = 900
"""How long a letter that is left stays out of the way of the others."""
READ_SECONDS: Final = 60
"""How long a letter is hidden that is only read, should nobody come to show it again."""
WAIT_SECONDS: Final = 1
"""Long polling: without it SQS may say "none" while there are some."""
MOST_READ: Final = 1000
"""Letters of a queue that are read to be shown; all are counted."""

_NO_REASON: Final = "it came again too often"
"""SQS itself moved it after its last delivery, and writes no reason."""
_LISTED: Final = ["Reason", "SourceMessageId", "FirstSentAt"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What may be known of a letter. `first_sent` is the event's own, where that is known; times are UTC, ISO 8601."""

    of: str
    message_id: str
    reason: str
    first_sent: str
    deleted_on: str


@dataclass(frozen=True, slots=True)
class Found:
    """What lies in a dead-letter queue: how much, as SQS counts (approximately), and letters, the oldest first."""

    total: int
    letters: list[DeadLetter]


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter that was put back: why it had been dead, and why it is left there, if it is."""

    message_id: str
    reason: str
    left: str

    def __str__(self) -> str:
        what = f"left   {self.message_id}  ({self.left})" if self.left else f"moved  {self.message_id}"
        return f"{what}  {self.reason}"


def look(stack: StackOfStage, of: str, most: int = MOST_READ) -> Found:
    """The dead letters of a kind, or of outcomes. They are hidden from others while they are read, and stay."""
    url, sqs = stack.output(DEAD_LETTERS[of]), stack.client("sqs")
    counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    named = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[*counts, "MessageRetentionPeriod"])["Attributes"]
    kept = timedelta(seconds=int(named["MessageRetentionPeriod"]))
    found: dict[str, DeadLetter] = {}
    with _shown_again(sqs, url) as hidden:
        while len(found) < most:
            received = _receive(sqs, url, min(10, most - len(found)), READ_SECONDS)
            hidden += [message["ReceiptHandle"] for message in received]
            new = {message["MessageId"]: _read(of, message, kept) for message in received}
            if new.keys() <= found.keys():
                break
            found |= new
    total = max(sum(int(named[name]) for name in counts), len(found))
    return Found(total, sorted(found.values(), key=lambda letter: letter.first_sent))


def take(stack: StackOfStage, kind: str, source: str) -> str | None:
    """Delete the dead letter that a message became, and give its reason; None while there is none. Others stay.

    `source` is the id that SQS gave the message when it was sent.
    """
    url, sqs = stack.output(DEAD_LETTERS[kind]), stack.client("sqs")
    with _shown_again(sqs, url) as hidden:
        while received := _receive(sqs, url, 10, READ_SECONDS):
            ours = next((it for it in received if _attributes(it).get("SourceMessageId") == source), None)
            hidden += [message["ReceiptHandle"] for message in received if message is not ours]
            if ours:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=ours["ReceiptHandle"])
                return harmless(_attributes(ours).get("Reason", _NO_REASON))
    return None


def redrive(stack: StackOfStage, kind: str, limit: int | None = None) -> Iterator[Letter]:
    """Move dead letters of a kind back into its queue, one for each letter that is asked for; some may be left."""
    queue, dead_letters = stack.output(f"{KINDS[kind]}QueueUrl"), stack.output(DEAD_LETTERS[kind])
    sqs = stack.client("sqs")
    sent: set[str] = set()
    with _shown_again(sqs, dead_letters) as hidden:
        while limit is None or len(sent) < limit:
            most = 10 if limit is None else min(10, limit - len(sent))
            received = _receive(sqs, dead_letters, most, HIDDEN_SECONDS)
            if not received:
                return
            hidden += [message["ReceiptHandle"] for message in received]
            for message in received:
                letter = _moved(message, sent)
                if not letter.left:
                    sent.add(sqs.send_message(QueueUrl=queue, MessageBody=message["Body"])["MessageId"])
                    sqs.delete_message(QueueUrl=dead_letters, ReceiptHandle=message["ReceiptHandle"])
                    hidden.remove(message["ReceiptHandle"])
                yield letter


def _receive(sqs: Any, url: str, most: int, hidden_seconds: int) -> list[dict[str, Any]]:
    received: list[dict[str, Any]] = sqs.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=most,
        MessageAttributeNames=_LISTED,
        MessageSystemAttributeNames=["SentTimestamp"],
        VisibilityTimeout=hidden_seconds,
        WaitTimeSeconds=WAIT_SECONDS,
    ).get("Messages", [])
    return received


@contextmanager
def _shown_again(sqs: Any, url: str) -> Iterator[list[str]]:
    """A list for the receipt handles of letters; those in it at the end are shown to others again."""
    handles: list[str] = []
    try:
        yield handles
    finally:
        for some in batched(handles, 10):
            entries = [{"Id": str(at), "ReceiptHandle": it, "VisibilityTimeout": 0} for at, it in enumerate(some)]
            sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)


def _read(of: str, message: Mapping[str, Any], kept: timedelta) -> DeadLetter:
    told = _attributes(message)
    sent = datetime.fromtimestamp(int(message["Attributes"]["SentTimestamp"]) / 1000, UTC)
    first_sent = told.get("FirstSentAt", sent.isoformat(timespec="seconds"))
    reason = _reason_of_outcome(message["Body"]) if of == "outcomes" else told.get("Reason", _NO_REASON)
    # A letter that a function sent is a message of its own; of one that SQS moved the first time goes on to count.
    deleted_on = (sent + kept).isoformat(timespec="seconds")
    return DeadLetter(of, message["MessageId"], harmless(reason), harmless(first_sent), deleted_on)


def _moved(message: Mapping[str, Any], sent: set[str]) -> Letter:
    told, left = _attributes(message), ""
    if key := _in_bucket(message["Body"]):
        left = f"too large for a queue, its body is {key} in the payload bucket: send it anew in smaller messages"
    elif told.get("SourceMessageId", message["MessageId"]) in sent:
        left = "moved just now, and it has come back"
    return Letter(message["MessageId"], harmless(told.get("Reason", _NO_REASON)), left)


def _attributes(message: Mapping[str, Any]) -> dict[str, str]:
    """Whoever may send to the queue may write them, and a terminal obeys control characters: show them `harmless`."""
    return {name: it["StringValue"] for name, it in message.get("MessageAttributes", {}).items()}


def _in_bucket(body: str) -> str:
    """The key of a body that the functions laid into the bucket, else nothing."""
    try:
        match json.loads(body):
            case {"body_in_bucket": str(key), **others} if not others:
                return key
    except ValueError:
        pass
    return ""


def _reason_of_outcome(body: str) -> str:
    """Why outcomes were not published. These letters are ours and Lambda's, and hold no borrower's data."""
    try:
        match json.loads(body):
            case {"error": str(error), "eventID": _}:
                return f"a row that cannot be read: {error}"
            case {"DDBStreamBatchInfo": dict(batch)}:
                times = [batch.get(f"approximateArrivalOf{which}Record", "?") for which in ("First", "Last")]
                return f"Lambda gave up: what settled from {times[0]} to {times[1]}"
    except ValueError:
        pass
    return _NO_REASON
