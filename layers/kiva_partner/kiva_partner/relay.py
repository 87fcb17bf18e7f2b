"""The one way through: claim, pack into Kiva calls, send, settle; for any number of submissions of one kind.

Submissions go in waves. The rows of a wave are claimed just before it is sent and settled right after, so no claim
waits for anything but Kiva's answers. Raise only when sending again is safe; whatever might have reached Kiva is
written down instead, and kept, so that it can be sent again should somebody decide so.
"""

import logging
import re
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import replace
from enum import StrEnum
from itertools import batched, chain
from typing import Any

from msgspec import Struct

from .breaker import FIRST_PAUSE, Breaker
from .client import CONTENT_STATUSES, RECORD_SECONDS, KivaClient, KivaSession, Remaining, Taken
from .errors import (
    InvalidMessage,
    KivaUnavailable,
    Misconfigured,
    NewerVersion,
    NotSent,
    OutcomeUnknown,
    Rejected,
    Violation,
    where,
)
from .findings import Finding, Weight
from .ledger import ClaimResult, Ledger, Outcome, Row, State
from .masking import masked
from .messages import Kind, Photo, Submission
from .payloads import Payloads
from .sending import LONGEST_PAUSE, RECENT_SECONDS, Sending
from .settings import Settings

LEASE_MARGIN = 30
"""Seconds by which a claim outlives its invocation, so that Lambda has ended it before anybody calls it dead."""

CLAIMED_TOGETHER = 50
"""Submissions in a wave of calls that hold few (drafts). More would save little, and leave more in doubt by a crash."""

FIRST_SETTLE_PAUSE = 0.25

REFUSED_ALIKE = 8
"""Rows of a list that Kiva refuses one by one, all for the same reason, before it is clear that it takes none."""

MOST_PROBLEMS = 10
"""Of a submission that are kept, the worst first; what Kiva says of all of a call's rows stands with each of them."""

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


class Result(Struct, frozen=True):
    """What became of one submission in this pass.

    `retry_after` are the seconds that one to come AGAIN should wait at least. `new` tells an outcome of this pass from
    one that stood before; `unkept` an UNKNOWN one that is not kept yet; `violations` are the rules that an INVALID one
    breaks.
    """

    submission: Submission
    verdict: Verdict
    state: State | None = None
    outcome: Outcome | None = None
    reason: str = ""
    retry_after: float = 0
    new: bool = False
    unkept: bool = False
    violations: tuple[Violation, ...] = ()


Outcomes = list[tuple[Submission, Outcome]]
"""What became of submissions that were sent."""


class _Call(Struct, frozen=True):
    """Submissions that go to Kiva together."""

    id: str
    submissions: list[Submission]


class _Wave(Struct, frozen=True):
    """Calls that are claimed together, and what for making them is at hand in this invocation."""

    kiva: KivaSession
    threads: ThreadPoolExecutor
    calls: list[_Call]
    remaining: Remaining


