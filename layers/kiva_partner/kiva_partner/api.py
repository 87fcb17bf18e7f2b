"""The HTTP side: a producer's POST in, `202` and where to look out; and how anything is shown to a client.

Errors are RFC 9457 problem details that name fields and rules and never a value. Repeating a POST is always safe.
`Prefer: wait` (RFC 7240) submits at once and answers with the outcome; API Gateway gives up after 29 s, but the
function goes on, and a repeated POST finds what it came to.
"""

import base64
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from . import formats, versions
from .client import CONTENT_STATUSES, Remaining
from .errors import InvalidMessage, NewerVersion, NotConfigured, NotDecidable, NotSent, SubmissionError, Violation
from .ledger import TRANSACTION_SIZE, WAITING, Ledger, Outcome, Row, State
from .messages import FROM_API, MAX_MESSAGE_BYTES, Kind, Message, Submission, parse_json
from .pa2 import Review, refusals
from .payloads import NO_SUCH_PHOTO, Payloads
from .photos import read_image
from .relay import Relay, Verdict
from .sending import LONGEST_PAUSE, Standing
from .settings import Settings
from .strict_json import decode, encode
from .telemetry import Telemetry

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

MAX_BODY_BYTES = 6 * 2**20
"""What a Lambda function takes in one request. Said here too, because nothing else bounds what is parsed."""

MAX_SHOWN_BYTES = 5_000_000
"""Of submissions in one answer. A Lambda function answers with at most 6 MB, in which the body is a text in a text."""

_GZIP = "H4sI"
"""In base64, how RFC 1952 §2.3.1 has a stream of deflate begin."""

MOST_COMPARED = 25
"""Amounts of a repeated message, with the others of their month: each takes a query."""

LONGEST_DELAY = 15
"""Seconds; a second for each transaction is plenty."""

_log = logging.getLogger(__name__)


class Answer(Struct, frozen=True):
    """An HTTP answer. A body with a `title` and a `type` is a problem detail."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str]

    def as_proxy_result(self) -> dict[str, Any]:
        """In the form that API Gateway's Lambda proxy integration wants."""
        return {
            "statusCode": self.status,
            "headers": {"Content-Type": content_type(self.body), **self.headers},
            "body": json.dumps(self.body, ensure_ascii=False),
        }


def content_type(body: Mapping[str, Any]) -> str:
    """`application/problem+json` for problem details (RFC 9457 §3), else `application/json`."""
    return "application/problem+json" if "title" in body else "application/json"


