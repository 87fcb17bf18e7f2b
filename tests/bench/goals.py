"""What is measured, what the textbook is known to cost, and what kiva-relay must reach: one row of the table each.

The keys are what the modules that measure return, each from the function that __main__ calls with the stage:

* `cold.instructions` and `cold.measure`, `tokens.measure`, `warm.measure` and `scale.measure` give
  `dict[str, environment.Figure]`. What could not be measured is a Figure of None whose `detail["why"]` says why.
* `detail` of what was timed holds `ratio_min` and `ratio_median`: of the rounds in turn, how many times better ours was.
* `scale.measure` gives one more, SCALE: a Figure of None, in whose detail `ours` and `textbook` are lists of
  `{"records", "cpu_ms", "kiva_calls", "aws_calls", "wru", "rru": of one record, "wall_seconds", "memory_mb"}`.

What else they return is kept in the JSON.
"""

from dataclasses import dataclass

SCALE = "scale"


@dataclass(frozen=True)
class Goal:
    """One row. `known` is the textbook's value of the measurements that the goals were set by.

    A gate fails the benchmark; it counts, weighs or adds up instructions, which repeat to the last digit. What a clock
    says depends on the machine and on what else it does, so that is shown and fails nothing.
    """

    metric: str
    title: str
    unit: str = ""
    known: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    times: float | None = None
    """So many times better than the textbook, measured in turn: the median of the rounds."""
    gate: bool = False
    more_is_better: bool = False


def _count(metric: str, title: str, known: float | None, at_most: float | None, unit: str = "") -> Goal:
    return Goal(metric, title, unit, known, at_most, gate=at_most is not None)


GOALS: dict[str, tuple[Goal, ...]] = {
    "Token": (
        _count("token_requests_per_1000_cold_starts", "requests for 1,000 cold starts, 50 at a time", 1000, 1),
        _count("token_requests_in_a_day", "requests in a day of 100 workers", 200, 3),
        _count("token_waits_in_a_day", "workers that waited for one in that day", None, 0),
        _count("token_requests_after_401", "requests after a 401 for each of 200 workers", 200, 1),
    ),
    "Calls": (
        _count("kiva_calls_per_1000_repayments", "to Kiva for 1,000 repayments in one batch", 1000, 5),
        _count("connections_per_1000_repayments", "connections for them, 4 calls at a time", 1000, 4),
        _count("aws_calls_per_repayment_in_batches_of_100", "to AWS per repayment, batch of 100", 2, 0.06),
        _count("aws_calls_per_repayment_in_batches_of_1000", "to AWS per repayment, batch of 1,000", 2, 0.06),
        _count("aws_calls_per_journal_update_in_batches_of_100", "to AWS per journal update, batch of 100", 2, 0.06),
        _count("aws_calls_per_journal_update_in_batches_of_1000", "to AWS per journal update, batch of 1,000", 2, 0.06),
        _count("aws_calls_per_loan_draft_in_batches_of_100", "to AWS per draft, batch of 100", 2, 0.06),
        _count("aws_calls_per_loan_draft_in_batches_of_1000", "to AWS per draft, batch of 1,000", 2, 0.06),
    ),
    # Of these nobody set a goal; calls and write units are traded for each other, so both are shown.
    "DynamoDB": (
        _count("wru_per_repayment_in_batches_of_1000", "write units per repayment, batch of 1,000", 2, None),
        _count("wru_per_loan_draft_in_batches_of_100", "write units per draft, batch of 100", 2, None),
        _count("wru_per_journal_update_in_batches_of_100", "write units per journal update, batch of 100", 2, None),
    ),
    "Warm": (
        Goal("cpu_ms_per_repayment", "CPU per repayment, batch of 1,000", "ms", 4.7, at_most=0.16, times=30),
        Goal("cpu_ms_per_draft_in_batches_of_100", "CPU per draft of 2 KB, batch of 100", "ms", 3.8, 0.8, times=4),
        Goal("cpu_ms_per_draft_in_batches_of_10", "CPU per draft of 2 KB, batch of 10", "ms", 3.8),
        Goal(
            "drafts_per_second",
            "drafts/s, Kiva 200 ms, 10 at a time",
            known=4.6,
            at_least=42,
            more_is_better=True,
        ),
        Goal(
            "repayments_per_second_1_call",
            "repayments/s, Kiva 200 ms, 1 call at a time",
            known=4.6,
            at_least=750,
            more_is_better=True,
        ),
        Goal(
            "repayments_per_second_4_calls",
            "repayments/s, Kiva 200 ms, 4 calls at a time",
            known=4.6,
            at_least=2000,
            more_is_better=True,
        ),
        Goal("peak_memory_mb", "peak memory after 10 × 1,000 repayments", "MB", 86, at_most=60),
    ),
    "Cold": (
        _count(
            "cold_import_million_instructions",
            "instructions to import a queue handler and its clients",
            7398,
            1000,
            "M",
        ),
        _count("http_import_million_instructions", "instructions to import the API's handler", None, None, "M"),
        Goal("cold_to_first_submission_cpu_ms", "CPU until the first submission is recorded", "ms", 1391, times=4),
        Goal("pyc_coverage_percent", "modules that are built compiled", "%", 0, at_least=100, gate=True),
        _count("layer_mib_unzipped", "layer (textbook: function), unzipped", 35.9, 17, "MiB"),
        _count("layer_mib_zipped", "the same, zipped", 21.2, 6, "MiB"),
    ),
    "1e6 repayments": (
        Goal("cpu_growth_1e6_against_1e4", "CPU per repayment against 1e4", "×", at_most=1.2),
        Goal("memory_growth_mb_1e6_against_1e4", "memory more than after 1e4", "MB", at_most=5),
        Goal("seconds_for_1e6_repayments", "duration, Kiva and AWS at once", "s", at_most=150),
        Goal("usd_per_million_repayments", "Lambda, DynamoDB, SQS; Kiva 200 ms", "USD"),
    ),
}