class Relay:
    """Sends submissions of one kind. Built once per execution environment, used once per invocation."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        client: KivaClient,
        payloads: Payloads,
        sending: Sending,
        breaker: Breaker,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._client = client
        self._payloads = payloads
        self._sending = sending
        self._breaker = breaker
        self._clock = clock
        self._sleep = sleep

    def submit(self, kind: Kind, submissions: Sequence[Submission], remaining: Remaining) -> list[Result]:
        """Send what may be sent; `remaining` gives the invocation's seconds. A result for each submission, in order.

        Raises:
            NotSent, Misconfigured: before anything was claimed; every submission may come again. NotSent also says
                that the kind is paused, or that the ledger was restored from a backup and nobody has confirmed it.
        """
        first: dict[str, Submission] = {}
        for submission in submissions:
            first.setdefault(submission.reference, submission)
        results: dict[str, Result] = {}
        self._sending.check(kind)
        with self._client.session(remaining) as kiva, ThreadPoolExecutor(self._settings.parallel_calls) as threads:
            kiva.obtain_token(kind.scope)
            trial = self._breaker.enter(kind, remaining() + LEASE_MARGIN, lambda: kiva.answers(kind.scope))
            calls = deque(self._calls(kind, first.values()))
            stop: NotSent | None = None
            while calls and (stop := stop or _out_of_time(kiva) or self._shut(kind)) is None:
                if trial:
                    calls = deque(_with_one_in_front(calls))
                wave = _Wave(kiva, threads, self._next_of(calls, trial=trial), remaining)
                done, sent, stop = self._send(kind, wave, trial=trial)
                results |= done
                trial = trial and not sent
            if trial:
                self._breaker.note(kind, [], trial=True)
        for submission in chain.from_iterable(call.submissions for call in calls):
            results[submission.reference] = _again(submission, stop)
        repeats = _after_another_amount(submissions)
        return [
            Result(each, Verdict.AGAIN, reason="its amount came again after another one in the same batch")
            if number in repeats
            else _result_of(each, first[each.reference], results[each.reference])
            for number, each in enumerate(submissions)
        ]

    def _shut(self, kind: Kind) -> NotSent | None:
        """Whether somebody has paused it meanwhile. It comes between waves whose results count, so it never raises."""
        try:
            self._sending.check(kind, within=RECENT_SECONDS)
        except NotSent as stop:
            return stop
        except Exception as error:  # noqa: BLE001 what is not claimed yet is retried
            _log.error("whether sending is paused could not be read: %s", where(error))
            return NotSent("nothing more is sent while it cannot be read whether sending is paused")
        return None

    def _calls(self, kind: Kind, submissions: Iterable[Submission]) -> list[_Call]:
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
        return [_Call(_new_id(), list(call.values())) for call in calls]

    def _next_of(self, calls: deque[_Call], *, trial: bool) -> list[_Call]:
        """Take off the calls of the next wave: as many as run in parallel, and more while they hold few submissions.

        Photos lie in memory for as long as their wave lasts, so there are never more of them than calls in parallel.
        Two amounts of one loan go one after the other, so that it is known which of them Kiva took last.
        """
        parallel = 1 if trial else self._settings.parallel_calls
        wave: list[_Call] = []
        loans: set[str] = set()
        rows = 0
        while calls:
            rows += len(calls[0].submissions)
            more = trial or rows > CLAIMED_TOGETHER or any(each.photo for each in calls[0].submissions)
            if len(wave) >= parallel and more:
                break
            stated = {each.loan_id for each in calls[0].submissions if each.amount}
            if not loans.isdisjoint(stated):
                break
            loans |= stated
            wave.append(calls.popleft())
        return wave

    def _send(self, kind: Kind, wave: _Wave, *, trial: bool) -> tuple[dict[str, Result], bool, NotSent | None]:
        """Claim, send, settle, and keep what is unknown.

        Gives a result for each submission, whether any was ours to send, and why nothing more should be sent, if so.
        """
        contents, results = self._contents([each for call in wave.calls for each in call.submissions], wave.threads)
        owner = _new_id()
        candidates = [
            _Call(call.id, [it for it in call.submissions if it.reference in contents]) for call in wave.calls
        ]
        ours, others = self._claim(candidates, owner, wave.remaining)
        outcomes, stop = self._post_in_rounds(kind, ours, contents, wave, trial=trial)
        written = self._settle(outcomes, owner, wave.remaining)
        results |= {each.submission.reference: each for each in others}
        for (submission, outcome), stands in zip(outcomes, written, strict=True):
            results[submission.reference] = _after_sending(submission, stands or outcome, lost=stands is None)
        self._keep(results, contents, wave.threads)
        return results, bool(ours), stop

    def _post_in_rounds(
        self, kind: Kind, calls: Sequence[_Call], contents: Mapping[str, Mapping[str, Any]], wave: _Wave, *, trial: bool
    ) -> tuple[Outcomes, NotSent | None]:
        """Make the calls, as many at a time as may be. What is not sent after all, for a reason to stop, goes back."""
        outcomes: Outcomes = []
        stop: NotSent | None = None
        for some in batched(calls, self._settings.parallel_calls):
            if stop is None:
                together = wave.threads.map if len(some) > 1 else map
                answers = together(lambda call: _post_all(call, contents, wave.kiva), some)
                of_round = list(chain.from_iterable(answers))
                stop = self._learn(kind, of_round, trial=trial) or _out_of_time(wave.kiva) or self._shut(kind)
            else:
                of_round = [(each, _not_sent(stop, call)) for call in some for each in call.submissions]
            outcomes += of_round
        return outcomes, stop

    def _learn(self, kind: Kind, outcomes: Outcomes, *, trial: bool) -> NotSent | None:
        """Tell the breaker. Gives the reason to send nothing more, if there is one."""
        try:
            is_open = self._breaker.note(kind, _answers(outcomes), trial=trial)
        except Exception as error:  # noqa: BLE001 the outcomes are not written down yet, and weigh more
            _log.error("the breaker could not be told what happened: %s", where(error))
            return NotSent("nothing more is sent while the breaker cannot be told what happens")
        if is_open:
            return NotSent("nothing more is sent while Kiva leaves doubts", retry_after=FIRST_PAUSE)
        return _reason_to_stop([outcome for _, outcome in outcomes])

    def _claim(self, calls: Sequence[_Call], owner: str, remaining: Remaining) -> tuple[list[_Call], list[Result]]:
        """The calls with what may be sent of them, and a result for each submission that may not."""
        claims = self._ledger.claim(
            [each for call in calls for each in call.submissions],
            owner,
            self._clock() + remaining() + LEASE_MARGIN,
            {each.reference: call.id for call in calls for each in call.submissions},
        )
        noted = self._noted([row for claim, row in claims.values() if claim is ClaimResult.STANDS and row])
        ours = [_Call(call.id, []) for call in calls]
        others = []
        for mine, call in zip(ours, calls, strict=True):
            for submission in call.submissions:
                claim, row = claims[submission.reference]
                if claim is ClaimResult.CLAIMED:
                    mine.submissions.append(submission)
                elif claim is ClaimResult.STANDS and not noted:
                    others.append(Result(submission, Verdict.AGAIN, reason="that it came again could not be noted"))
                else:
                    others.append(_not_ours(submission, claim, row))
        return [call for call in ours if call.submissions], others

    def _noted(self, rows: Sequence[Row]) -> bool:
        """Note what came again. It comes beside claims, whose owner must live to send: so it never raises."""
        try:
            self._ledger.note_again(rows)
        except Exception as error:  # noqa: BLE001 the message comes again, and with it this
            _log.error("that submissions came again could not be noted: %s", where(error))
            return False
        return True

    def _settle(self, outcomes: Outcomes, owner: str, remaining: Remaining) -> Sequence[Outcome | None]:
        """Write outcomes down, trying until the time is over. Gives what was written for each, None for nothing."""
        pause = FIRST_SETTLE_PAUSE
        while outcomes:
            try:
                return self._ledger.settle(outcomes, owner)
            except Exception as error:  # noqa: BLE001 Kiva's proof is lost if it is lost here, whatever the reason
                if pause == FIRST_SETTLE_PAUSE:
                    _log_proof(outcomes, error)
                if remaining() < pause + RECORD_SECONDS:
                    return [None] * len(outcomes)
                self._sleep(pause)
                pause *= 2
        return []

    def _keep(
        self, results: dict[str, Result], contents: Mapping[str, Mapping[str, Any]], threads: ThreadPoolExecutor
    ) -> None:
        """Keep what is UNKNOWN, photos included. What cannot be kept comes again, and the next delivery keeps it."""
        unkept = {reference: result for reference, result in results.items() if result.unkept}
        whole = [
            replace(result.submission, content=dict(contents[reference]), photo=None)
            for reference, result in unkept.items()
        ]
        try:
            keys = list(threads.map(self._payloads.keep, whole))
            self._ledger.keep(list(zip(whole, keys, strict=True)))
        except Exception as error:  # noqa: BLE001 its message stays in the queue
            _log.error("submissions whose outcome is unknown could not be kept: %s", where(error))
            reason = "its outcome is unknown, and it could not be kept for being sent again"
            results |= {it: replace(result, verdict=Verdict.AGAIN, reason=reason) for it, result in unkept.items()}

    def _contents(
        self, submissions: Sequence[Submission], threads: ThreadPoolExecutor
    ) -> tuple[dict[str, Mapping[str, Any]], dict[str, Result]]:
        """What Kiva gets for each reference, photos put in; and a result for each whose photo is missing or is none.

        Photos are loaded before the claim: a missing one claims nothing.
        """
        contents: dict[str, Mapping[str, Any]] = {each.reference: each.content for each in submissions}
        results: dict[str, Result] = {}
        with_photo = [(each, each.photo) for each in submissions if each.photo]
        photos = threads.map(lambda it: self._photo(*it), with_photo)
        for (submission, _), photo in zip(with_photo, photos, strict=True):
            if isinstance(photo, Result):
                del contents[submission.reference]
                results[submission.reference] = photo
            else:
                contents[submission.reference] = {**submission.content, "image_encoded": photo}
        return contents, results

    def _photo(self, submission: Submission, photo: Photo) -> str | Result:
        try:
            return self._payloads.load_photo(photo)
        except InvalidMessage as error:
            return Result(submission, Verdict.INVALID, reason=str(error), violations=error.violations)


def _result_of(submission: Submission, first: Submission, result: Result) -> Result:
    """The same submission twice is one; another content under its reference comes again, for the ledger to judge."""
    if submission is first:
        return result
    if submission.fingerprint == first.fingerprint:
        return replace(result, submission=submission, new=False)
    return Result(submission, Verdict.AGAIN, reason="its reference came with other content in the same batch")


def _after_another_amount(submissions: Iterable[Submission]) -> set[int]:
    """Which of them repeat one of the same batch while another amount of their month came between.

    They come again alone, and are then told as every amount that comes again.
    """
    seen: set[str] = set()
    last: dict[tuple[str, str], str] = {}
    repeats = set()
    for number, each in enumerate(submissions):
        if each.amount and each.period:
            if last.get((each.loan_id, each.period), each.reference) != each.reference and each.reference in seen:
                repeats.add(number)
            seen.add(each.reference)
            last[each.loan_id, each.period] = each.reference
    return repeats


def _with_one_in_front(calls: Iterable[_Call]) -> Iterator[_Call]:
    """The same, but the first call is for one submission alone: should it leave a doubt, it leaves only one."""
    first, *others = calls
    yield _Call(first.id, first.submissions[:1])
    if rest := first.submissions[1:]:
        yield _Call(_new_id(), rest)
    yield from others


def _new_id() -> str:
    return uuid.uuid4().hex


def _out_of_time(kiva: KivaSession) -> NotSent | None:
    return None if kiva.has_time() else NotSent("no time left in this invocation")


def _not_sent(stop: NotSent, call: _Call) -> Outcome:
    return Outcome(State.RETRY, str(stop), call_id=call.id, retry_after=stop.retry_after)


def _reason_to_stop(outcomes: Collection[Outcome]) -> NotSent | None:
    """What nobody of this round got through, the next one would not get through either."""
    if any(outcome.misconfigured for outcome in outcomes):
        return NotSent("Kiva refuses us as we are configured")
    states = {outcome.state for outcome in outcomes}
    if State.ACCEPTED not in states and any(outcome.reason == _TAKES_NONE for outcome in outcomes):
        return NotSent(_TAKES_NONE)
    if states <= {State.RETRY}:
        return NotSent("Kiva takes nothing at the moment", retry_after=max(it.retry_after or 0 for it in outcomes))
    return None


def _answers(outcomes: Outcomes) -> list[bool]:
    """For the breaker, for each call: an answer, or a doubt. What was not processed is neither."""
    calls: dict[str, bool] = {}
    for _, outcome in outcomes:
        if outcome.state is not State.RETRY:
            calls[outcome.call_id] = calls.get(outcome.call_id, False) or outcome.state is not State.UNKNOWN
    return list(calls.values())


def _again(submission: Submission, stop: NotSent | None) -> Result:
    return Result(submission, Verdict.AGAIN, reason=str(stop), retry_after=(stop and stop.retry_after) or 0)


def _log_proof(outcomes: Outcomes, error: Exception) -> None:
    """Kiva's proof must not be lost with the write: from here a person can still find it."""
    _log.error("outcomes cannot be written down yet: %s", where(error))
    for submission, outcome in outcomes:
        _log.error(
            "not written down: %s %s is %s %s",
            *(submission.kind, submission.reference, outcome.state, dict(outcome.kiva)),
        )


