"""Whether the millionth repayment costs what the thousandth did: CPU, calls, memory and time of one environment.

Batches of 1,000 against stubs that answer at once. The stub of DynamoDB forgets its rows every 100,000 repayments: it
keeps them in memory, and that is not what is measured. Kiva's forgets nothing, so that no duplicate escapes it.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from bench.environment import Figure, Run, Stage, Worker, alone
from bench.goals import SCALE

BATCH = 1000
FORGET = 100_000
POINTS = (1_000, 10_000, 100_000, 1_000_000)
MB = 1_000_000


def measure(on: Stage) -> dict[str, Figure]:
    """What grows with the number of repayments, and the costs of one at every point."""
    on.latency(kiva=0, aws=0)
    with on.worker(on.textbook, "repayment") as worker:
        worker.invoke(1, 10)
        textbook = [_point(worker.invoke(1, POINTS[0]))]
    with on.worker(on.ours, "repayment") as worker:
        worker.invoke(1, BATCH)
        runs = list(_up_to_the_points(on, worker))
    with on.worker(on.ours, "repayment") as worker:
        worker.invoke(1, BATCH)
        again = worker.invoke(10, BATCH)
    ours = [_point(run) for run in runs]
    few, many = runs[1], runs[-1]
    how = "batches of 1,000, one environment, Kiva and AWS answer at once"
    rounds = [many.cpu_ms / each.cpu_ms for each in (few, again)]
    return {
        "cpu_growth_1e6_against_1e4": Figure(
            sum(rounds) / 2, None, {"how": f"{how}; against 1e4 before and after", "rounds": rounds}
        ),
        "memory_growth_mb_1e6_against_1e4": Figure((many.peak - few.peak) / MB, None, {"how": f"VmHWM; {how}"}),
        "seconds_for_1e6_repayments": Figure(many.wall, None, {"how": f"in the handler; {how}"}),
        SCALE: Figure(None, None, {"how": how, "ours": ours, "textbook": textbook}),
    }


def _up_to_the_points(on: Stage, worker: Worker) -> Iterator[Run]:
    """What everything took so far, at each of the points."""
    so_far = None
    for done, point in pairwise((0, *POINTS)):
        for start in range(done, point, FORGET):
            on.aws.reset()
            run = worker.invoke((min(start + FORGET, point) - start) // BATCH, BATCH)
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
        "wru": (run.aws["wru"] + run.aws["index_wru"]) / run.submissions,
        "rru": run.aws["rru"] / run.submissions,
        "wall_seconds": run.wall,
        "memory_mb": run.peak / MB,
    }


if __name__ == "__main__":
    alone(measure)
