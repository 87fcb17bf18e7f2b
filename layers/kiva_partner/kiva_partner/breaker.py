"""The circuit breaker towards Kiva: an outage must not fill people's desks with outcomes that nobody can tell.

After three doubtful answers in a row nothing of that kind is sent for a while, by any execution environment. Then one
of them tries: first with a read, which can do no harm, then with a single submission. Calls are counted, not rows. The
state is one row of the ledger table, for environments know nothing of each other.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

from .errors import NotSent
from .messages import Kind

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

THRESHOLD = 3
FIRST_PAUSE = 60
LONGEST_PAUSE = 3600
ATTEMPTS = 10

_log = logging.getLogger(__name__)


class Circuit(msgspec.Struct, frozen=True):
    """How it stands with one kind: doubts in a row, pauses so far, and until when (epoch seconds) while it is open."""

    doubts: int = 0
    pauses: int = 0
    open_until: float | None = None

    def paused(self, now: float) -> "Circuit":
        """Open, each time twice as long as the time before."""
        seconds = min(FIRST_PAUSE * 2**self.pauses, LONGEST_PAUSE)
        return Circuit(self.doubts, self.pauses + 1, now + seconds)


Circuits = Mapping[Kind, Circuit]


class Breaker:
    """For each kind closed, or open, or (its pause over) on trial by one environment and open for the others."""

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
        self._key = f"{scope}#breaker"
        self._clock = clock
        self._sleep = sleep
        self._doubted = False

    def enter(self, kind: Kind, trial_seconds: float, kiva_answers: Callable[[], bool]) -> bool:
        """Ask before sending. False when closed; True on trial, which is for one submission. Both end with `note`.

        Args:
            kind: What is to be sent.
            trial_seconds: How long a trial may last before somebody else may have the next one.
            kiva_answers: The harmless read.

        Raises:
            NotSent: it is open, with the seconds to wait.
        """
        circuits, version = self._read()
        circuit, now = circuits[kind], self._clock()
        self._doubted = circuit.doubts > 0
        if circuit.open_until is None:
            return False
        if circuit.open_until > now:
            raise NotSent("nothing is sent while Kiva leaves doubts", retry_after=circuit.open_until - now)
        trial = msgspec.structs.replace(circuit, open_until=now + trial_seconds)
        if not self._write({**circuits, kind: trial}, version):
            raise NotSent("another function is trying whether Kiva is back", retry_after=FIRST_PAUSE)
        if kiva_answers():
            return True
        open_until = self._change(kind, lambda circuits: circuits[kind].paused(now)).open_until or now
        raise NotSent("Kiva does not answer yet", retry_after=open_until - now)

    def note(self, kind: Kind, answers: Sequence[bool], *, trial: bool) -> bool:
        """Learn from calls, in their order: True for an answer, False for a doubt. True when it is open from now on."""
        if all(answers) and not trial and not self._doubted:
            return False
        now = self._clock()
        self._doubted = not all(answers)
        circuit = self._change(kind, lambda circuits: _after(kind, circuits, answers, now, trial=trial))
        if circuit.open_until and self._doubted:
            _log.warning("Kiva leaves doubts: %s submissions wait for %.0f s", kind, circuit.open_until - now)
        return circuit.open_until is not None

    def open_kinds(self) -> dict[Kind, float]:
        """The kinds that are not sent at the moment, or wait for a trial, and until when (epoch seconds).

        Not for ever: what waits comes again within the hour, so where nobody has tried by then nothing is to be sent.
        """
        circuits, _ = self._read()
        now = self._clock()
        open_until = {kind: it.open_until for kind, it in circuits.items() if it.open_until}
        return {kind: until for kind, until in open_until.items() if until + LONGEST_PAUSE > now}

    def _change(self, kind: Kind, change: Callable[[Circuits], Circuit]) -> Circuit:
        for attempt in range(ATTEMPTS):
            circuits, version = self._read()
            circuit = change(circuits)
            if circuit == circuits[kind] or self._write({**circuits, kind: circuit}, version):
                return circuit
            self._sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311 jitter is no secret
        raise TimeoutError("too many functions change the breaker at once")

    def _read(self) -> tuple[Circuits, str]:
        answer = self._client().get_item(TableName=self._table, Key={"pk": {"S": self._key}}, ConsistentRead=True)
        item = answer.get("Item")
        known = msgspec.json.decode(item["circuits"]["S"], type=dict[Kind, Circuit]) if item else {}
        return {kind: known.get(kind, Circuit()) for kind in Kind}, item["version"]["N"] if item else "0"

    def _write(self, circuits: Circuits, version: str) -> bool:
        """Replace the row if it is still the one that was read."""
        client = self._client()
        try:
            client.put_item(
                TableName=self._table,
                Item={
                    "pk": {"S": self._key},
                    "version": {"N": str(int(version) + 1)},
                    "circuits": {"S": msgspec.json.encode(circuits).decode()},
                },
                ConditionExpression="attribute_not_exists(pk) OR version = :read",
                ExpressionAttributeValues={":read": {"N": version}},
            )
        except client.exceptions.ConditionalCheckFailedException:
            return False
        return True


def _after(kind: Kind, circuits: Circuits, answers: Sequence[bool], now: float, *, trial: bool) -> Circuit:
    circuit = circuits[kind]
    doubts = _doubts_in_a_row(answers)
    if trial:
        if not answers:  # nothing was sent after all, or nothing got through: somebody else may try
            return msgspec.structs.replace(circuit, open_until=now + FIRST_PAUSE)
        return circuit.paused(now) if doubts else Circuit()
    if circuit.open_until is not None:  # calls that were under way when it opened change nothing
        return circuit
    if not any(answers):
        doubts += circuit.doubts
    # While another kind is in doubt, the first doubt of this one is no coincidence.
    others_are_open = any(other.open_until for other in circuits.values())
    counted = Circuit(doubts)
    return counted.paused(now) if doubts >= THRESHOLD or (doubts and others_are_open) else counted


def _doubts_in_a_row(answers: Sequence[bool]) -> int:
    """The longest run of doubts if it is long enough to open, else the one at the end."""
    runs = [0 if good else len(list(run)) for good, run in groupby(answers)]
    longest = max(runs, default=0)
    return longest if longest >= THRESHOLD else (runs or [0])[-1]