def _not_ours(submission: Submission, claim: ClaimResult, row: Row | None) -> Result:
    state = row.state if row else None
    outcome = row.outcome if row else None
    match claim:
        case ClaimResult.BUSY:
            return Result(submission, Verdict.AGAIN, state, outcome, "another function is sending it right now")
        case ClaimResult.NEWER:
            return Result(submission, Verdict.AGAIN, reason=str(NewerVersion()), retry_after=LONGEST_PAUSE)
        case ClaimResult.UNCLEAR:
            return Result(submission, Verdict.AGAIN, state, outcome, "the ledger gave no answer")
        case ClaimResult.CONFLICT:
            mend = "abandon that" if state is State.STUCK else "correct that in PA2"
            reason = f"its reference belongs to other content, which is {state}; {mend}, or use a new reference"
            return Result(submission, Verdict.CONFLICT, state, outcome, reason)
    unknown = state is State.UNKNOWN
    return Result(
        submission,
        Verdict.STANDS,
        state,
        outcome,
        new=unknown and claim is ClaimResult.EXPIRED,
        unkept=unknown and row is not None and not row.payload,
    )


def _after_sending(submission: Submission, outcome: Outcome, *, lost: bool) -> Result:
    if lost:
        return Result(submission, Verdict.AGAIN, None, outcome, "its outcome could not be written down")
    verdict = Verdict.AGAIN if outcome.state is State.RETRY else Verdict.STANDS
    return Result(
        submission,
        verdict,
        outcome.state,
        outcome,
        outcome.reason,
        retry_after=outcome.retry_after or 0,
        new=True,
        unkept=outcome.state is State.UNKNOWN,
    )


