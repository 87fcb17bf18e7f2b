"""What was measured, held against the goals: the table, the verdict and the JSON."""

import os
import platform
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.environment import ROOT, Figure
from bench.goals import GOALS, Goal

Figures = Mapping[str, Figure]

PINS = {"kiva-relay": "layers/kiva_partner/requirements.txt", "textbook": "tests/bench/textbook/requirements.txt"}

LEGEND = (
    "✗ fails the benchmark: counts, sizes and instructions, which repeat. (✗) is a miss by the clock or by what the "
    "system calls memory, which fails nothing. Better: by which factor; of what was timed in turn, the median of the "
    "rounds and the least. (n): not measured here, but when the goals were set. How each was measured is in the JSON."
)


# --- verdict ----------------------------------------------------------------------------------------------------------


def met(goal: Goal, figure: Figure) -> bool | None:
    """Whether it reaches its goal; None if it has none, or was not measured."""
    if figure.ours is None:
        return None
    held = []
    if goal.at_most is not None:
        held.append(figure.ours <= goal.at_most)
    if goal.at_least is not None:
        held.append(figure.ours >= goal.at_least)
    if goal.times is not None:
        better = ratio(goal, figure)
        held.append(better is not None and better >= goal.times)
    return all(held) if held else None


def ratio(goal: Goal, figure: Figure) -> float | None:
    """How many times better ours is: the median of the rounds in turn, or of the one measurement."""
    if "ratio_median" in figure.detail:
        return float(figure.detail["ratio_median"])
    better, worse = figure.textbook, figure.ours
    if goal.more_is_better:
        better, worse = worse, better
    return better / worse if better and worse else None


def failures(figures: Figures) -> Iterator[str]:
    """One line for each gate that is missed, and for each metric that nothing returned a figure for."""
    for goal in _every():
        if goal.metric not in figures:
            yield f"{goal.metric}: nothing has measured it"
        elif goal.gate and met(goal, figures[goal.metric]) is False:
            figure = figures[goal.metric]
            better = f" ({_times(ratio(goal, figure) or 0)})" if goal.times else ""
            yield f"{goal.metric}: {_number(figure.ours, goal)}{better}, but the goal is {_wanted(goal)}"


def missed_by_the_clock(figures: Figures) -> list[str]:
    """The metrics that miss their goals and fail nothing."""
    measured = (goal for goal in _every() if goal.metric in figures)
    return [goal.metric for goal in measured if not goal.gate and met(goal, figures[goal.metric]) is False]


def unmeasured(figures: Figures) -> Iterator[str]:
    """One line for each row without a value of ours, and why it has none."""
    for goal in _every():
        figure = figures.get(goal.metric, Figure(None, None, {}))
        if figure.ours is None:
            why = figure.detail.get("why", "its measurement has not come to an end")
            yield f"{goal.metric}: {why.removeprefix('not measured: ')}"


def _every() -> Iterator[Goal]:
    for goals in GOALS.values():
        yield from goals


# --- table ------------------------------------------------------------------------------------------------------------


def show(figures: Figures, console: Console) -> None:
    """Print the table, what it means and what is missing from it."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("")
    for column in ("Textbook", "kiva-relay", "Better", "Goal"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for section, goals in GOALS.items():
        table.add_section()
        table.add_row(f"[bold]{section}[/]")
        for goal in goals:
            table.add_row(*_row(goal, figures.get(goal.metric, Figure(None, None, {}))))
    console.print(table, "")
    console.print(LEGEND)
    for line in unmeasured(figures):
        console.print(f"[bold red]NOT MEASURED[/]  {escape(line)}")


def _row(goal: Goal, figure: Figure) -> tuple[str, ...]:
    if figure.textbook is not None:
        textbook = _number(figure.textbook, goal)
    else:
        textbook = f"({_number(goal.known, goal)})" if goal.known is not None else "-"
    if figure.ours is None:
        return goal.title, textbook, "[bold red]NOT MEASURED[/]", "", _wanted(goal), "[bold red]?[/]"
    missed = "[bold red]✗[/]" if goal.gate else "[yellow](✗)[/]"
    mark = {True: "[green]✓[/]", False: missed, None: ""}[met(goal, figure)]
    return goal.title, textbook, f"[bold]{_number(figure.ours, goal)}[/]", _better(goal, figure), _wanted(goal), mark


def _number(value: float | None, goal: Goal) -> str:
    if value is None:
        return "-"
    if value == int(value) or value >= 1000:
        return f"{value:,.0f} {goal.unit}".strip()
    # What misses its goal must not look as if it were rounded to it.
    digits = next(count for count in (3, 4, 5, 17) if count == 17 or float(f"{value:.{count}g}") not in _bounds(goal))
    return f"{value:.{digits}g} {goal.unit}".strip()


def _bounds(goal: Goal) -> tuple[float | None, ...]:
    return goal.at_most, goal.at_least


def _better(goal: Goal, figure: Figure) -> str:
    median, least = ratio(goal, figure), figure.detail.get("ratio_min")
    if median is None:
        return "-"
    shown = f"{_times(median)} (min {_times(least)})" if least is not None else _times(median)
    return f"[yellow]{shown}[/]" if median < 1 else shown


def _times(value: float) -> str:
    return f"{value:,.0f}×" if value >= 10 else f"{value:.2g}×"


def _wanted(goal: Goal) -> str:
    bounds = (("≤", goal.at_most, ""), ("≥", goal.at_least, ""), ("≥", goal.times, "×"))
    return ", ".join(f"{sign} {bound:,g}{times}" for sign, bound, times in bounds if bound is not None) or "-"


# --- JSON -------------------------------------------------------------------------------------------------------------


def as_json(figures: Figures, seconds: float) -> dict[str, Any]:
    """Everything that was measured, where it can be compared with other machines' and tells nothing about this one."""
    goals = {goal.metric: goal for goal in _every()}
    shown = {name: _entry(goals[name], figures[name]) for name in goals if name in figures}
    also = {name: figure._asdict() for name, figure in figures.items() if name not in goals}
    found = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "seconds": round(seconds),
        "machine": {"cores": os.process_cpu_count(), "architecture": platform.machine(), "system": platform.system()},
        "python": platform.python_version(),
        "versions": {name: _pins(ROOT / file) for name, file in PINS.items()},
        "failures": list(failures(figures)),
        "metrics": shown,
        "also": also,
    }
    return _neutral(found)


def _entry(goal: Goal, figure: Figure) -> dict[str, Any]:
    bounds = {"at_most": goal.at_most, "at_least": goal.at_least, "times_better": goal.times}
    return {
        "title": goal.title,
        "unit": goal.unit,
        "textbook": figure.textbook,
        "kiva_relay": figure.ours,
        "better": ratio(goal, figure) if figure.ours is not None else None,
        "goal": {name: bound for name, bound in bounds.items() if bound is not None},
        "gate": goal.gate,
        "met": met(goal, figure),
        "detail": figure.detail,
    }


def _pins(requirements: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)(?:\[.*?\])?==([\w.]+)", requirements.read_text(), re.MULTILINE))


def _neutral(found: Any) -> Any:
    """Without absolute paths, and with no more digits than mean something."""
    match found:
        case Mapping():
            return {str(name): _neutral(value) for name, value in found.items()}
        case list() | tuple():
            return [_neutral(value) for value in found]
        case str():
            return re.sub(r"(?<![\w:/.])/(?:[^\s/'\":,]+/)+", "", found)
        case float():
            return float(f"{found:.6g}")
        case _:
            return found
