"""`relay redrive`: dead letters are put back into their queue, after a fix.

Each is sent first and deleted second, so that an interruption makes a copy and never a hole; the ledger answers a copy,
and everything that Kiva has already. Shown is the reason of each, and never its body, which holds borrowers' data.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cli.show import harmless
from cli.stacks import KINDS, StackOfStage

HIDDEN_SECONDS = 900
"""How long a letter that is left stays out of the way of the others."""
WAIT_SECONDS = 1
"""Long polling: without it SQS may say "none" while there are some."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: why it was laid aside, and why it is left there, if it is."""

    message_id: str
    reason: str
    left: str

    def __str__(self) -> str:
        what = f"left   {self.message_id}  ({self.left})" if self.left else f"moved  {self.message_id}"
        return f"{what}  {self.reason}"


def redrive(stack: StackOfStage, kind: str, limit: int | None = None) -> Iterator[Letter]:
    """Move dead letters of a kind back into its queue, one for each letter that is asked for; some may be left."""
    queue, dead_letters = (stack.output(f"{KINDS[kind]}{which}Url") for which in ("Queue", "DeadLetterQueue"))
    sqs = stack.client("sqs")
    sent: set[str] = set()
    hidden: list[str] = []
    try:
        while limit is None or len(sent) < limit:
            received = sqs.receive_message(
                QueueUrl=dead_letters,
                MaxNumberOfMessages=10 if limit is None else min(10, limit - len(sent)),
                MessageAttributeNames=["Reason", "SourceMessageId"],
                VisibilityTimeout=HIDDEN_SECONDS,
                WaitTimeSeconds=WAIT_SECONDS,
            ).get("Messages", [])
            if not received:
                return
            hidden += [message["ReceiptHandle"] for message in received]
            for message in received:
                letter = _read(message, sent)
                if not letter.left:
                    sent.add(sqs.send_message(QueueUrl=queue, MessageBody=message["Body"])["MessageId"])
                    sqs.delete_message(QueueUrl=dead_letters, ReceiptHandle=message["ReceiptHandle"])
                    hidden.remove(message["ReceiptHandle"])
                yield letter
    finally:
        for handle in hidden:
            sqs.change_message_visibility(QueueUrl=dead_letters, ReceiptHandle=handle, VisibilityTimeout=0)


def _read(message: dict[str, Any], sent: set[str]) -> Letter:
    attributes = {name: it["StringValue"] for name, it in message.get("MessageAttributes", {}).items()}
    left = ""
    if key := _in_bucket(message["Body"]):
        left = f"too large for a queue, its body is {key} in the payload bucket: send it anew in smaller messages"
    elif attributes.get("SourceMessageId", message["MessageId"]) in sent:
        left = "moved just now, and it has come back"
    # SQS itself writes no reason. Whoever may send to the queue may write one, and a terminal obeys control characters.
    return Letter(message["MessageId"], harmless(attributes.get("Reason", "it came again too often")), left)


def _in_bucket(body: str) -> str:
    """The key of a body that the functions laid into the bucket, else nothing."""
    try:
        match json.loads(body):
            case {"body_in_bucket": str(key), **others} if not others:
                return key
    except ValueError:
        pass
    return ""
