"""`relay pause` and `relay resume`: the relay is told, and then AWS, so that no message is received in vain.

What counts is the word to the relay: from then on nothing of the kind is sent, whatever else happens. A message that is
received all the same is hidden for an hour each time, and a queue gives it 100 times. So the queue's event source
mapping is disabled besides, with the operator's own credentials. A deployment does not enable it again: CloudFormation
sends the properties of the template, and `Enabled` is none of them.
Source: AWS Lambda API Reference, "UpdateEventSourceMapping".
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from cli.show import NOUNS, span
from cli.stacks import KINDS, NoSuchStack, StackOfStage, messages_in, most_of_the_hour
from kiva_partner.housekeeping import RETENTION_SECONDS

DAYS_KEPT: Final = RETENTION_SECONDS // 86_400
"""By a queue, from when a message was sent."""

DAYS_OF_RECEIVES: Final = 4
"""That 100 receives outlast, an hour apart; then a message becomes a dead letter."""


GAP: Final = (
    "The ledger does not know what was sent between its backup and the restore. Whatever of that is redelivered is sent"
    " again, and Kiva has it twice.\n"
    'Go on only if each event of that time is judged: docs/runbook.md, "The table was restored".'
)


@dataclass(frozen=True)
class Queue:
    """A queue: how many messages are in it (None where nobody may look), and why its mapping is as it was, if it is.

    `oldest_seconds` is how old its oldest message was at the most in the last hour, as far as SQS tells: it passes over
    those that were received three times. None where it tells nothing.
    """

    kind: str
    messages: int | None
    unchanged: str
    oldest_seconds: int | None = None

    def paused(self, today: date) -> str:
        """What becomes of its messages while it is paused."""
        noun = NOUNS[self.kind]
        messages = "its messages wait" if self.messages is None else f"{self.messages} messages wait"
        until = f"the queue keeps each for {DAYS_KEPT} days, what comes today until {today + timedelta(days=DAYS_KEPT)}"
        if self.oldest_seconds:
            left = timedelta(days=DAYS_KEPT, seconds=-self.oldest_seconds)
            until += f"; the oldest for {span(left)} more" if left > timedelta() else "; the oldest is about to go"
        if not self.unchanged:
            return f"{noun}: {messages}; {until}"
        harmless = f"after {DAYS_OF_RECEIVES} days they become dead letters"
        return (
            f"{noun}: {messages}, but Lambda goes on receiving them ({self.unchanged}); nothing is sent, and {harmless}"
        )

    def resumed(self) -> str:
        """Whether its messages go on, and what to do where they do not."""
        noun = NOUNS[self.kind]
        if self.unchanged:
            return f"{noun}: Lambda may still not receive its messages ({self.unchanged}); repeat this command"
        waits = "" if self.messages is None else f"{self.messages} messages wait; "
        return f"{noun}: {waits}those that were received meanwhile are retried within the hour"


def switch(stack: StackOfStage, kinds: Iterable[str], *, on: bool) -> Iterator[Queue]:
    """Have Lambda receive from the queues of these kinds, or not; one for each."""
    for kind in kinds:
        unchanged = _switch(stack, kind, on=on)
        yield Queue(kind, _messages(stack, kind), unchanged, None if on else _oldest(stack, kind))


def _switch(stack: StackOfStage, kind: str, *, on: bool) -> str:
    try:
        mapping = stack.resources("AWS::Lambda::EventSourceMapping")[f"{KINDS[kind]}FromQueue"]
        stack.client("lambda").update_event_source_mapping(UUID=mapping, Enabled=on)
    except KeyError:
        return "the stack has no such mapping; deploy this version of it"
    except ClientError as error:
        return f"AWS says {error.response['Error']['Code']}"
    except BotoCoreError as error:
        return f"AWS does not answer ({type(error).__name__})"
    return ""


def _messages(stack: StackOfStage, kind: str) -> int | None:
    try:
        return sum(messages_in(stack.client("sqs"), stack.output(f"{KINDS[kind]}QueueUrl")))
    except (ClientError, BotoCoreError, NoSuchStack):
        return None


def _oldest(stack: StackOfStage, kind: str) -> int | None:
    try:
        queue = stack.output(f"{KINDS[kind]}QueueUrl").rpartition("/")[2]
        cloudwatch, metric = stack.client("cloudwatch"), "ApproximateAgeOfOldestMessage"
        told = most_of_the_hour(cloudwatch, datetime.now(UTC), "AWS/SQS", metric, QueueName=queue)
    except (ClientError, BotoCoreError, NoSuchStack):
        return None
    return None if told is None else int(told)
