import json
from pathlib import Path

import pytest
from rich.console import Console

from bench.environment import Figure
from bench.goals import GOALS, SCALE
from bench.plot import draw
from bench.report import as_json, failures, missed_by_the_clock, show

ROOT = Path(__file__).parents[2]
EVERY = [goal for goals in GOALS.values() for goal in goals]


def as_wanted(goal):
    """Exactly on its goal; twice as good as the textbook where there is none."""
    ours = goal.at_most if goal.at_most is not None else goal.at_least or 50
    return Figure(ours, 100, {"how": "made up", "ratio_median": goal.times or 2, "ratio_min": 1})


FIGURES = {goal.metric: as_wanted(goal) for goal in EVERY}


def table(figures):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    show(figures, console)
    return console.export_text()


def row(figures, title):
    return next(line for line in table(figures).splitlines() if line.startswith(title))


def test_what_is_exactly_on_its_goal_passes():
    assert list(failures(FIGURES)) == []
    assert "✗" not in row(FIGURES, "to Kiva for 1,000 repayments")


@pytest.mark.parametrize("goal", [goal for goal in EVERY if goal.gate], ids=lambda goal: goal.metric)
def test_a_count_that_misses_its_goal_fails_and_is_named(goal):
    missed = goal.at_most * 1.01 + 0.001 if goal.at_most is not None else (goal.at_least or 50) * 0.999
    figures = {**FIGURES, goal.metric: Figure(missed, missed * (goal.times or 9) * 0.99, {})}

    (failure,) = failures(figures)

    assert goal.metric in failure
    assert " ✗ " in row(figures, goal.title).ljust(121)


def test_what_a_clock_says_is_shown_and_fails_nothing():
    figures = {**FIGURES, "cpu_ms_per_repayment": Figure(0.161, 4.7, {"ratio_median": 29.2, "ratio_min": 20})}

    assert list(failures(figures)) == []
    assert missed_by_the_clock(figures) == ["cpu_ms_per_repayment"]
    assert "29× (min 20×)" in row(figures, "CPU per repayment, batch")
    assert "(✗)" in row(figures, "CPU per repayment, batch")


def test_enough_by_itself_is_not_enough_when_the_textbook_is_nearly_as_good():
    figures = {**FIGURES, "cpu_ms_per_repayment": Figure(0.16, 0.3, {})}

    assert "(✗)" in row(figures, "CPU per repayment, batch")


def test_a_miss_never_looks_like_a_hit_by_rounding():
    figures = {**FIGURES, "pyc_coverage_percent": Figure(99.97, 0, {})}

    assert "99.97 %" in row(figures, "modules that come compiled")


def test_what_could_not_be_measured_is_shown_loudly_and_fails_nothing():
    figures = {**FIGURES, "cold_import_million_instructions": Figure(None, None, {"why": "valgrind is not installed"})}

    assert list(failures(figures)) == []
    assert "NOT MEASURED" in row(figures, "instructions: import a queue")
    assert "(7,398 M)" in row(figures, "instructions: import a queue")
    assert "NOT MEASURED  cold_import_million_instructions: valgrind is not installed" in table(figures)


def test_what_nothing_measures_any_more_fails():
    figures = {name: figure for name, figure in FIGURES.items() if name != "token_requests_after_401"}

    assert list(failures(figures)) == ["token_requests_after_401: nothing has measured it"]
    assert "NOT MEASURED" in table(figures)


def test_no_line_of_the_table_is_wider_than_the_screen_or_broken():
    lines = table(FIGURES).splitlines()

    assert all(len(line) <= 120 for line in lines)
    assert all(any(line.startswith(goal.title) for line in lines) for goal in EVERY)


def test_the_json_holds_every_row_and_nothing_of_this_machine():
    said = {"why": "there is no /home/somebody/kiva-relay/.aws-sam/build: https://localhost:8443/v3/x was asked"}
    figures = {**FIGURES, "more": Figure(0.1 + 0.2, None, said)}

    found = json.loads(json.dumps(as_json(figures, 199.7)))

    assert found["metrics"].keys() == FIGURES.keys()
    assert found["metrics"]["cpu_ms_per_repayment"]["goal"] == {"at_most": 0.16, "times_better": 30}
    assert found["also"]["more"]["ours"] == 0.3
    assert found["also"]["more"]["detail"]["why"] == "there is no build: https://localhost:8443/v3/x was asked"
    assert found["seconds"] == 200
    assert "boto3" in found["versions"]["kiva-relay"]


def test_metrics_are_named_once_and_a_gate_has_a_goal():
    assert len({goal.metric for goal in EVERY}) == len(EVERY)
    assert SCALE not in FIGURES
    assert all(goal.at_most is not None or goal.at_least or goal.times for goal in EVERY if goal.gate)


def test_the_picture_is_drawn(tmp_path):
    point = {"records": 1000, "cpu_ms": 0.15, "kiva_calls": 0.005, "aws_calls": 0.02, "wru": 4.0, "rru": 0.0}
    point |= {"wall_seconds": 0.2, "memory_mb": 50}

    draw([point, {**point, "records": 10_000, "wall_seconds": 2}], [point], tmp_path / "plot.png")

    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


IN_THE_README = {
    "calls to Kiva for 1,000 repayments": "kiva_calls_per_1000_repayments",
    "calls to AWS for a repayment, batch of 1,000": "aws_calls_per_repayment_in_batches_of_1000",
    "calls to AWS for a draft, batch of 100": "aws_calls_per_loan_draft_in_batches_of_100",
    "token requests for 1,000 cold starts": "token_requests_per_1000_cold_starts",
    "CPU ms for a repayment": "cpu_ms_per_repayment",
    "CPU ms for a draft of 2 KB": "cpu_ms_per_draft_in_batches_of_100",
    "CPU ms of a cold start to the first submission": "cold_to_first_submission_cpu_ms",
    "repayments a second, Kiva at 200 ms, one environment": "repayments_per_second_4_calls",
    "drafts a second, the same": "drafts_per_second",
    "USD for a million repayments, by AWS's list prices": "usd_per_million_repayments",
    "the same with events, logs, 400 days of storage and backups": "usd_per_million_repayments_with_all",
    "USD for a month in which nothing is submitted": "usd_a_month_at_rest",
}


@pytest.mark.parametrize(("title", "metric"), IN_THE_README.items())
def test_the_readme_shows_the_figures_of_the_run_that_is_kept(title, metric):
    kept = json.loads((ROOT / "tests" / "bench" / "results" / "kept.json").read_text())["metrics"][metric]
    textbook, ours = (
        "-" if kept[whose] is None else f"{float(f'{kept[whose]:.3g}'):,}".removesuffix(".0")
        for whose in ("textbook", "kiva_relay")
    )
    assert f"| {title} | {textbook} | {ours} |\n" in (ROOT / "README.md").read_text()