def _post_all(call: _Call, contents: Mapping[str, Mapping[str, Any]], kiva: KivaSession) -> Outcomes:
    """One call, and where Kiva refuses a list: its halves, until the bad row stands alone. Nothing was created then.

    It ends early where the halves cannot help: nothing gets through any more, or Kiva takes none of the rows, each
    for the same reason. The rest is sent later.
    """
    outcomes: Outcomes = []
    refused_alone: Counter[str] = Counter()
    stop: Outcome | None = None
    left, parts = [call], 0
    while left:
        part = left.pop()
        if stop:
            outcomes += [(each, replace(stop, call_id=part.id)) for each in part.submissions]
            continue
        try:
            some = _post(kiva, part, [contents[each.reference] for each in part.submissions])
        except Exception as error:  # noqa: BLE001 whatever it is, it came after the claim and has to be written down
            if isinstance(error, Rejected) and error.status in CONTENT_STATUSES:
                if halves := _halves(part):
                    # What they are called tells which call was planned, should this one not come to its end.
                    left += [_Call(f"{call.id}.{parts + number}", half) for number, half in halves]
                    parts += len(halves)
                    continue
                refused_alone[_cause(error, part.submissions[0])] += 1
            some = [_outcome_of(error, part)] * len(part.submissions)
            if some[0].state is State.RETRY:
                stop = some[0]
        outcomes += zip(part.submissions, some, strict=True)
        if max(refused_alone.values(), default=0) >= REFUSED_ALIKE:
            none_taken = all(outcome.state is not State.ACCEPTED for _, outcome in outcomes)
            stop = Outcome(State.RETRY, _TAKES_NONE) if none_taken else None
    return outcomes


