"""One row per submission, for ever: who may send it, what became of it, and Kiva's proof.

Only a claim licenses a POST. It is a conditional write that is durable before a byte leaves, it carries its owner and a
lease, and a claim whose lease ran out becomes UNKNOWN, never RETRY: nobody can tell whether its owner had sent.
All writes are conditional; up to 100 go in one DynamoDB transaction.

    QUEUED -> SENDING -> ACCEPTED | REJECTED | RETRY | UNKNOWN
    RETRY -> SENDING;  UNKNOWN -> ACCEPTED | REJECTED | RETRY | ABANDONED;  REJECTED, reopened -> QUEUED | SENDING
    QUEUED | RETRY -> STUCK -> QUEUED | SENDING | ABANDONED
"""

import base64
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from copy import replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache
from itertools import batched, chain, islice
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
from msgspec import Struct, field

from . import formats
from .dynamodb import plain, typed
from .errors import InvalidMessage, Violation
from .messages import Kind, Message, Submission

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TRANSACTION_SIZE = 100
"""DynamoDB's limit of actions in one TransactWriteItems."""

TRANSACTIONS_AT_ONCE = 4

MAX_KEY_BYTES = 2048
"""DynamoDB's limit of a partition key, of the table and of an index: its Developer Guide, "Constraints"."""

KEEP_SETTLED = timedelta(days=400)
"""Settled rows go after this time; open ones (QUEUED, SENDING, RETRY, STUCK, UNKNOWN) never."""

PIECE_BYTES = 300_000
"""Of a receipt, in one item. References are ASCII, and DynamoDB takes items of 400 KB."""

LINKED_WITHIN = 3600
"""Seconds; by then the stream has told which amount of a month replaced which."""

ATTEMPTS = 8
BACKOFF_SECONDS = 0.05


class State(StrEnum):
    """What is known about a submission."""

    QUEUED = "QUEUED"
    SENDING = "SENDING"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    RETRY = "RETRY"
    STUCK = "STUCK"
    UNKNOWN = "UNKNOWN"
    ABANDONED = "ABANDONED"

    @property
    def is_final(self) -> bool:
        """Nothing more happens to it by itself or by a person."""
        return self in (State.ACCEPTED, State.REJECTED, State.ABANDONED)


# A refused or abandoned reference may be used again, but not for what was refused or abandoned under it: a copy of that
# may come late, and Kiva may have it.
_FREE = (State.REJECTED, State.ABANDONED)
_FREE_AGAIN = (
    "(#state IN (:rejected, :abandoned) AND fingerprint <> :fingerprint AND NOT contains(spent, :fingerprint))"
    " OR (#state = :rejected AND fingerprint = :fingerprint AND reopened = :true)"
)
_FREE_AGAIN_VALUES = {":rejected": State.REJECTED, ":abandoned": State.ABANDONED, ":true": True}


WAITING = (State.QUEUED, State.RETRY)
"""Kiva has it not, and its message brings it there."""

_CLAIMABLE = (*WAITING, State.STUCK)

_NOT_NEWER = "(attribute_not_exists(v) OR v <= :v)"
"""Of a row that may be changed: it is new, or no newer version of the relay wrote it (formats.py)."""


class Outcome(Struct, frozen=True):
    """What an attempt came to. Holds no borrower's data: Kiva's references and masked texts only.

    `retry_after` (seconds), `misconfigured` and `unavailable` (Kiva takes nothing) are for whoever handles the attempt;
    they are not written down.
    """

    state: State
    reason: str = ""
    kiva: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Mapping[str, str], ...] = ()
    http_status: int | None = None
    call_id: str = ""
    retry_after: float | None = None
    misconfigured: bool = False
    unavailable: bool = False

    def proofs(self, kind: Kind) -> list[str]:
        """Kiva's ids that prove it, each as a name that no other thing at Kiva has."""
        ids = {name: value.lower() for name, value in self.kiva.items() if name in _PROOFS}
        return sorted({f"{kind}#{_PROOFS[name]}#{value}" for name, value in ids.items()})

    def facts(self) -> dict[str, Any]:
        """What is known besides the state, as plain values; what is not known is left out."""
        known = {
            "reason": self.reason,
            "kiva": dict(self.kiva),
            "problems": [dict(each) for each in self.problems],
            "http_status": self.http_status,
            "call_id": self.call_id,
        }
        return {name: value for name, value in known.items() if value}


_PROOFS = {
    "loan_draft_uuid": "uuid",
    "loan_uuid": "uuid",  # which may be that of the draft that the loan was made of
    "kiva_id": "kiva_id",
    "archive_id": "archive_id",
    "upload_id": "upload_id",
}


class Row(Struct, frozen=True):
    """A submission as the ledger knows it. Times are UTC, ISO 8601; `lease_until` is in epoch seconds.

    `call_id` is the call that its last claim was for, `payload` the key under which an UNKNOWN one is kept, `requeue`
    that it was decided to send it again and its message is not in the queue yet, `spent` the fingerprints of what was
    refused or abandoned under its reference, `reopened` that its content may be sent once more although it was refused.
    Of amounts of one month (versions.py): `replaces` and `replaced_by` are the references of the one before and the one
    after it at Kiva, `replaced_at` is when Kiva took the latter, `came_again_at` when it came again.
    """

    kind: Kind
    reference: str
    loan_id: str
    state: State
    fingerprint: str
    updated_at: str
    created_at: str
    attempts: int = 0
    owner: str = ""
    lease_until: float = 0.0
    call_id: str = ""
    outcome: Outcome | None = None
    payload: str = ""
    requeue: bool = False
    reopened: bool = False
    decisions: tuple[Mapping[str, str], ...] = ()
    spent: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()
    period: str = ""
    client_id: str = ""
    amount: str = ""
    sent_at: str = ""
    replaces: str = ""
    replaced_by: str = ""
    replaced_at: str = ""
    came_again_at: str = ""

    @property
    def states_month(self) -> bool:
        """Whether it says all that is to be said of its loan and month, so that another amount of them replaces it."""
        return bool(self.period and self.amount)

    @property
    def taken_at(self) -> str:
        """When Kiva took it, if it did. A person's word on it comes later than that, and does not count."""
        return self.sent_at or self.updated_at

    @property
    def is_not_sent(self) -> bool:
        """It came again after what replaced it, and was not sent again."""
        return bool(self.replaced_by) and self.came_again_at > self.replaced_at

    @property
    def needs_its_message(self) -> bool:
        """Nothing but the message that it came in brings it to Kiva."""
        return self.state in WAITING and not self.requeue

    def may_become(self, submission: Submission) -> bool:
        """Whether its reference is free for this other content. None that was refused or abandoned comes back."""
        return self.state in _FREE and submission.fingerprint not in self.spent