class Intake(Struct, frozen=True):
    """What stands behind the API route of one kind."""

    kind: Kind
    settings: Settings
    ledger: Ledger
    relay: Relay
    sqs: "Callable[[], SQSClient]"
    payloads: Payloads
    review: Review
    telemetry: Telemetry

    def post(self, event: Mapping[str, Any], remaining: Remaining) -> Answer:
        """Take a message in, or say what is wrong with it."""
        try:
            return self._take_in(event, remaining)
        except SubmissionError as error:
            if not isinstance(error, InvalidMessage):
                self.telemetry.refused("a message could not be taken in", error)
            return problem(error)
        except Exception as error:  # noqa: BLE001 a client gets a problem detail, whatever happens
            self.telemetry.unexpected("a message could not be taken in", error)
            return server_problem()

    def _take_in(self, event: Mapping[str, Any], remaining: Remaining) -> Answer:
        headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        if "json" not in headers.get("content-type", "application/json").lower():
            return _problem(415, "unsupported-media-type", "The message must be application/json")
        if headers.get("content-encoding", "identity").lower() != "identity":
            refused = _problem(415, "unsupported-media-type", "The message must not be compressed (Content-Encoding)")
            return Answer(415, refused.body, {"Accept-Encoding": "identity"})  # RFC 9110 §12.5.3
        document = decode(body_of(event))
        message = self.review(parse_json(self.kind, document, self.settings.rules))
        known = self._rows(message)
        if taken := [each.reference for each in message.submissions if _is_taken(each, known.get(each.reference))]:
            return conflict(taken)
        if self.settings.strict_drafts and (found := refusals(message, known)):
            raise InvalidMessage(*found)
        standing = [row for each in message.submissions if (row := known.get(each.reference)) and _is_same(each, row)]
        if len(standing) == len(message.submissions) and not _helps(standing):
            self._tried("a receipt is not written", lambda: self.ledger.write_receipt(message))
            return self._answer_again(message, standing)
        if len(standing) < len(message.submissions):
            self._look_for_photos(message)
        wait = "wait" in _preferences(headers.get("prefer", ""))
        text = self._for_the_queue(document, message)
        return self._submit_now(message, text, remaining) if wait else self._queue(message, text)

    def _answer_again(self, message: Message, rows: list[Row]) -> Answer:
        """What stands already; of an amount that came again after another one of its month also that it is not sent."""
        rows = self.ledger.note_again(rows)
        told: dict[str, dict[str, Any]] = {}

        def compare() -> None:
            for row in [each for each in rows if each.states_month][:MOST_COMPARED]:
                told[row.reference] = versions.shown(row, versions.versions_of(self.ledger, row))

        self._tried("amounts of a month are not compared", compare)
        found = answer(message, rows, {})
        for each in found.body.get("submissions", [found.body]):
            each.update(told.get(each["reference"], {}))
        return found

    def _look_for_photos(self, message: Message) -> None:
        """Nobody would hear of a photo that is missed only after the message was queued. Raises InvalidMessage."""
        for photo in (each.photo for each in message.submissions if each.photo):
            try:
                missing = self.payloads.is_missing(photo)
            except Exception as error:  # noqa: BLE001 it is looked for again when it is sent
                self.telemetry.unexpected("whether a photo is there could not be seen", error)
                return
            if missing:
                raise InvalidMessage(NO_SUCH_PHOTO)

    def _for_the_queue(self, document: object, message: Message) -> str:
        """The message as text. An inline photo that no queue can carry goes to the bucket, its key into the text."""
        text = encode(document)
        if len(text) > MAX_MESSAGE_BYTES and isinstance(document, dict) and "image_encoded" in document:
            image, _ = read_image(document["image_encoded"], self.settings.rules.max_image_bytes)
            if image:
                self.payloads.store_photo(image)
                lighter = {name: value for name, value in document.items() if name != "image_encoded"}
                text = encode({**lighter, "photo": {"s3_key": image.s3_key}})
        if len(text) > MAX_MESSAGE_BYTES:
            rule = (
                f"must be at most {MAX_MESSAGE_BYTES} bytes without its photo; send {message.kind} in smaller messages"
            )
            raise InvalidMessage(Violation("$", rule), too_large=True)
        return text.decode()

    def _queue(self, message: Message, text: str) -> Answer:
        """The queue first: a crash right after leaves a message that will be submitted, not a row that never is.

        From then on nothing is denied. What cannot be noted here, the consumer notes.
        """
        self._send(message, text)
        self._tried("a message is queued and not noted yet", lambda: self.ledger.note(message))
        queued = {each.reference: Outcome(State.QUEUED) for each in message.submissions}
        return self._receive(message, queued, {}, accepted=True)

    def _send(self, message: Message, text: str) -> None:
        # A list is not delivered before its rows are written: a claim in the middle of that would cancel each of the
        # transactions it meets, for both sides.
        wait = min(len(message.submissions) // TRANSACTION_SIZE, LONGEST_DELAY)
        self.sqs().send_message(
            QueueUrl=self.settings.queue_url,
            MessageBody=text,
            DelaySeconds=wait,
            MessageAttributes={FROM_API: {"DataType": "String", "StringValue": str(formats.VERSION)}},
        )

    def _submit_now(self, message: Message, text: str, remaining: Remaining) -> Answer:
        try:
            results = self.relay.submit(self.kind, message.submissions, remaining)
        except (NotSent, NotConfigured) as delay:
            _log.warning("nothing was submitted, the message is queued: %s", delay)
            return self._queue(message, text)
        self.telemetry.submissions(self.kind, results)
        if violations := [each for result in results for each in result.violations]:
            raise InvalidMessage(*violations)
        if conflicts := [each.submission.reference for each in results if each.verdict is Verdict.CONFLICT]:
            return conflict(conflicts)
        if any(result.verdict is Verdict.AGAIN for result in results):
            return self._queue(message, text)
        if not self._tried("a receipt is not written", lambda: self.ledger.write_receipt(message)):
            # The consumer will find that all of it has its outcome, and write the receipt.
            self._tried("a message is not queued for its receipt", lambda: self._send(message, text))
        outcomes = {each.submission.reference: each.outcome or Outcome(State.SENDING) for each in results}
        return self._receive(message, outcomes, {"Preference-Applied": "wait"})

    def _receive(
        self, message: Message, outcomes: Mapping[str, Outcome], headers: Mapping[str, str], *, accepted: bool = False
    ) -> Answer:
        """Answer for a message that was taken in, from the ledger or, where that has no answer, from what is known."""
        rows: dict[str, Row] = {}
        self._tried("what was taken in is answered from memory", lambda: rows.update(self._rows(message)))
        found = [
            row
            if (row := rows.get(each.reference)) and _is_same(each, row)
            else self.ledger.unwritten(each, outcomes[each.reference])
            for each in message.submissions
        ]
        return answer(message, found, headers, accepted=accepted)

    def _tried(self, what: str, do: Callable[[], object]) -> bool:
        """Do what must not make an answer untrue by failing; tells whether it was done."""
        try:
            do()
        except Exception as error:  # noqa: BLE001 whatever it is, the message is taken in
            self.telemetry.unexpected(what, error)
            return False
        return True

    def _rows(self, message: Message) -> dict[str, Row]:
        return self.ledger.read_all(self.kind, [each.reference for each in message.submissions])


def answer(message: Message, rows: Sequence[Row], headers: Mapping[str, str], *, accepted: bool = False) -> Answer:
    """What a message has come to, and where that is to be read; 202 if it was only `accepted` or goes on by itself."""
    if len(message.submissions) == 1:
        reference, body = rows[0].reference, show(rows[0])
    else:
        reference, body = message.reference, summary(message.kind, message.reference, rows)
    # Relative (RFC 9110 §10.2.2): API Gateway may have put its stage or a base path in front of ours.
    location = {"Location": f"submissions/{message.kind}/{quote(reference, safe=':')}", **headers}
    states = {row.state for row in rows}
    if accepted or not all(state.is_final for state in states):
        return Answer(202, body, location)
    if states == {State.REJECTED}:
        refused = _problem(422, "refused-by-kiva", "Kiva refused it; nothing was created", **body)
        return Answer(422, refused.body, location)
    return Answer(200, body, location)


def body_of(event: Mapping[str, Any]) -> str:
    """The body of a request. Raises InvalidMessage when it is no text, or too much of it."""
    body: str = event.get("body") or ""
    if len(body) > MAX_BODY_BYTES:
        rule = f"must be at most {MAX_BODY_BYTES} bytes; put a large photo into the payload bucket"
        raise InvalidMessage(Violation("$", rule), too_large=True)
    if not event.get("isBase64Encoded"):
        return body
    try:
        return base64.b64decode(body, validate=True).decode()
    except ValueError:  # no base64, or no UTF-8 in it
        rule = "is compressed (gzip); send it as it is" if body.startswith(_GZIP) else "is not UTF-8 text"
        raise InvalidMessage(Violation("$", rule)) from None


def _preferences(header: str) -> set[str]:
    """The names of RFC 7240 preferences, their values (`wait=10`) left out: Kiva takes the time it takes."""
    return {part.split(";")[0].split("=")[0].strip().lower() for part in header.split(",")}


def _is_taken(submission: Submission, row: Row | None) -> bool:
    """Other content stands under this reference, and does not leave it to this one."""
    return row is not None and not _is_same(submission, row) and not row.may_become(submission)


def _is_same(submission: Submission, row: Row) -> bool:
    return row.fingerprint == submission.fingerprint


def _helps(rows: Iterable[Row]) -> bool:
    """Whether another delivery does more than ask.

    RETRY may have lost its message, STUCK has, UNKNOWN may not be kept yet, and what was reopened waits for just this.
    """
    return any(
        row.state in (State.RETRY, State.STUCK) or row.reopened or (row.state is State.UNKNOWN and not row.payload)
        for row in rows
    )


# --- how things are shown -------------------------------------------------------------------------------------------


def show(row: Row, standing: Standing | None = None) -> dict[str, Any]:
    """A submission for a client: what is known of it, and what a person must do next.

    `standing` says what keeps it from being sent, where that is of interest.
    """
    shown: dict[str, Any] = {
        "kind": row.kind,
        "reference": row.reference,
        "loan_id": row.loan_id,
        "state": row.state,
        "next_step": next_step(row, standing),
        "attempts": row.attempts,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }
    for name in ("period", "amount", "replaces", "replaced_by"):
        if told := getattr(row, name):
            shown[name] = told
    if row.is_not_sent:
        shown["not_sent"] = versions.not_sent_text(row, f"{row.replaced_by} replaced it at Kiva")
    if row.reopened:
        shown["reopened"] = True
    if row.warnings:
        shown["warnings"] = list(row.warnings)
    if row.decisions:
        shown["decisions"] = [dict(decision) for decision in row.decisions]
    if row.outcome:
        shown |= row.outcome.facts()
    return shown


def summary(
    kind: Kind, reference: str, rows: Iterable[Row], after: str = "", standing: Standing | None = None
) -> dict[str, Any]:
    """Messages under one reference: how many of their submissions are in which state, and each of them.

    Of those that do not fit into one answer, it holds how many `more` there are and the `cursor` to read on; `after` is
    such a cursor. Raises InvalidMessage for one that is none.
    """
    rows = list(rows)
    references = [row.reference for row in rows]
    if after and after not in references:
        raise InvalidMessage(Violation("cursor", "is not one that this list gave out"))
    rest = rows[references.index(after) + 1 if after else 0 :]
    shown = list(_fitting(show(row, standing) for row in rest))
    body: dict[str, Any] = {
        "kind": kind,
        "reference": reference,
        "states": dict(Counter(row.state.value for row in rows)),
        "submissions": shown,
    }
    if more := len(rest) - len(shown):
        body |= {"more": more, "cursor": shown[-1]["reference"]}
    return body


def _fitting(submissions: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """As many as one answer holds, and at least one."""
    room = MAX_SHOWN_BYTES
    for number, each in enumerate(submissions):
        room -= len(msgspec.json.encode(msgspec.json.encode(each).decode()))
        if room < 0 and number:
            return
        yield each


def next_step(row: Row, standing: Standing | None = None) -> str:
    """What a person must do next; "nothing" where the relay goes on by itself."""
    if row.reopened:
        return "send the event again: it was reopened"
    if row.state is State.REJECTED and row.outcome and row.outcome.http_status not in (None, *CONTENT_STATUSES):
        return "nothing may be wrong with it: once the reason is gone, reopen it and send the event again"
    if row.state is State.STUCK:
        return _STUCK_STEP.format(row.kind)
    if row.state is State.ACCEPTED:
        return _ACCEPTED_STEPS[row.kind].format_map(row.outcome.kiva if row.outcome else {"upload_id": "?"})
    if row.state in WAITING:
        return _step_of_waiting(row, standing)
    return _STEPS.get(row.state, _BY_ITSELF)


def _step_of_waiting(row: Row, standing: Standing | None) -> str:
    """What keeps it from being sent: everything of its kind, or what its last try met."""
    if standing and (kept := standing.keeps(row.kind)):
        return f"nothing for it alone: {kept}; after that it is sent by itself"
    if row.state is State.RETRY and row.outcome:
        latest = datetime.fromisoformat(row.updated_at) + timedelta(seconds=LONGEST_PAUSE)
        return f"nothing: {row.outcome.reason}; it is tried again by itself, by {latest:%Y-%m-%d %H:%M} UTC"
    return _BY_ITSELF


_BY_ITSELF = "nothing: it is sent by itself"
_ACCEPTED_STEPS = {
    Kind.LOAN_DRAFT: "complete and publish the draft in PA2 > Loans > Drafts",
    Kind.JOURNAL_UPDATE: "open confirm_url, review the journals and publish them",
    Kind.REPAYMENT: "review and finalise upload {upload_id} in PA2 > Repayments",
}
_STUCK_STEP = (
    "put right what the reason says, then redrive its dead letter (relay redrive {}) or send the event again; it is not"
    " sent by itself. To give it up, or to send other content under its reference, abandon it"
)
_STEPS = {
    State.REJECTED: "correct it in your system and send it anew",
    State.UNKNOWN: "look in PA2 whether Kiva has it, then send your decision; it is not sent again by itself",
    State.ABANDONED: "nothing: it was given up",
}


def problem(error: SubmissionError) -> Answer:
    """The problem detail of an error."""
    match error:
        case InvalidMessage():
            what = (400, "invalid-message", "The message breaks a rule")
            if error.too_large:
                what = (413, "message-too-large", "The message is too large")
            return _problem(*what, errors=_errors(error))
        case NewerVersion():
            return _problem(409, "newer-version", "A newer version of the relay goes on with it", detail=str(error))
        case NotDecidable():
            answer = _problem(409, "not-decidable", "It cannot be decided now", detail=str(error))
            later = {"Retry-After": str(int(error.retry_after) + 1)} if error.retry_after else {}
            return Answer(answer.status, answer.body, later)
        case NotSent():
            seconds = str(int(error.retry_after or 30))
            answer = _problem(503, "kiva-unavailable", "Kiva cannot be reached at the moment", detail=str(error))
            return Answer(answer.status, answer.body, {"Retry-After": seconds})
        case NotConfigured():
            return _problem(503, "not-configured", "This stack waits for Kiva's credentials", detail=str(error))
    return _problem(502, "misconfigured", "This stack is not configured as Kiva needs it; the operator is alarmed")


def conflict(references: Sequence[str]) -> Answer:
    """The problem detail for references that belong to other content."""
    return _problem(
        409,
        "reference-conflict",
        "The reference belongs to other content",
        detail="Kiva has no update: correct what was submitted in PA2, or send this under a new reference. What is"
        " STUCK has not reached Kiva: abandon it, and its reference is free",
        references=list(references[:100]),
    )


def not_found(what: str) -> Answer:
    """The problem detail for something that is not there."""
    return _problem(404, "not-found", what)


def server_problem() -> Answer:
    """The problem detail for a fault of ours: nothing was promised, so the client sends it again."""
    return _problem(503, "temporarily-unavailable", "It was not taken in; send it again, that is always safe")


def _errors(error: InvalidMessage) -> list[dict[str, str]]:
    return [{"field": violation.path, "rule": violation.rule} for violation in error.violations[:100]]


def _problem(status: int, name: str, title: str, **members: Any) -> Answer:
    return Answer(status, {"type": f"urn:kiva-relay:problem:{name}", "title": title, "status": status, **members}, {})
