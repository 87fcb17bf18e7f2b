"""The one way through: claim, pack into Kiva calls, send, settle; for any number of submissions of one kind.

Submissions go in waves. A wave is as many calls as run in parallel; its rows are claimed just before it is sent and
settled right after, so no claim waits for anything but Kiva's answer. Raise only when sending again is safe; whatever
might have reached Kiva is written down instead.
"""

import logging
import re
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import batched, chain
from typing import Any

from .client import KivaClient, KivaSession, Problem, Remaining
from .errors import InvalidMessage, Misconfigured, NotSent, OutcomeUnknown, Rejected, Violation, where
from .ledger import ClaimResult, Ledger, Outcome, Row, State
from .messages import Kind, Photo, Submission
from .settings import Settings

LEASE_MARGIN = 30
"""Seconds by which a claim outlives its invocation, so that Lambda has ended it before anybody calls it dead."""

HALVING_STATUSES = frozenset({400, 413, 422})
"""Refusals that may be about one row of a list. The others are about the call itself, whatever it holds."""

_log = logging.getLogger(__name__)


class Verdict(StrEnum):
    """What the submission's message needs."""

    STANDS = "STANDS"
    """Nothing: an outcome stands in the ledger, or a person has it in hand."""
    AGAIN = "AGAIN"
    """To come again: it was certainly not processed, or another one is sending it."""
    CONFLICT = "CONFLICT"
    """A person: its reference belongs to other content."""
    INVALID = "INVALID"
    """A person: it cannot be sent as it is (the photo it names is missing or is no photo)."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one submission in this pass.

    `new` tells an outcome of this pass from one that stood before; `violations` are the rules that an INVALID one
    breaks.
    """

    submission: Submission
    verdict: Verdict
    state: State | None = None
    outcome: Outcome | None = None
    reason: str = ""
    new: bool = False
    violations: tuple[Violation, ...] = ()


LoadPhoto = Callable[[Photo], str]
"""The data URI of a stored photo. Raises InvalidMessage when it is missing or is no photo."""


