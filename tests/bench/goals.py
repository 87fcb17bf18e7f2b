"""What is measured, what the textbook is known to cost, and what kiva-relay must reach: one row of the table each.

The keys are what the modules that measure return, each from the function that __main__ calls with the stage:

* `cold.instructions` and `cold.measure`, `tokens.measure`, `warm.measure`, `scale.measure` and `cost.figures` give
  `dict[str, environment.Figure]`. What could not be measured is a Figure of None whose `detail["why"]` says why.
* `detail` of what was timed holds `ratio_min` and `ratio_median`: how many times better ours was in the rounds in turn.
* `scale.measure` gives one more, SCALE: a Figure of None, in whose detail `ours` and `textbook` are lists of
  `{"records", "cpu_ms", "kiva_calls", "aws_calls", "wru", "rru": of one record, "wall_seconds", "memory_mb"}`;
  write units are the table's and its indexes'.

What else they return is kept in the JSON.
"""

from dataclasses import dataclass

SCALE = "scale"


@dataclass(frozen=True)
class Goal:
    """One row.

    A gate fails the benchmark; it counts, weighs or adds up instructions, which repeat to the last digit. What a clock
    says depends on the machine and on what else it does, so that is shown and fails nothing.
    """

    metric: str
    title: str
    unit: str = ""
    known: float | None = None
    """The textbook's, from the measurements that the goals were set by."""
    at_most: float | None = None
    at_least: float | None = None
    times: float | None = None
    """So many times better than the textbook, measured in turn: the median of the rounds."""
    gate: bool = False

    @property
    def more_is_better(self) -> bool:
        """Rates and shares; of everything else less is better."""
        return self.unit in ("/s", "%")


def _gate(metric: str, title: str, known: float | None, at_most: float, unit: str = "") -> Goal:
    return Goal(metric, title, unit, known, at_most, gate=True)


def _aws_calls(kind: str, noun: str) -> tuple[Goal, ...]:
    return tuple(
        _gate(f"aws_calls_per_{kind}_in_batches_of_{size}", f"to AWS per {noun}, batch of {size:,}", 2, 0.06)
        for size in (100, 1000)
    )


def _wru(kind: str, noun: str) -> Goal:
    return Goal(f"wru_per_{kind}_in_batches_of_100", f"write units per {noun}, batch of 100", "WRU", 2)


GOALS: dict[str, tuple[Goal, ...]] = {
    "Tokens": (
        _gate("token_requests_per_1000_cold_starts", "requests for 1,000 cold starts, 50 at a time", 1000, 1),
        _gate("token_requests_in_a_day", "requests in a day of 100 workers", 200, 3),
        _gate("token_waits_in_a_day", "workers that had to wait in that day", None, 0),
        _gate("token_requests_after_401", "requests after a 401 for each of 200 workers", 200, 1),
    ),
    "Calls": (
        _gate("kiva_calls_per_1000_repayments", "to Kiva for 1,000 repayments in one batch", 1000, 5),
        _gate("connections_per_1000_repayments", "connections for them, 4 calls at once", 1000, 4),
        *_aws_calls("repayment", "repayment"),
        *_aws_calls("journal_update", "journal update"),
        *_aws_calls("loan_draft", "draft"),
        # Calls are traded for write units: an item in a transaction costs two. Nobody set a goal, both are shown.
        _wru("repayment", "repayment"),
        _wru("journal_update", "journal update"),
        _wru("loan_draft", "draft"),
    ),
    "Warm": (
        Goal("cpu_ms_per_repayment", "CPU per repayment, batch of 1,000", "ms", 4.7, at_most=0.16, times=30),
        Goal("cpu_ms_per_draft_in_batches_of_100", "CPU per draft of 2 KB, call by call", "ms", 3.8, 0.8, times=4),
        Goal("cpu_ms_per_draft_in_batches_of_50", "the same, 10 calls at once, batch of 50", "ms", 3.8),
        Goal("cpu_ms_per_draft_in_batches_of_10", "the same, batch of 10", "ms", 3.8),
        Goal("drafts_per_second", "drafts, Kiva at 200 ms, 10 calls, batch of 50", "/s", 4.6, at_least=42),
        Goal("drafts_per_second_in_batches_of_10", "the same, batch of 10", "/s", 4.6),
        Goal(
            "repayments_per_second_1_call",
            "repayments, Kiva at 200 ms, call by call",
            "/s",
            4.6,
            at_least=750,
        ),
        Goal("repayments_per_second_4_calls", "repayments, Kiva at 200 ms, 4 calls at once", "/s", 4.6, at_least=2000),
        Goal("peak_memory_mb", "peak memory after 10 x 1,000 repayments", "MB", 86, at_most=60),
    ),
    "Cold": (
        _gate("cold_import_million_instructions", "instructions: import a queue handler, its clients", 7398, 1000, "M"),
        Goal("http_import_million_instructions", "instructions: import the API's handler", "M"),
        Goal(
            "cold_to_first_submission_million_instructions",
            "instructions: to the first submission recorded",
            "M",
            times=4,
            gate=True,
        ),
        Goal("cold_to_first_submission_cpu_ms", "CPU: to the first submission recorded", "ms", 1391, times=4),
        Goal("pyc_coverage_percent", "modules that come compiled", "%", 0, at_least=100, gate=True),
        _gate("layer_mib_unzipped", "layer, unzipped (textbook: its packages)", 35.9, 17, "MiB"),
        _gate("layer_mib_zipped", "the same, zipped", 21.2, 6, "MiB"),
    ),
    "1e6 repayments": (
        Goal("cpu_growth_1e6_against_1e4", "CPU per repayment, as a multiple of 1e4's", at_most=1.2),
        Goal("memory_growth_mb_1e6_against_1e4", "memory, more than after 1e4", "MB", at_most=5),
        Goal("seconds_for_1e6_repayments", "duration, two environments, Kiva and AWS at once", "s", at_most=150),
        Goal("usd_per_million_repayments", "list price: Lambda, DynamoDB, SQS", "USD"),
        Goal("usd_per_million_repayments_with_all", "with events, logs, storage, backups", "USD"),
    ),
    "At rest": (
        _gate("usd_a_month_at_rest", "list price of a month without submissions", None, 5, "USD"),
        _gate("alarm_metrics", "metrics that alarms watch", None, 21),
        _gate("custom_metrics_at_rest", "custom metrics that are written", None, 0),
    ),
}