_NEWER = Row(Kind.LOAN_DRAFT, "", "", State.SENDING, "", "", "")
"""In the place of a row in the way that this version cannot read."""


class ClaimResult(StrEnum):
    """What came of asking for a claim."""

    CLAIMED = "CLAIMED"
    """Ours: send it."""
    STANDS = "STANDS"
    """It has its outcome already, or waits for a person: nothing is sent."""
    EXPIRED = "EXPIRED"
    """Its sender ended without a word, which was noticed just now: nothing is sent, the row is UNKNOWN."""
    BUSY = "BUSY"
    """Somebody else is sending it right now."""
    CONFLICT = "CONFLICT"
    """Its reference belongs to other content."""
    NEWER = "NEWER"
    """A newer version of the relay wrote its row, and goes on with it: nothing is sent."""
    UNCLEAR = "UNCLEAR"
    """DynamoDB gave no answer, and our claim is not to be seen: nothing is sent."""


class Page(Struct, frozen=True):
    """Some rows, and where the next page begins (None on the last)."""

    rows: list[Row]
    cursor: str | None


class Ledger:
    """The ledger table of a stage. `scope` (environment and partner) is part of every key."""

    def __init__(
        self,
        client: Callable[[], "DynamoDBClient"],
        table: str,
        scope: str,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._table = table
        self._scope = scope
        self._clock = clock
        self._sleep = sleep
        self._threads = ThreadPoolExecutor(TRANSACTIONS_AT_ONCE)

    # --- writing ---

    def unwritten(self, submission: Submission, outcome: Outcome) -> Row:
        """The row as it is to be, for an answer while the table cannot be written or read."""
        now = self._now()
        return Row(
            kind=submission.kind,
            reference=submission.reference,
            loan_id=submission.loan_id,
            state=outcome.state,
            fingerprint=submission.fingerprint,
            updated_at=now,
            created_at=now,
            outcome=outcome,
            warnings=tuple(map(str, submission.warnings)),
            period=submission.period,
            amount=submission.amount,
        )

    def enqueue(self, submissions: Sequence[Submission]) -> None:
        """Note submissions that the API put into a queue. A row that stands already stays so, unless it is STUCK."""
        stuck = "#state = :stuck AND fingerprint = :fingerprint"
        condition = f"attribute_not_exists(pk) OR ({stuck}) OR {_FREE_AGAIN}"
        queue = self._change(State.QUEUED, condition, {":stuck": State.STUCK, **_FREE_AGAIN_VALUES})
        self._write(
            [
                queue(each, remove=("outcome", "expires_at", "reopened", *_not_told(each)), **_identity(each))
                for each in submissions
            ]
        )

    def claim(
        self,
        submissions: Sequence[Submission],
        owner: str,
        lease_until: float,
        call_ids: Mapping[str, str] | None = None,
    ) -> dict[str, tuple[ClaimResult, Row | None]]:
        """Ask for the right to send, for each submission alone; references must differ. `lease_until` in epoch seconds.

        `call_ids` tells for each reference which call it is planned for: should the owner die, what went together is
        decided together. A row in the way is given back with the result. One whose lease has run out is turned into
        UNKNOWN on the spot.
        """
        claimable = "#state IN (:queued, :retry, :stuck) AND fingerprint = :fingerprint"
        condition = f"attribute_not_exists(pk) OR ({claimable}) OR {_FREE_AGAIN}"
        values = {":queued": State.QUEUED, ":retry": State.RETRY, ":stuck": State.STUCK, **_FREE_AGAIN_VALUES}
        claim = self._change(State.SENDING, condition, values, owner=owner, lease_until=_number(lease_until))
        updates = [
            claim(
                each,
                remove=("outcome", "expires_at", "requeue", "reopened", *_not_told(each)),
                add={"attempts": 1},
                **_identity(each),
                call_id=(call_ids or {}).get(each.reference, ""),
            )
            for each in submissions
        ]
        try:
            blocking = self._write(updates)
        except Exception as error:  # noqa: BLE001 whatever it is, nobody knows which of the writes were done
            return self._claimed(submissions, owner, error)
        return {
            each.reference: (ClaimResult.NEWER, None) if row is _NEWER else self._claim_result(each, owner, row)
            for each, row in zip(submissions, blocking, strict=True)
        }

    def _claimed(
        self, submissions: Sequence[Submission], owner: str, error: Exception
    ) -> dict[str, tuple[ClaimResult, Row | None]]:
        """What an unclear claim came to, read back. What does not carry our name is not ours, even if it will soon."""
        rows = self.read_all(submissions[0].kind, [each.reference for each in submissions])
        if not any(row.owner == owner for row in rows.values()):
            raise error
        return {
            each.reference: self._claim_result(each, owner, rows[each.reference])
            if each.reference in rows
            else (ClaimResult.UNCLEAR, None)
            for each in submissions
        }

    def _claim_result(self, submission: Submission, owner: str, row: Row | None) -> tuple[ClaimResult, Row | None]:
        if row is None or (row.state is State.SENDING and row.owner == owner):
            # The second: our own claim whose answer was lost on the way.
            return ClaimResult.CLAIMED, None
        if row.fingerprint != submission.fingerprint:
            return ClaimResult.UNCLEAR if row.may_become(submission) else ClaimResult.CONFLICT, row
        if row.state in _CLAIMABLE:
            return ClaimResult.UNCLEAR, row
        if row.state is State.SENDING:
            if row.lease_until >= self._clock():
                return ClaimResult.BUSY, row
            return ClaimResult.EXPIRED, self.expire_claim(row)
        return ClaimResult.STANDS, row

    def settle(self, outcomes: Sequence[tuple[Submission, Outcome]], owner: str) -> list[Outcome | None]:
        """Write outcomes down, each only where the claim is still `owner`'s.

        Gives what was written for each: None where nothing was; and where Kiva's id proves another call already, and so
        proves nothing, UNKNOWN instead. Proof may come late: an owner whose lease ran out meanwhile still lifts its own
        UNKNOWN to ACCEPTED.
        """
        unproved = self._unproved(outcomes)
        wanted = [
            (each, _unproved_outcome(outcome) if outcome.call_id in unproved else outcome) for each, outcome in outcomes
        ]
        blocked = self._write_bundles(self._settlements(wanted, owner))
        # A call of one submission claims its proof together with its row. Where that proof is another's:
        without = [index for index, block in enumerate(blocked) if block and block.action > 0]
        for index in without:
            wanted[index] = (wanted[index][0], _unproved_outcome(wanted[index][1]))
        settlements = self._settlements([wanted[index] for index in without], owner)
        for index, block in zip(without, self._write_bundles(settlements), strict=True):
            blocked[index] = block
        return [
            # A row in the way that says what we wanted to write is our own write, whose answer was lost.
            None if block and not (block.row.owner == owner and block.row.state is outcome.state) else outcome
            for (_, outcome), block in zip(wanted, blocked, strict=True)
        ]

    def _unproved(self, outcomes: Sequence[tuple[Submission, Outcome]]) -> set[str]:
        """The calls whose proofs prove another one: of these outcomes, or one that lists prove by the ledger."""
        proofs: dict[str, set[str]] = {}
        sizes: Counter[str] = Counter()
        claims: dict[tuple[str, str], None] = {}
        looked_at: set[tuple[str, int]] = set()  # the rows of an upload all hold one mapping
        for submission, outcome in outcomes:
            sizes[outcome.call_id] += 1
            same = (outcome.call_id, id(outcome.kiva))
            if not outcome.state.is_final or same in looked_at:
                continue
            looked_at.add(same)
            for proof in outcome.proofs(submission.kind):
                proofs.setdefault(proof, set()).add(outcome.call_id)
                claims[proof, outcome.call_id] = None
        # Nobody can tell which of two calls at a time an id is of.
        unproved = {call for calls in proofs.values() if len(calls) > 1 for call in calls}
        of_lists = [(proof, call) for proof, call in claims if sizes[call] > 1 and call not in unproved]
        blocked = self._write_bundles([[self._proof(proof, call)] for proof, call in of_lists])
        return unproved | {call for (_, call), block in zip(of_lists, blocked, strict=True) if block}

    def _settlements(self, outcomes: Sequence[tuple[Submission, Outcome]], owner: str) -> list[list[dict[str, Any]]]:
        """For each outcome what writes it down: an Update of its row and, where it is a call alone, of its proofs."""
        settle = {}
        for state in {outcome.state for _, outcome in outcomes}:
            late = " OR #state = :unknown" if state is State.ACCEPTED else ""
            values = {":me": owner, ":sending": State.SENDING, **({":unknown": State.UNKNOWN} if late else {})}
            settle[state] = self._change(state, f"#owner = :me AND (#state = :sending{late})", values)
        sizes = Counter(outcome.call_id for _, outcome in outcomes)
        bundles = []
        for submission, outcome in outcomes:
            update = settle[outcome.state](submission, **self._end(submission, outcome))
            alone = outcome.state.is_final and sizes[outcome.call_id] == 1
            proofs = outcome.proofs(submission.kind) if alone else ()
            bundles.append([update, *(self._proof(proof, outcome.call_id) for proof in proofs)])
        return bundles

    def claim_proofs(self, kind: Kind, outcome: Outcome, call_id: str) -> bool:
        """Have Kiva's ids in an outcome prove this call from now on. False when one of them proves another call."""
        updates = [self._proof(proof, call_id, or_a_part=True) for proof in outcome.proofs(kind)]
        return not any(self._write_bundles([updates])) if updates else True

    def _proof(self, proof: str, call_id: str, *, or_a_part: bool = False) -> dict[str, Any]:
        """The Update by which an id of Kiva's proves a call, and none other ever.

        `or_a_part` takes also what a part of this call has claimed: the call ended before it could say so.
        """
        values = {":call_id": call_id, ":expires_at": self._end_of_keeping()}
        part = " OR begins_with(call_id, :part)" if or_a_part else ""
        return {
            "TableName": self._table,
            "Key": {"pk": {"S": f"{self._scope}#proof#{proof}"}},
            "UpdateExpression": "SET call_id = :call_id, expires_at = :expires_at",
            "ConditionExpression": f"attribute_not_exists(pk) OR call_id = :call_id{part}",
            "ExpressionAttributeValues": {
                name: typed(value) for name, value in (values | ({":part": f"{call_id}."} if part else {})).items()
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def expire_claim(self, row: Row) -> Row:
        """Turn a claim whose lease ran out into UNKNOWN, unless its owner was quicker; gives the row as it is now."""
        outcome = Outcome(State.UNKNOWN, "the function that was sending it ended without a word", call_id=row.call_id)
        condition = "#state = :sending AND #owner = :owner AND lease_until < :time"
        values = {":sending": State.SENDING, ":owner": row.owner, ":time": _number(self._clock())}
        expire = self._change(State.UNKNOWN, condition, values)
        self._write([expire(row, outcome=_outcome_item(outcome))])
        return self.read_all(row.kind, [row.reference]).get(row.reference, row)

    def mark_stuck(self, rows: Sequence[tuple[Row, str]]) -> list[Row]:
        """Make rows STUCK whose message comes no more, each for its reason; gives them.

        One that has changed since it was read is left out: somebody is sending it, or has.
        """
        condition = "#state IN (:queued, :retry) AND fingerprint = :fingerprint AND updated_at = :read_at"
        stick = self._change(State.STUCK, condition, {":queued": State.QUEUED, ":retry": State.RETRY})
        blocking = self._write(
            [
                stick(
                    row,
                    values={":fingerprint": row.fingerprint, ":read_at": row.updated_at},
                    attempts=row.attempts,  # one that was never claimed has none yet, and a decision asks for them
                    outcome=_outcome_item(Outcome(State.STUCK, reason)),
                )
                for row, reason in rows
            ]
        )
        return [row for (row, _), other in zip(rows, blocking, strict=True) if other is None]

    def keep(self, payloads: Sequence[tuple[Submission, str]]) -> None:
        """Note under which key each submission is kept, as far as it is still UNKNOWN."""
        keep = self._change(State.UNKNOWN, "#state = :state AND fingerprint = :known")
        self._write([keep(each, values={":known": each.fingerprint}, payload=key) for each, key in payloads])

    def resolve(
        self,
        outcomes: Sequence[tuple[Row, Outcome]],
        *,
        decision: Mapping[str, str] | None = None,
        claimed_until: float | None = None,
    ) -> list[bool]:
        """Give UNKNOWN or STUCK rows outcomes, read or decided. Tells for each whether it was still to be had.

        Args:
            outcomes: Rows as they were read, and what becomes of each: ACCEPTED, REJECTED, ABANDONED, or RETRY to send
                it again. A row that has another state or was claimed anew meanwhile is left alone.
            decision: What is to be remembered of who decided, when and why.
            claimed_until: Epoch seconds; a row whose lease ends later is left alone.
        """
        condition = "#state = :was AND fingerprint = :fingerprint AND attempts = :attempts"
        values: dict[str, Any] = {}
        if claimed_until is not None:
            condition += " AND lease_until <= :claimed_until"
            values[":claimed_until"] = int(claimed_until)
        resolve = {state: self._change(state, condition, values) for state in {it.state for _, it in outcomes}}
        blocking = self._write(
            [
                resolve[outcome.state](
                    row,
                    values={":was": row.state, ":fingerprint": row.fingerprint, ":attempts": row.attempts},
                    append={"decisions": dict(decision)} if decision else None,
                    **self._end(row, outcome),
                    **({} if outcome.state.is_final else {"requeue": True}),
                    **({"sent_at": _sent_at(row)} if outcome.state is State.ACCEPTED else {}),
                )
                for row, outcome in outcomes
            ]
        )
        return [row is None for row in blocking]

    def reopen(self, rows: Sequence[Row], decision: Mapping[str, str]) -> list[bool]:
        """Let the content of REJECTED rows be sent once more, with its event. Tells for each whether it was done.

        `decision` is what is to be remembered of who decided, when and why.
        """
        reopen = self._change(State.REJECTED, "#state = :state AND fingerprint = :fingerprint AND attempts = :attempts")
        blocking = self._write(
            [
                reopen(
                    row,
                    values={":fingerprint": row.fingerprint, ":attempts": row.attempts},
                    append={"decisions": dict(decision)},
                    reopened=True,
                )
                for row in rows
            ]
        )
        return [row is None for row in blocking]

    def requeued(self, row: Row) -> None:
        """Note that the message of a submission which is to be sent again is in the queue."""
        requeue = self._change(State.RETRY, "#state = :state AND attempts = :attempts", {":attempts": row.attempts})
        self._write([requeue(row, remove=("requeue",))])

    def link(self, older: Row, newer: Row, warning: str = "") -> bool:
        """Have two amounts of a month that Kiva has say that one replaced the other; a warning goes to the newer.

        Neither their state nor the time of their change becomes another. Gives whether both were as they were read.
        """
        marks = []
        if older.replaced_by != newer.reference:
            marks.append(self._mark(older, "replaced_by", replaced_by=newer.reference, replaced_at=newer.taken_at))
        if newer.replaces != older.reference:
            warning = "" if warning in newer.warnings else warning
            marks.append(self._mark(newer, "replaces", warning, replaces=older.reference))
        return not any(self._write(marks)) if marks else True

    def note_again(self, rows: Sequence[Row]) -> list[Row]:
        """Note that amounts of a month came again, where another one may have come between; gives all rows as they are.

        Which one is known by the stream (`link`), so one that was taken within the hour is noted too.
        """
        now, lately = self._now(), _time(self._clock() - LINKED_WITHIN)
        again = [row for row in rows if row.state is State.ACCEPTED and row.states_month and _is_news(row, lately)]
        if again:
            self._write([self._mark(row, came_again_at=now) for row in again])
        references = {row.reference for row in again}
        return [replace(row, came_again_at=now) if row.reference in references else row for row in rows]

    # --- reading ---

    def read(self, kind: Kind, reference: str) -> Row | None:
        """One submission, as of now. Raises NewerVersion, where lists leave out what a newer version wrote."""
        item = self._get(self._key(kind, reference))
        return _row(item) if item else None

    def read_all(self, kind: Kind, references: Sequence[str]) -> dict[str, Row]:
        """Many submissions, as of now, in the order asked for; those without a row are left out."""
        return {row.reference: row for row in self._get_all([self._key(kind, reference) for reference in references])}

    def every(self, kind: Kind, state: State, *, since: date | None = None) -> Iterator[Row]:
        """All submissions of a kind in a state, as `list_by_state` gives them."""
        cursor = None
        while True:
            page = self.list_by_state(kind, state, since=since, limit=1000, cursor=cursor)
            yield from page.rows
            cursor = page.cursor
            if cursor is None:
                return

    def list_by_state(
        self,
        kind: Kind,
        state: State,
        *,
        since: date | None = None,
        before: float | None = None,
        oldest_first: bool = False,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """Submissions of a kind in a state, the latest change first (an index: up to a second behind).

        `since` leaves out those that have not changed from the beginning of that day (UTC) on, or from that moment on
        where it is a datetime (UTC); `before` (epoch seconds) those that have changed then or later. Not both.
        """
        value = f"{self._scope}#{kind}#{state}"
        items, cursor = self._query(
            _BY_STATE, value, limit, cursor, since=since, before=before, oldest_first=oldest_first
        )
        return Page(_rows(map(plain, items)), cursor)

    def list_by_loan(self, loan_id: str, *, limit: int = 100, cursor: str | None = None) -> Page:
        """Submissions of one loan as of now, the newest first; one of the last second may still be missing.

        The index holds what never changes and goes by the time of creation, so that what becomes of a row costs nothing
        there.
        """
        items, cursor = self._query(_BY_LOAN, f"{self._scope}#{loan_id}", limit, cursor)
        return Page(self._get_all([item["pk"]["S"] for item in items]), cursor)

    def list_month(self, row: Row) -> list[Row]:
        """Repayments that state the same loan and month as this one, which is among them, in every state.

        Another one of the last second may still be missing.
        """
        keys = [self._key(row.kind, row.reference)]
        cursor: str | None = ""
        while cursor is not None:
            items, cursor = self._query(_BY_LOAN, f"{self._scope}#{row.loan_id}", 1000, cursor, period=row.period)
            keys += [item["pk"]["S"] for item in items]
        return [each for each in self._get_all(list(dict.fromkeys(keys))) if each.states_month]

    def mark_done(self, kind: Kind, reference: str, by: str) -> str:
        """Remember that a person has done what was to be done about something; gives when (UTC, ISO 8601).

        `reference` is Kiva's of a draft, an archive or an upload; of a refused submission its own. Raises
        InvalidMessage for one that is too long to be any.
        """
        now, key = self._now(), self._key(kind, reference, "done")
        if not _fits(key):
            raise InvalidMessage(Violation("reference", "is longer than any reference"))
        self._client().put_item(
            TableName=self._table,
            Item={
                "pk": {"S": key},
                "done_at": {"S": now},
                "done_by": {"S": by},
                "expires_at": {"N": str(self._end_of_keeping())},
            },
        )
        return now

    def read_done(self, kind: Kind, references: Sequence[str]) -> dict[str, str]:
        """When each of these was marked as done (UTC, ISO 8601); those that were not are left out."""
        keys = {self._key(kind, reference, "done"): reference for reference in references}
        return {keys[key]: item["done_at"] for key, item in self._get_items(list(keys)).items()}

    def note(self, message: Message) -> None:
        """Note a message that the API put into a queue: a row for each submission, then its receipt.

        What is noted already stays as it is.
        """
        self.enqueue(message.submissions)
        self.write_receipt(message)

    def has_noted(self, message: Message) -> bool:
        """Whether all of `note` was done. The receipt is its last step, or where there is none the only row."""
        if not (pieces := self._pieces(message)):
            return self.read(message.kind, message.reference) is not None
        receipt = self._get(self._key(message.kind, message.reference, "message"))
        return receipt is not None and pieces.keys() <= receipt["pieces"]

    def write_receipt(self, message: Message) -> None:
        """Remember which submissions a message of the API held, so that its own reference finds all of them.

        Several messages may come under one reference, and each adds to what it finds. A message of one submission that
        shares its reference has nothing to remember.
        """
        if not (pieces := self._pieces(message)):
            return
        end = {"expires_at": {"N": str(self._end_of_keeping())}}
        for piece, references in pieces.items():
            key = {"pk": {"S": self._piece_key(message.kind, message.reference, piece)}}
            self._client().put_item(TableName=self._table, Item={**key, "references": {"S": references}, **end})
        self._client().update_item(
            TableName=self._table,
            Key={"pk": {"S": self._key(message.kind, message.reference, "message")}},
            UpdateExpression="SET expires_at = :expires_at ADD pieces :pieces",
            ExpressionAttributeValues={":expires_at": end["expires_at"], ":pieces": typed(set(pieces))},
        )

    def read_receipt(self, kind: Kind, reference: str) -> list[str]:
        """The references of the submissions of all messages that came under this one; empty when there is none."""
        receipt = self._get(self._key(kind, reference, "message"))
        keys = [self._piece_key(kind, reference, piece) for piece in sorted(receipt["pieces"])] if receipt else []
        pieces = self._get_items(keys)
        found = (pieces[key]["references"].split("\n") for key in keys if key in pieces)
        return list(dict.fromkeys(chain.from_iterable(found)))

    def _pieces(self, message: Message) -> dict[str, str]:
        """What a receipt holds, cut so that each piece fits an item, by a name that is the same whenever it is made."""
        references = [each.reference for each in message.submissions]
        if references == [message.reference]:
            return {}
        digest = hashlib.sha256("\n".join(references).encode()).hexdigest()[:16]
        rows = PIECE_BYTES // max(len(each) + 1 for each in references)
        return {f"{digest}-{number:03}": "\n".join(some) for number, some in enumerate(batched(references, rows))}

    def _piece_key(self, kind: Kind, reference: str, piece: str) -> str:
        return self._key(kind, f"{reference}#{piece}", "message")

    def _get(self, key: str) -> dict[str, Any] | None:
        if not _fits(key):
            return None
        answer = self._client().get_item(TableName=self._table, Key={"pk": {"S": key}}, ConsistentRead=True)
        return plain(answer["Item"]) if "Item" in answer else None

    def _get_all(self, keys: Sequence[str]) -> list[Row]:
        """The rows that there are, in the order of their keys."""
        found = self._get_items(keys)
        # DynamoDB answers in any order it likes.
        return _rows(found[key] for key in keys if key in found)

    def _get_items(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The items that there are, as plain values, by their keys."""
        found: dict[str, dict[str, Any]] = {}
        for some in batched(filter(_fits, dict.fromkeys(keys)), 100):
            wanted: Any = {self._table: {"Keys": [{"pk": {"S": key}} for key in some], "ConsistentRead": True}}
            for attempt in range(ATTEMPTS):
                answer = self._client().batch_get_item(RequestItems=wanted)
                found |= {item["pk"]["S"]: plain(item) for item in answer["Responses"].get(self._table, [])}
                wanted = answer.get("UnprocessedKeys")
                if not wanted:
                    break
                self._sleep(BACKOFF_SECONDS * 2**attempt)
            else:
                raise TimeoutError("DynamoDB leaves keys of a BatchGetItem unprocessed")
        return found

    def _query(
        self,
        index: "_Index",
        value: str,
        limit: int,
        cursor: str | None,
        *,
        since: date | None = None,
        before: float | None = None,
        oldest_first: bool = False,
        period: str = "",
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Items of one value of an index, the latest first unless told otherwise, and the cursor of those behind."""
        if not _fits(value):
            return [], None
        more: dict[str, Any] = {"ExclusiveStartKey": self._start(index, value, cursor, since)} if cursor else {}
        condition, values = "#key = :value", {":value": {"S": value}}
        if since:
            condition += f" AND {index.time} >= :since"
            values[":since"] = {"S": since.isoformat()}
        if before is not None:
            condition += f" AND {index.time} < :before"
            values[":before"] = {"S": _time(before)}
        if period:
            more["FilterExpression"] = "period = :period"
            values[":period"] = {"S": period}
        answer = self._client().query(
            TableName=self._table,
            IndexName=index.name,
            KeyConditionExpression=condition,
            ExpressionAttributeNames={"#key": index.key},
            ExpressionAttributeValues=values,
            ScanIndexForward=oldest_first,
            Limit=limit,
            **more,
        )
        last = answer.get("LastEvaluatedKey")
        return answer["Items"], _cursor([last[name]["S"] for name in (index.key, index.time, "pk")]) if last else None

    def _start(self, index: "_Index", value: str, cursor: str, since: date | None) -> dict[str, Any]:
        """The key that a cursor stands for. Raises InvalidMessage for one that was not given out for this very query.

        It comes from outside, and DynamoDB answers with an error to a key that is none or lies outside the query.
        """
        try:
            of_value, time, key = msgspec.json.decode(base64.b64decode(cursor, b"-_", validate=True), type=_Cursor)
            is_time = datetime.fromisoformat(time).astimezone(UTC).isoformat(timespec="microseconds") == time
            in_table = key.startswith(self._key_of("submission")) and _fits(key)
            if of_value == value and is_time and in_table and time >= (since.isoformat() if since else ""):
                return {index.key: {"S": value}, index.time: {"S": time}, "pk": {"S": key}}
        except (ValueError, OverflowError, RecursionError, msgspec.DecodeError):
            pass
        raise InvalidMessage(Violation("cursor", "is not one that this list gave out"))

    def _end(self, target: Submission | Row, outcome: Outcome) -> dict[str, Any]:
        """For a maker of Updates: the outcome, and where it is the last one what ends with it."""
        end: dict[str, Any] = {"outcome": _outcome_item(outcome)}
        if outcome.state.is_final:
            end |= {"expires_at": self._end_of_keeping(), "remove": ("payload",)}
        if outcome.state in _FREE:
            end["add"] = {"spent": {target.fingerprint}}
        return end

    def _now(self) -> str:
        return _time(self._clock())

    def _end_of_keeping(self) -> int:
        return int(self._clock() + KEEP_SETTLED.total_seconds())

    # --- the one way in which rows change ---

    def _key(self, kind: Kind, reference: str, sort: str = "submission") -> str:
        return f"{self._scope}#{sort}#{kind}#{reference}"

    def _key_of(self, sort: str) -> str:
        """What the keys of a sort begin with."""
        return f"{self._scope}#{sort}#"

    def _change(
        self, state: State, condition: str, values: Mapping[str, Any] | None = None, **common: Any
    ) -> Callable[..., dict[str, Any]]:
        """How rows come into a state: a maker of conditional Updates, which all set `common` besides.

        What the rows have in common is written in DynamoDB's form once: a report has thousands of them. The maker takes
        a submission or a row, fields to set, and

        * `values`, further ones that the condition asks for,
        * `remove`, names of fields to drop,
        * `add`, numbers to count up by and sets to put into sets,
        * `append`, values to put at the end of lists.
        """
        common |= {"state": state, "updated_at": self._now(), "v": formats.VERSION}
        condition = f"({condition}) AND {_NOT_NEWER}"
        known = {f":{name}": typed(value) for name, value in common.items()}
        known |= {name: typed(value) for name, value in (values or {}).items()}

        def update(
            target: Submission | Row,
            *,
            values: Mapping[str, Any] | None = None,
            remove: tuple[str, ...] = (),
            add: Mapping[str, int | set[str]] | None = None,
            append: Mapping[str, Any] | None = None,
            **fields: Any,
        ) -> dict[str, Any]:
            fields["kind_state"] = f"{self._scope}#{target.kind}#{state}"
            if "loan_id" in fields:
                fields["loan_id"] = f"{self._scope}#{fields['loan_id']}"
            named = {f":{name}": value for name, value in fields.items()}
            named |= values or {}
            named |= {f":add_{name}": number for name, number in (add or {}).items()}
            named |= {f":append_{name}": [value] for name, value in (append or {}).items()}
            if append:
                named[":none"] = []
            expression, names = _expression(
                (*common, *fields), remove, tuple(add or ()), tuple(append or ()), condition
            )
            return {
                "TableName": self._table,
                "Key": {"pk": {"S": self._key(target.kind, target.reference)}},
                "UpdateExpression": expression,
                "ConditionExpression": condition,
                "ExpressionAttributeNames": names,
                "ExpressionAttributeValues": known | {name: typed(value) for name, value in named.items()},
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }

        return update

    def _mark(self, row: Row, known: str = "", warning: str = "", **marks: str) -> dict[str, Any]:
        """An Update that puts marks on what is ACCEPTED. Its own field `known` must be as it was read."""
        sets = [f"{name} = :{name}" for name in marks]
        values: dict[str, Any] = {f":{name}": value for name, value in marks.items()} | {":accepted": State.ACCEPTED}
        if warning:
            sets.append("warnings = list_append(if_not_exists(warnings, :none), :warnings)")
            values |= {":none": [], ":warnings": [warning]}
        condition = f"#state = :accepted AND {_NOT_NEWER}"
        values[":v"] = formats.VERSION
        if before := known and getattr(row, known):
            condition += f" AND {known} = :known"
            values[":known"] = before
        elif known:
            condition += f" AND attribute_not_exists({known})"
        return {
            "TableName": self._table,
            "Key": {"pk": {"S": self._key(row.kind, row.reference)}},
            "UpdateExpression": "SET " + ", ".join(sets),
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {"#state": "state"},
            "ExpressionAttributeValues": {name: typed(value) for name, value in values.items()},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _write(self, updates: Sequence[dict[str, Any]]) -> list[Row | None]:
        """Apply each update whose condition holds. Gives None for an applied one, else the row that is in the way."""
        return [block.row if block else None for block in self._write_bundles([[update] for update in updates])]

    def _write_bundles(self, bundles: Sequence[list[dict[str, Any]]]) -> list["_Block | None"]:
        """Apply each bundle of updates whole, if all its conditions hold. Gives what blocks each of the others."""
        transactions = list(_batched(bundles))
        if len(transactions) == 1:
            return self._write_some(transactions[0])
        # All of them end before anybody hears of an error: what is still under way cannot be read back.
        running = [self._threads.submit(self._write_some, some) for some in transactions]
        wait(running)
        return [block for each in running for block in each.result()]

    def _write_some(self, bundles: Sequence[list[dict[str, Any]]]) -> list["_Block | None"]:
        """As `_write_bundles`, in one transaction. All or nothing: what blocks is taken out, the others go again."""
        blocked: dict[int, _Block] = {}
        waiting = list(range(len(bundles)))
        conflicts = 0
        while waiting:
            reasons = self._transact([update for index in waiting for update in bundles[index]])
            if reasons is None:
                break
            left = iter(reasons)
            rest = []
            for index in waiting:
                of_bundle = list(islice(left, len(bundles[index])))
                if block := _block(bundles[index], of_bundle):
                    blocked[index] = block
                else:
                    rest.append(index)
            if len(rest) == len(waiting):  # another transaction touches the same rows, or DynamoDB is throttling
                conflicts += 1
                if conflicts == ATTEMPTS:
                    raise TimeoutError(f"DynamoDB cancels a transaction again and again: {reasons[0]['Code']}")
                self._sleep(BACKOFF_SECONDS * 2**conflicts)
            waiting = rest
        return [blocked.get(index) for index in range(len(bundles))]

    def _transact(self, updates: list[dict[str, Any]]) -> list[Any] | None:
        """None when all were applied, else why not, for each. botocore's idempotency token makes its retries safe."""
        client = self._client()
        try:
            client.transact_write_items(TransactItems=[{"Update": update} for update in updates])  # type: ignore[typeddict-item]
        except client.exceptions.TransactionCanceledException as error:
            return list(error.response["CancellationReasons"])
        return None


# --- updates that go together -----------------------------------------------------------------------------------------


class _Block(Struct, frozen=True):
    """What blocks a bundle: the number of the first action whose condition fails, and the item that is there."""

    action: int
    item: Mapping[str, Any]

    @property
    def row(self) -> Row:
        item = plain(self.item)
        return _NEWER if formats.is_newer(item.get("v")) else _row(item)


def _block(bundle: Sequence[dict[str, Any]], reasons: Sequence[Mapping[str, Any]]) -> _Block | None:
    for action, (update, reason) in enumerate(zip(bundle, reasons, strict=True)):
        if reason["Code"] == "ConditionalCheckFailed":
            return _Block(action, reason.get("Item") or _absent(update))
    return None


def _batched(bundles: Iterable[list[dict[str, Any]]]) -> Iterator[list[list[dict[str, Any]]]]:
    """As many bundles at a time as fit into a transaction."""
    some: list[list[dict[str, Any]]] = []
    size = 0
    for bundle in bundles:
        if size + len(bundle) > TRANSACTION_SIZE:
            yield some
            some, size = [], 0
        some.append(bundle)
        size += len(bundle)
    if some:
        yield some


def _unproved_outcome(outcome: Outcome) -> Outcome:
    """What an outcome is worth whose proof proves another call."""
    reason = "Kiva's answer names what another call has made already, so it proves nothing"
    return replace(outcome, state=State.UNKNOWN, reason=reason)


# --- items and rows -------------------------------------------------------------------------------------------------

_RESERVED = frozenset({"owner", "reference", "state"})
"""Names of ours that DynamoDB keeps for itself: its Developer Guide, "Reserved words"."""


@cache
def _expression(
    fields: tuple[str, ...], remove: tuple[str, ...], add: tuple[str, ...], append: tuple[str, ...], condition: str
) -> tuple[str, dict[str, str]]:
    """The update expression, and the names that it and the condition put a `#` before. The same for most rows."""
    sets = [f"#{name} = :{name}" if name in _RESERVED else f"{name} = :{name}" for name in fields]
    sets.append("created_at = if_not_exists(created_at, :updated_at)")
    sets += [f"{name} = list_append(if_not_exists({name}, :none), :append_{name})" for name in append]
    text = "SET " + ", ".join(sets)
    if remove:
        text += " REMOVE " + ", ".join(remove)
    if add:
        text += " ADD " + ", ".join(f"{name} :add_{name}" for name in add)
    return text, {f"#{name}": name for name in _RESERVED if f"#{name}" in text + condition}


def _number(seconds: float) -> int:
    """DynamoDB takes no floats; whole seconds, rounded up, are fine for leases."""
    return int(-(-seconds // 1))


def _time(seconds: float) -> str:
    """Epoch seconds as rows have it: UTC, ISO 8601, to be compared as text."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def _sent_at(row: Row) -> str:
    """When an UNKNOWN submission had been sent at the latest: it became UNKNOWN then, or before its claim ended."""
    return min(row.updated_at, _time(row.lease_until))


def _is_news(row: Row, lately: str) -> bool:
    return row.came_again_at <= row.replaced_at if row.replaced_by else row.updated_at > lately


def _identity(submission: Submission) -> dict[str, Any]:
    told = (name for name in _TOLD if getattr(submission, name))
    identity = {name: getattr(submission, name) for name in ("kind", "reference", "loan_id", "fingerprint", *told)}
    if submission.warnings:
        identity["warnings"] = [str(each) for each in submission.warnings]
    return identity


_TOLD = ("warnings", "period", "client_id", "amount")


def _not_told(submission: Submission) -> list[str]:
    """What a submission does not say, while the row may still know it of an earlier one under the same reference."""
    return [name for name in _TOLD if not getattr(submission, name)]


class _Index(Struct, frozen=True):
    """An index of the table: its name, its key, and the time that it goes by."""

    name: str
    key: str
    time: str


_BY_STATE = _Index("by_state", "kind_state", "updated_at")
_BY_LOAN = _Index("by_loan", "loan_id", "created_at")

_Cursor = tuple[str, str, str]
"""Where a page ended: the index's value, its time, and the key of the item."""


def _cursor(place: Sequence[str]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def _fits(key: str) -> bool:
    """Whether DynamoDB takes this as a key. An item with another one cannot exist."""
    try:
        return len(key.encode()) <= MAX_KEY_BYTES
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def _outcome_item(outcome: Outcome) -> dict[str, Any]:
    return {"state": outcome.state, **outcome.facts()}


def row_of(image: Mapping[str, Mapping[str, Any]]) -> Row:
    """The row of an item in DynamoDB's own form, as the table's stream shows it. What is no row raises anything.

    One that a newer version wrote raises NewerVersion.
    """
    return _row(plain(image))


def _rows(items: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Those that this version can read."""
    return [_row(item) for item in items if not formats.is_newer(item.get("v"))]


def _row(item: Mapping[str, Any]) -> Row:
    formats.refuse_newer(item.get("v"))
    outcome = None
    if stored := item.get("outcome"):
        status = stored.get("http_status")
        outcome = Outcome(
            state=State(stored["state"]),
            reason=stored.get("reason", ""),
            kiva=stored.get("kiva", {}),
            problems=tuple(stored.get("problems", ())),
            http_status=int(status) if status else None,
            call_id=stored.get("call_id", ""),
        )
    return Row(
        kind=Kind(item["kind"]),
        reference=item["reference"],
        loan_id=item["loan_id"].split("#", 2)[2],  # stored behind the scope, environment#partner#
        state=State(item["state"]),
        fingerprint=item["fingerprint"],
        updated_at=item["updated_at"],
        created_at=item["created_at"],
        attempts=int(item.get("attempts", 0)),
        owner=item.get("owner", ""),
        lease_until=float(item.get("lease_until", 0)),
        call_id=item.get("call_id", ""),
        outcome=outcome,
        payload=item.get("payload", ""),
        requeue=item.get("requeue", False),
        reopened=item.get("reopened", False),
        decisions=tuple(item.get("decisions", ())),
        spent=frozenset(item.get("spent", ())),
        warnings=tuple(item.get("warnings", ())),
        period=item.get("period", ""),
        client_id=item.get("client_id", ""),
        amount=item.get("amount", ""),
        sent_at=item.get("sent_at", ""),
        replaces=item.get("replaces", ""),
        replaced_by=item.get("replaced_by", ""),
        replaced_at=item.get("replaced_at", ""),
        came_again_at=item.get("came_again_at", ""),
    )


def _absent(update: Mapping[str, Any]) -> NoReturn:
    raise LookupError(f"the ledger has no row for {update['Key']['pk']['S']}")
