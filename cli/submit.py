"""`relay submit`: what was found good goes to the relay's API, several messages at a time, and is followed."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from cli.files import Ready, WrongUse, far_off
from cli.relay_api import NoAnswer, Refused, RelayApi, whole
from cli.show import Submission
from cli.stacks import StackOfStage
from kiva_partner.ledger import State
from kiva_partner.messages import Kind
from kiva_partner.photos import sniff_image
from kiva_partner.settings import AmountMode, PartnerRules

ROUTES: Final = {
    Kind.LOAN_DRAFT: "loan-drafts",
    Kind.JOURNAL_UPDATE: "journal-updates",
    Kind.REPAYMENT: "repayments",
}
AT_ONCE: Final = 8
"""Requests to the relay; how many calls Kiva sees is the stack's own business."""
PAUSES: Final = (1.0, 2.0, 4.0, 8.0)
"""Seconds before a message is sent anew, times something between a half and one and a half."""
POLL_SECONDS: Final = (1.0, 2.0, 3.0, 5.0)
"""Between two looks at what became of it; the last one from then on."""
ENDED: Final = frozenset({*(state for state in State if state.is_final), State.STUCK, State.UNKNOWN})
"""States in which nothing more happens by itself."""

FORBIDDEN: Final = frozenset({401, 403})
"""The operator's credentials do not serve, for this message or for any."""

_AGAIN: Final = frozenset({429, 503, 504})
_MAX_IMAGE_BYTES: Final = 5 * 2**20
"""As the template has it."""


@dataclass
class Sent:
    """A message, and what the relay said to it: an answer, that it refused it, or nothing that helps."""

    ready: Ready
    answer: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""
    unanswered: str = ""

    @property
    def submissions(self) -> Sequence[Submission]:
        """Those of a message that was taken in, as they were when last looked at."""
        found: Sequence[Submission] = self.answer.get("submissions") or ([self.answer] if self.answer else [])
        return found

    @property
    def open(self) -> int:
        """How many of them have not ended."""
        return sum(each["state"] not in ENDED for each in self.submissions)


def rules_of(stack: StackOfStage) -> PartnerRules:
    """What the functions of a stack will check by. Raises NoSuchStack."""
    return PartnerRules(
        needs_client_id=stack.parameter("CsvColumns") == "3",
        amount_mode=AmountMode(stack.parameter("RepaymentAmountMode")),
        max_image_bytes=_MAX_IMAGE_BYTES,
    )


def doubts(messages: Sequence[Ready], today: date) -> Iterator[str]:
    """A line for each month of the messages that is probably not meant."""
    first = {each.period: each.where for each in reversed(messages) if each.period}
    for period, where in sorted(first.items()):
        if away := far_off(period, today):
            yield f"{where}: the month {away}"


def unused(messages: Sequence[Ready], period: str) -> str:
    """What a given month does not belong to, or "" where it belongs to everything."""
    others = sorted({each.kind.replace("_", " ") for each in messages if each.kind is not Kind.REPAYMENT})
    if not period or not others:
        return ""
    return f"--period is not used for {' and '.join(others)} messages: only repayments have a month."


def upload(stack: StackOfStage, messages: Iterable[Ready]) -> None:
    """Lay the photos of messages into the payload bucket, each under the name of its content.

    Raises:
        WrongUse: A file has become another one since it was checked.
    """
    photos = {key: file for message in messages for key, file in message.photos.items()}
    if not photos:
        return
    s3, bucket = stack.client("s3"), stack.output("PayloadBucketName")
    for key, file in photos.items():
        image, _ = sniff_image(file.read_bytes(), _MAX_IMAGE_BYTES)
        if not image or image.s3_key != key:
            raise WrongUse(f"{file} was changed while it was read; start again")
        s3.put_object(Bucket=bucket, Key=key, Body=image.content, ContentType=image.media_type)


def send(api: RelayApi, messages: Sequence[Ready], sleep: Callable[[float], None]) -> Iterator[Sent]:
    """Send messages to the relay, several at a time; gives each, in their order, with what was said to it.

    Raises:
        Refused: The operator may not submit.
    """
    with ThreadPoolExecutor(AT_ONCE) as senders:
        yield from senders.map(lambda message: _send(api, message, sleep), messages)


def _send(api: RelayApi, message: Ready, sleep: Callable[[float], None]) -> Sent:
    said = ""
    for pause in (*PAUSES, 0.0):
        try:
            return Sent(message, whole(api, api.post(ROUTES[message.kind], body=message.body).body))
        except NoAnswer as error:
            said = str(error)
        except Refused as error:
            if "submissions" in error.problem or "state" in error.problem:  # Kiva refused it, not the relay
                return Sent(message, error.problem)
            if error.status in FORBIDDEN:
                raise
            if error.status not in _AGAIN:
                return Sent(message, refused=_why(error))
            said = str(error)
        if pause:
            sleep(pause * (0.5 + random.random()))  # noqa: S311 to be spread, not to be secret
    return Sent(message, unanswered=said)


def _why(error: Refused) -> str:
    references = error.problem.get("references", ())
    more = f" and {len(references) - 5} more" if len(references) > 5 else ""  # noqa: PLR2004 so many are shown
    return f"{error}: {', '.join(references[:5])}{more}" if references else str(error)


def follow(
    api: RelayApi,
    sent: Sequence[Sent],
    seconds: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Iterator[int]:
    """Look what becomes of messages until all of them have ended or the time is over; gives how many have not."""
    deadline = clock() + seconds
    pauses = iter(POLL_SECONDS)
    with ThreadPoolExecutor(AT_ONCE) as readers:
        while pending := [message for message in sent if message.open]:
            yield sum(message.open for message in pending)
            left = deadline - clock()
            if left <= 0:
                return
            sleep(min(left, next(pauses, POLL_SECONDS[-1])))
            list(readers.map(lambda message: _look(api, message), pending))
    yield 0


def _look(api: RelayApi, message: Sent) -> None:
    try:
        message.answer = whole(api, api.get("submissions", message.ready.kind, message.answer["reference"]))
    except Refused as error:
        if error.status in FORBIDDEN:
            raise
    except NoAnswer:
        pass  # it is asked again
