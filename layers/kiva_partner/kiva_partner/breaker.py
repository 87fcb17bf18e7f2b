"""The circuit breaker towards Kiva: an outage must not fill people's desks with outcomes that nobody can tell.

After three doubtful answers in a row nothing of that kind is sent for a while, by any execution environment. Then one
of them tries: first with a read, which can do no harm, then with a single submission. Calls are counted, not rows. The
state is part of one item of the ledger table (sending.py), for environments know nothing of each other.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from copy import replace
from itertools import groupby

from .errors import NotSent
from .messages import Kind
from .sending import LONGEST_PAUSE, RECENT_SECONDS, Circuit, Sending

THRESHOLD = 3
FIRST_PAUSE = 60
ATTEMPTS = 10

_log = logging.getLogger(__name__)


Circuits = Mapping[Kind, Circuit]


class Breaker:
    """For each kind closed, or open, or (its pause over) on trial by one environment and open for the others."""

    def __init__(
        self,
        sending: Sending,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sending = sending
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
        item = self._sending.read(within=RECENT_SECONDS)
        circuit, now = item.circuits[kind], self._clock()
        self._doubted = circuit.doubts > 0
        if circuit.open_until is None:
            return False
        if circuit.open_until > now:
            raise NotSent("nothing is sent while Kiva leaves doubts", retry_after=circuit.open_until - now)
        trial = replace(circuit, open_until=now + trial_seconds)
        if not self._sending.write_circuits({**item.circuits, kind: trial}, item.version):
            raise NotSent("another function is trying whether Kiva is back", retry_after=FIRST_PAUSE)
        if kiva_answers():
            return True
        open_until = self._change(kind, lambda circuits: _opened(circuits[kind], now)).open_until or now
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

    def _change(self, kind: Kind, change: Callable[[Circuits], Circuit]) -> Circuit:
        for attempt in range(ATTEMPTS):
            item = self._sending.read()
            circuit = change(item.circuits)
            if circuit == item.circuits[kind] or self._sending.write_circuits(
                {**item.circuits, kind: circuit}, item.version
            ):
                return circuit
            self._sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311 jitter is no secret
        raise TimeoutError("too many functions change the breaker at once")


def _opened(circuit: Circuit, now: float) -> Circuit:
    """Open, each time twice as long as the time before."""
    seconds = min(FIRST_PAUSE * 2**circuit.openings, LONGEST_PAUSE)
    return Circuit(circuit.doubts, circuit.openings + 1, now + seconds)


def _after(kind: Kind, circuits: Circuits, answers: Sequence[bool], now: float, *, trial: bool) -> Circuit:
    circuit = circuits[kind]
    doubts = _doubts_in_a_row(answers)
    if trial:
        if not answers:  # nothing was sent after all, or nothing got through: somebody else may try
            return replace(circuit, open_until=now + FIRST_PAUSE)
        return _opened(circuit, now) if doubts else Circuit()
    if circuit.open_until is not None:  # calls that were under way when it opened change nothing
        return circuit
    if not any(answers):
        doubts += circuit.doubts
    # While another kind is in doubt, the first doubt of this one is no coincidence.
    others_are_open = any(other.open_until for other in circuits.values())
    counted = Circuit(doubts)
    return _opened(counted, now) if doubts >= THRESHOLD or (doubts and others_are_open) else counted


def _doubts_in_a_row(answers: Sequence[bool]) -> int:
    """The longest run of doubts if it is long enough to open, else the one at the end."""
    runs = [0 if good else len(list(run)) for good, run in groupby(answers)]
    longest = max(runs, default=0)
    return longest if longest >= THRESHOLD else (runs or [0])[-1]
