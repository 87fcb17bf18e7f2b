"""Many bodies, each through both ways in. As a program (`make fuzz`) with a table, and how to see a failure again.

`FUZZ_SEED` names the run (else it is a new one), `FUZZ_BODIES` how many, `FUZZ_ONLY` one body of it by its number.
"""

import os
import resource
import secrets
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from hostile.batch import Batches
from hostile.mutator import Mutator
from hostile.oracle import Oracle

BODIES = 60_000
VALID, REFUSED = True, False


@dataclass
class Run:
    """What became of the bodies."""

    seed: int
    bodies: int = 0
    parsed: Counter = field(default_factory=Counter)
    """By kind and whether it was accepted."""
    answers: Counter = field(default_factory=Counter)
    batches: int = 0
    slowest: tuple[float, int] = (0.0, 0)
    failure: str = ""


def run(seed, numbers):
    """Every body by the queue, two of three also by the API, one of ten between neighbours in a batch.

    Ends with the first that is dealt with wrongly.
    """
    with Batches() as batches:
        return _run(seed, numbers, batches)


def _run(seed, numbers, batches):
    mutator, oracle, result = Mutator(seed), Oracle(), Run(seed)
    for number in numbers:
        kind, body = mutator.body(number)
        result.bodies += 1
        started = time.process_time()
        try:
            accepted = oracle.by_queue(kind, body)
            result.parsed[kind, accepted] += 1
            if number % 3:
                result.answers[_by_api(oracle, number, kind, body)] += 1
            if number % 10 == 0:
                result.batches += batches.deliver(kind, body)
        except Exception as error:  # noqa: BLE001 this is what it is all about
            small = _shrunk(oracle, batches, number, kind, body, error)
            result.failure = (
                f"{kind} number {number}: {type(error).__name__}: {str(error)[:300]}\n"
                f"body, shrunk from {len(body)} bytes: {small[:2000]!r}\n"
                f"again with: FUZZ_SEED={seed} FUZZ_ONLY={number} make fuzz"
            )
            break
        result.slowest = max(result.slowest, (time.process_time() - started, number))
    return result


def _by_api(oracle, number, kind, body):
    return oracle.by_api(kind, body, in_base64=number % 3 == 1)


def _shrunk(oracle, batches, number, kind, body, error):
    """The body without all that can go while it still fails alike."""

    def fails(candidate):
        try:
            oracle.by_queue(kind, candidate)
            _by_api(oracle, number, kind, candidate)
            batches.deliver(kind, candidate)
        except Exception as other:  # noqa: BLE001
            return (type(other), str(other)[:60]) == (type(error), str(error)[:60])
        return False

    size, tries = len(body) // 2, 0
    while size and tries < 400:
        at = 0
        while at < len(body) and tries < 400:
            tries += 1
            candidate = body[:at] + body[at + size :]
            if fails(candidate):
                body = candidate
            else:
                at += size
        size //= 2
    return body


def main():
    seed = int(os.environ.get("FUZZ_SEED") or secrets.randbelow(10**9))
    only, bodies = os.environ.get("FUZZ_ONLY"), int(os.environ.get("FUZZ_BODIES") or BODIES)
    before = _peak()
    result = run(seed, [int(only)] if only else range(bodies))
    kinds = sorted({kind for kind, _ in result.parsed})
    rows = [
        ("bodies", f"{result.bodies:,}"),
        *(
            (f"  {kind}", f"{result.parsed[kind, VALID]:,} valid, {result.parsed[kind, REFUSED]:,} refused")
            for kind in kinds
        ),
        *((f"  answered {status}", f"{result.answers[status]:,}") for status in sorted(result.answers)),
        ("  between neighbours", f"{result.batches:,}"),
        ("slowest", f"{result.slowest[0] * 1000:.0f} ms of CPU (number {result.slowest[1]})"),
        ("peak memory", f"{_peak()} MiB, {_peak() - before} MiB more than before"),
        ("unhandled", "1" if result.failure else "0"),
        ("seed", seed),
    ]
    sys.stdout.writelines(f"{name:<24}{value}\n" for name, value in rows)
    if result.failure:
        sys.exit(result.failure)


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