_TAKES_NONE = (
    f"Kiva refused {REFUSED_ALIKE} submissions of this list one by one for the same reason and took none; the rest is"
    " sent later"
)


def _halves(call: _Call) -> list[tuple[int, list[Submission]]]:
    """Numbered, the first one last, which is taken first; empty when there is nothing to halve."""
    if len(call.submissions) == 1:
        return []
    middle = len(call.submissions) // 2
    return [(2, call.submissions[middle:]), (1, call.submissions[:middle])]


def _cause(refusal: Rejected, submission: Submission) -> str:
    """What a refusal says, whichever row it is about."""
    said = refusal.text
    for own in (submission.loan_id, submission.client_id, str(submission.content.get("client_id", ""))):
        said = said.replace(own, "") if own else said
    return f"{refusal.status} {re.sub(r'[0-9]+', '0', said)}"


def _outcome_of(error: Exception, call: _Call) -> Outcome:
    """What an error says about the submissions of a call."""
    match error:
        case Rejected():
            reason = _with_words(error, call)
            return Outcome(State.REJECTED, reason, http_status=error.status, call_id=call.id)
        case NotSent():
            return Outcome(
                State.RETRY,
                str(error),
                http_status=error.status,
                call_id=call.id,
                retry_after=error.retry_after,
                unavailable=isinstance(error, KivaUnavailable),
            )
        case Misconfigured():
            _log.error("Kiva cannot be used as this is configured: %s", error)
            return Outcome(State.RETRY, str(error), call_id=call.id, misconfigured=True)
        case OutcomeUnknown():
            reason = _with_words(error, call)
            return Outcome(State.UNKNOWN, reason, http_status=error.status, call_id=call.id)
    # A fault of ours: bytes may have left, so this too is a doubt and never a retry.
    _log.error("unexpected error while sending: %s", where(error))
    return Outcome(State.UNKNOWN, f"unexpected {type(error).__name__} while sending", call_id=call.id)


