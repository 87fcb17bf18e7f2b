"""Whether the millionth repayment costs what the thousandth did: CPU, calls, memory and time.

By two environments, which is what template.yaml lets work on the queue at a time; each sees every other batch of 1,000,
so it is its 500,000th. The stubs answer at once. DynamoDB's forgets its rows every 100,000 repayments: it keeps them in
memory, and that is not what is measured. Kiva's forgets nothing, so that no duplicate escapes it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

from bench.environment import Artefact, Figure, Run, Stage, alone, invoke_all
from bench.goals import SCALE

ENVIRONMENTS = 2
BATCH = 1000
FORGET = 100_000
POINTS = (1_000, 10_000, 100_000, 1_000_000)
MB = 1_000_000


def measure(on: Stage) -> dict[str, Figure]:
    """What grows with the number of repayments, and the costs of one at every point."""
    on.latency(kiva=0, aws=0)
    with _environments(on, on.textbook) as submit:
        textbook = [_point(submit(POINTS[0]))]
    with _environments(on, on.ours) as submit:
        runs = list(_up_to_the_points(on, submit))
    with _environments(on, on.ours) as submit:
        again = submit(POINTS[1])
    few, many = runs[1], runs[-1]
    how = f"{ENVIRONMENTS} environments, batches of 1,000, Kiva and AWS answer at once"
    growths = [many.cpu_ms / each.cpu_ms for each in (few, again)]
    return {
        "cpu_growth_1e6_against_1e4": Figure(
            sum(growths) / 2, None, {"how": f"{how}; against 1e4 before and after", "growths": growths}
        ),
        "memory_growth_mb_1e6_against_1e4": Figure((many.peak - few.peak) / MB, None, {"how": f"VmHWM; {how}"}),
        "seconds_for_1e6_repayments": Figure(many.wall, None, {"how": f"in the handler; {how}"}),
        SCALE: Figure(None, None, {"how": how, "ours": [_point(run) for run in runs], "textbook": textbook}),
    }


@contextmanager
def _environments(on: Stage, artefact: Artefact) -> Iterator[Callable[[int], Run]]:
    """Environments that have worked before, and how to have them submit so many repayments."""
    with ExitStack() as opened:
        workers = [opened.enter_context(on.worker(artefact, "repayment")) for _ in range(ENVIRONMENTS)]
        invoke_all(on, workers, 1, 100)

        def submit(repayments: int) -> Run:
            each = repayments // ENVIRONMENTS
            return invoke_all(on, workers, max(1, each // BATCH), min(each, BATCH))

        yield submit


def _up_to_the_points(on: Stage, submit: Callable[[int], Run]) -> Iterator[Run]:
    """What everything took so far at each of the points; the first, half a batch for each, does not count further."""
    yield submit(POINTS[0])
    so_far = None
    for done, point in pairwise((0, *POINTS[1:])):
        for start in range(done, point, FORGET):
            on.aws.reset()
            run = submit(min(start + FORGET, point) - start)
            so_far = _together(so_far, run) if so_far else run
        yield so_far


def _together(before: Run, run: Run) -> Run:
    return Run(
        submissions=before.submissions + run.submissions,
        cpu=before.cpu + run.cpu,
        wall=before.wall + run.wall,
        peak=run.peak,
        memory=run.memory,
        kiva=Counter(before.kiva) + Counter(run.kiva),
        aws=Counter(before.aws) + Counter(run.aws),
    )


def _point(run: Run) -> dict[str, Any]:
    """Costs are of one record, time and memory of all."""
    asked = {
        "kiva_calls": run.kiva["repayments"],
        "aws_calls": run.aws["calls"],
        "wru": run.write_units,
        "rru": run.aws["rru"],
    }
    return {
        "records": run.submissions,
        "cpu_ms": run.cpu_ms,
        **{name: number / run.submissions for name, number in asked.items()},
        "wall_seconds": run.wall,
        "memory_mb": run.peak / MB,
    }


if __name__ == "__main__":
    alone(measure)
