"""Both implementations side by side against the same two stubs: `make bench`.

What counts goes first and two at a time, for it does not care how busy the machine is. What is timed has it to itself.
Exit 0 when every gate holds, 1 with a line for each that does not.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from bench import cold, cost, plot, scale, tokens, warm
from bench.environment import Figure, Stage, stage
from bench.goals import SCALE
from bench.report import as_json, failures, missed_by_the_clock, show
from cli.show import fit_every_terminal
from local.stack import step

RESULTS = Path(__file__).with_name("results")
WIDE = 120

Measure = Callable[[Stage], Mapping[str, Figure]]

PHASES: tuple[tuple[str, Measure, Measure | None], ...] = (
    ("Tokens; beside it instructions of an import", tokens.measure, cold.instructions),
    ("Cold start and sizes", cold.measure, None),
    ("Warm: CPU, calls, throughput, memory", warm.measure, None),
    ("1e3 to 1e6 repayments", scale.measure, None),
)
"""What it is, and what runs at the same time."""


def measure(problems: list[str]) -> dict[str, Figure]:
    """Run all phases. One that breaks off leaves its rows empty and a line in `problems`."""
    figures: dict[str, Figure] = {}
    # Two stages, so that what runs at the same time does not count each other's calls.
    with stage() as first, stage() as second, ThreadPoolExecutor() as pool:
        for what, part, beside in PHASES:
            with step(what, sys.stderr):
                other = pool.submit(beside, second) if beside else None
                for found in (lambda part=part: part(first), other and other.result):
                    try:
                        figures |= found() if found else {}
                    except Exception as problem:  # noqa: BLE001 whatever it is, the other phases have their say
                        problems.append(f"{what}: {problem!r}")
    return figures


def _keep(figures: Mapping[str, Figure], seconds: float) -> None:
    """Write this run's own, and `latest`."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(as_json(figures, seconds), indent=1, ensure_ascii=False) + "\n"
    for name in (f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}", "latest"):
        (RESULTS / f"{name}.json").write_text(text)
    if SCALE in figures:
        plot.draw(figures[SCALE].detail["ours"], figures[SCALE].detail["textbook"], RESULTS / "latest.png")


def main() -> int:
    """Measure, show, keep; 0 when all gates hold."""
    fit_every_terminal()
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    started = time.monotonic()
    problems: list[str] = []
    try:
        figures = measure(problems)
    except FileNotFoundError as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; everything was stopped.", file=sys.stderr)
        return 130
    with step("What it costs", sys.stderr):
        try:
            figures |= cost.figures(figures[SCALE].detail if SCALE in figures else {})
        except Exception as problem:  # noqa: BLE001 what was measured is shown all the same
            problems.append(f"What it costs: {problem!r}")
    seconds = time.monotonic() - started
    _keep(figures, seconds)
    console.print()
    show(figures, console)
    console.print(f"\nIn {seconds:.0f} s. Written to tests/bench/results: latest.json, latest.png")
    if problems := [*problems, *failures(figures)]:
        print("\nNot as it should be:", *problems, sep="\n  ")
        return 1
    short = missed_by_the_clock(figures)
    print("\nEvery gate holds.", *(["Short of its goal by the clock:", ", ".join(short)] if short else []))
    return 0


if __name__ == "__main__":
    sys.exit(main())