def _with_words(error: Rejected | OutcomeUnknown, call: _Call) -> str:
    """What happened, and what Kiva says of it."""
    return f"{error}: {masked(error.text, (it.content for it in call.submissions))}" if error.text else str(error)


def _post(kiva: KivaSession, call: _Call, contents: list[Mapping[str, Any]]) -> list[Outcome]:
    match call.submissions[0].kind:
        case Kind.LOAN_DRAFT:
            taken = kiva.post_loan_draft(contents[0])
        case Kind.JOURNAL_UPDATE:
            taken = kiva.post_journals(contents)
        case Kind.REPAYMENT:
            taken = kiva.post_repayments(contents)
    return _outcomes_of(taken, call)


def _outcomes_of(taken: Taken, call: _Call) -> list[Outcome]:
    """A yes to the call is no yes to every row: one that Kiva finds an error in was not taken."""
    found = taken.findings
    of_call = [_problem(each, [it.content for it in call.submissions]) for each in found.of_call[:MOST_PROBLEMS]]
    outcomes = []
    for submission, kiva, own in zip(call.submissions, taken.kiva, found.of_rows, strict=True):
        worst_first = sorted(own, key=lambda each: -each.weight)[:MOST_PROBLEMS]
        problems = (*(_problem(each, [submission.content], submission) for each in worst_first), *of_call)
        weight = worst_first[0].weight if worst_first else Weight.MILD
        state, reason = _OF_ROWS[weight]
        if found.doubt:
            state, reason = State.UNKNOWN, f"Kiva made it, but nobody can tell what it holds: {found.doubt}"
        outcomes.append(Outcome(state, reason, kiva, problems[:MOST_PROBLEMS], call_id=call.id))
    return outcomes


_OF_ROWS = {
    Weight.MILD: (State.ACCEPTED, ""),
    Weight.UNCLEAR: (State.UNKNOWN, "Kiva took the upload, and nobody can tell whether it took this row"),
    Weight.GRAVE: (State.REJECTED, "Kiva took the upload but refused this row"),
}


def _problem(finding: Finding, contents: list[Mapping[str, Any]], of: Submission | None = None) -> dict[str, str]:
    """A finding as it may be shown; with the loan's id where it is not simply that of the submission `of`."""
    words = {"severity": finding.severity, "code": finding.code, "details": finding.details}
    if finding.loan_id and not (of and finding.loan_id == of.loan_id):
        words["loan_id"] = finding.loan_id
    return {name: masked(text, contents) for name, text in words.items()}