class Relay:
    """Sends submissions of one kind. Built once per execution environment, used once per invocation."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        client: KivaClient,
        load_photo: LoadPhoto,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._client = client
        self._load_photo = load_photo
        self._clock = clock

    def submit(self, kind: Kind, submissions: Sequence[Submission], remaining: Remaining) -> list[Result]:
        """Send what may be sent; `remaining` gives the invocation's seconds. A result for each submission, in order.

        Raises:
            NotSent, Misconfigured: before anything was claimed; every submission may come again.
        """
        first: dict[str, Submission] = {}
        for submission in submissions:
            first.setdefault(submission.reference, submission)
        results: dict[str, Result] = {}
        with self._client.session(remaining) as kiva:
            kiva.obtain_token(kind.scope)
            stop = ""
            with ThreadPoolExecutor(self._settings.parallel_calls) as threads:
                for wave in batched(self._calls(kind, first.values()), self._settings.parallel_calls):
                    if not kiva.has_time():
                        stop = "no time left in this invocation"
                    if stop:
                        results |= {each.reference: Result(each, Verdict.AGAIN, reason=stop) for each in chain(*wave)}
                        continue
                    done = self._wave(kind, kiva, threads, wave, remaining)
                    results |= done
                    stop = _reason_to_stop(done.values())
        return [_result_of(each, first[each.reference], results[each.reference]) for each in submissions]

    def _calls(self, kind: Kind, submissions: Iterable[Submission]) -> list[list[Submission]]:
        """Pack submissions into calls. A report holds each loan once, as does the CSV that Kiva makes of it."""
        size = {
            Kind.LOAN_DRAFT: 1,
            Kind.JOURNAL_UPDATE: self._settings.journals_per_call,
            Kind.REPAYMENT: self._settings.repayments_per_call,
        }[kind]
        calls: list[dict[str, Submission]] = []
        with_room: list[dict[str, Submission]] = []
        for submission in submissions:
            key = submission.loan_id if kind is Kind.REPAYMENT else submission.reference
            call = next((each for each in with_room if key not in each), None)
            if call is None:
                call = {}
                calls.append(call)
                with_room.append(call)
            call[key] = submission
            if len(call) == size:
                with_room.remove(call)
        return [list(call.values()) for call in calls]

    def _wave(
        self,
        kind: Kind,
        kiva: KivaSession,
        threads: ThreadPoolExecutor,
        wave: Sequence[Sequence[Submission]],
        remaining: Remaining,
    ) -> dict[str, Result]:
        contents, results = self._contents(chain(*wave))
        owner = uuid.uuid4().hex
        candidates = [each for each in chain(*wave) if each.reference in contents]
        claims = self._ledger.claim(candidates, owner, self._clock() + remaining() + LEASE_MARGIN)
        calls = []
        for call in wave:
            ours = []
            for submission in call:
                if submission.reference in results:
                    continue
                claim, row = claims[submission.reference]
                if claim is ClaimResult.CLAIMED:
                    ours.append(submission)
                else:
                    results[submission.reference] = _not_ours(submission, claim, row)
            if ours:
                calls.append(ours)

        def send(call: list[Submission]) -> list[tuple[Submission, Outcome]]:
            return list(_send(kind, kiva, call, contents))

        outcomes = list(chain(*threads.map(send, calls)))
        unwritten = {each.reference for each in self._settle(outcomes, owner)}
        for submission, outcome in outcomes:
            lost = submission.reference in unwritten
            results[submission.reference] = _after_sending(submission, outcome, lost=lost)
        return results

    def _settle(self, outcomes: Sequence[tuple[Submission, Outcome]], owner: str) -> list[Submission]:
        try:
            return self._ledger.settle(outcomes, owner)
        except Exception:
            # Kiva's proof must not be lost with the write: from here a person can still find it.
            for submission, outcome in outcomes:
                _log.error(
                    "could not write down: %s %s is %s %s",
                    *(submission.kind, submission.reference, outcome.state, dict(outcome.kiva)),
                )
            raise

    def _contents(self, submissions: Iterable[Submission]) -> tuple[dict[str, Mapping[str, Any]], dict[str, Result]]:
        """What Kiva gets for each reference, photos put in; and a result for each whose photo is missing or is none.

        Photos are loaded before the claim: a missing one claims nothing.
        """
        contents: dict[str, Mapping[str, Any]] = {}
        results: dict[str, Result] = {}
        for submission in submissions:
            content: Mapping[str, Any] = submission.content
            if submission.photo:
                try:
                    content = {**content, "image_encoded": self._load_photo(submission.photo)}
                except InvalidMessage as error:
                    results[submission.reference] = Result(
                        submission, Verdict.INVALID, reason=str(error), violations=error.violations
                    )
                    continue
            contents[submission.reference] = content
        return contents, results


def _result_of(submission: Submission, first: Submission, result: Result) -> Result:
    """The same submission twice is one; another content under its reference had to give way to the one before it."""
    if submission is first:
        return result
    if submission.fingerprint == first.fingerprint:
        return replace(result, submission=submission, new=False)
    reason = "its reference came with other content in the same batch; correct that in PA2, or use a new reference"
    return Result(submission, Verdict.CONFLICT, reason=reason)


def _reason_to_stop(done: Collection[Result]) -> str:
    """What nobody of this wave got through, the next wave would not get through either."""
    if any(result.outcome and result.outcome.misconfigured for result in done):
        return "Kiva refuses us as we are configured"
    if done and all(result.state is State.RETRY for result in done):
        return "Kiva takes nothing at the moment"
    return ""


def _not_ours(submission: Submission, claim: ClaimResult, row: Row | None) -> Result:
    state = row.state if row else None
    outcome = row.outcome if row else None
    match claim:
        case ClaimResult.BUSY:
            return Result(submission, Verdict.AGAIN, state, outcome, "another function is sending it right now")
        case ClaimResult.CONFLICT:
            reason = (
                f"its reference belongs to other content, which is {state}; correct that in PA2, or use a new reference"
            )
            return Result(submission, Verdict.CONFLICT, state, outcome, reason)
    new = claim is ClaimResult.EXPIRED and state is State.UNKNOWN
    return Result(submission, Verdict.STANDS, state, outcome, new=new)


def _after_sending(submission: Submission, outcome: Outcome, *, lost: bool) -> Result:
    if lost:
        return Result(submission, Verdict.AGAIN, None, outcome, "its claim had passed to somebody else")
    verdict = Verdict.AGAIN if outcome.state is State.RETRY else Verdict.STANDS
    return Result(submission, verdict, outcome.state, outcome, outcome.reason, new=True)


def _send(
    kind: Kind, kiva: KivaSession, call: list[Submission], contents: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[Submission, Outcome]]:
    """One call, and where Kiva refuses a list: its halves, until the bad row stands alone. Nothing was created then."""
    call_id = uuid.uuid4().hex
    try:
        outcomes = _post(kind, kiva, call, [contents[each.reference] for each in call], call_id)
    except Exception as error:  # noqa: BLE001 whatever it is, it came after the claim and has to be written down
        if isinstance(error, Rejected) and error.status in HALVING_STATUSES and len(call) > 1:
            middle = len(call) // 2
            yield from _send(kind, kiva, call[:middle], contents)
            yield from _send(kind, kiva, call[middle:], contents)
            return
        outcomes = [_outcome_of(error, call, call_id)] * len(call)
    yield from zip(call, outcomes, strict=True)


def _outcome_of(error: Exception, call: Sequence[Submission], call_id: str) -> Outcome:
    """What an error says about the submissions of a call."""
    match error:
        case Rejected():
            reason = f"{error}: {masked(error.text, call)}" if error.text else str(error)
            return Outcome(State.REJECTED, reason, http_status=error.status, call_id=call_id)
        case NotSent():
            seconds = error.retry_after
            return Outcome(State.RETRY, str(error), http_status=error.status, call_id=call_id, retry_after=seconds)
        case Misconfigured():
            _log.error("Kiva cannot be used as this is configured: %s", error)
            return Outcome(State.RETRY, str(error), call_id=call_id, misconfigured=True)
        case OutcomeUnknown():
            return Outcome(State.UNKNOWN, str(error), http_status=error.status, call_id=call_id)
    # A fault of ours: bytes may have left, so this too is a doubt and never a retry.
    _log.error("unexpected error while sending: %s", where(error))
    return Outcome(State.UNKNOWN, f"unexpected {type(error).__name__} while sending", call_id=call_id)


def _post(
    kind: Kind, kiva: KivaSession, call: list[Submission], contents: list[Mapping[str, Any]], call_id: str
) -> list[Outcome]:
    match kind:
        case Kind.LOAN_DRAFT:
            draft = kiva.post_loan_draft(contents[0])
            return [Outcome(State.ACCEPTED, kiva={"loan_draft_uuid": draft.loan_draft_uuid}, call_id=call_id)]
        case Kind.JOURNAL_UPDATE:
            journals = kiva.post_journals(contents)
            archive = {"archive_id": journals.archive_id}
            if journals.confirm_url:
                archive["confirm_url"] = journals.confirm_url
            return [Outcome(State.ACCEPTED, kiva=archive, call_id=call_id)] * len(call)
        case Kind.REPAYMENT:
            upload = kiva.post_repayments(contents)
            problems = {problem.loan_id: problem for problem in sorted(upload.problems, key=_errors_last)}
            return [_repayment_outcome(upload.upload_id, problems.get(each.loan_id), call, call_id) for each in call]


def _errors_last(problem: Problem) -> bool:
    """Where a row has several problems, an error outweighs a warning."""
    return problem.severity == "error"


def _repayment_outcome(upload_id: str, problem: Problem | None, call: Sequence[Submission], call_id: str) -> Outcome:
    """A 200 does not mean that every row was taken: an `error` row was not, a `warning` row was."""
    kiva = {"upload_id": upload_id}
    if problem is None:
        return Outcome(State.ACCEPTED, kiva=kiva, call_id=call_id)
    shown = {
        "severity": masked(problem.severity, call),
        "code": masked(problem.code, call),
        "details": masked(problem.details, call),
    }
    if problem.severity == "error":
        return Outcome(State.REJECTED, "Kiva took the upload but refused this row", kiva, shown, call_id=call_id)
    return Outcome(State.ACCEPTED, "", kiva, shown, call_id=call_id)


_TEXT_FIELDS = frozenset(
    {"first_name", "last_name", "group_name", "description", "loanuse", "location", "subject", "body", "image_url"}
)


def masked(text: str, call: Sequence[Submission]) -> str:
    """Kiva's wording with everything personal of the request hidden, on one line, 256 characters at most."""
    for value in sorted(set(_personal(each.content for each in call)), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "•••", text, flags=re.IGNORECASE)
    return re.sub(r"[^\w •.,:;'\"()/#%&+=@_-]", "?", text)[:256]


def _personal(value: object, name: str = "") -> Iterator[str]:
    match value:
        case dict():
            for key, each in value.items():
                yield from _personal(each, key)
        case str():
            if name in _TEXT_FIELDS and value.strip():
                yield value
        case _ if isinstance(value, Iterable):
            for each in value:
                yield from _personal(each, name)
