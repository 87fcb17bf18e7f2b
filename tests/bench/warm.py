"""What a warm execution environment costs: CPU, calls, memory, and submissions in a second at Kiva's pace.

Ours and the textbook's run in turn, A B A B, in environments that stay; a ratio is of two neighbours, for the machine
drifts. The textbook needs as long for ten records as we for a thousand, so it gets fewer: its costs are by the record.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from statistics import median

from bench.environment import Artefact, Figure, Run, Stage, Worker, alone, ratios

ROUNDS = 5

KIVA_SECONDS, AWS_SECONDS = 0.2, 0.005
"""How long each takes to answer where throughput is measured; where CPU is measured both answer at once."""

PARALLEL_CALLS = {"repayment": 4, "loan_draft": 10, "journal_update": 4}
"""What template.yaml lets an environment do at the same time."""

MB = 1_000_000


def measure(on: Stage) -> dict[str, Figure]:
    """All figures of warm environments, by the name of the metric."""
    on.latency(kiva=0, aws=0)
    with ExitStack() as opened:

        def worker(artefact: Artefact, kind: str, calls: int) -> Worker:
            return opened.enter_context(on.worker(artefact, kind, PARALLEL_CALLS=str(calls)))

        ours = {kind: worker(on.ours, kind, calls) for kind, calls in PARALLEL_CALLS.items()}
        call_by_call = {kind: worker(on.ours, kind, 1) for kind in ("repayment", "loan_draft")}
        textbook = {kind: worker(on.textbook, kind, 1) for kind in ("repayment", "loan_draft")}
        return {
            **_repayments(ours["repayment"], textbook["repayment"]),
            **_drafts(ours["loan_draft"], call_by_call["loan_draft"], textbook["loan_draft"]),
            **_aws_calls(ours, textbook),
            **_throughput(on, ours, call_by_call["repayment"], textbook),
        }


def _repayments(ours: Worker, textbook: Worker) -> dict[str, Figure]:
    ours.invoke(1, 1000)
    theirs = textbook.invoke(1, 1000)
    runs = [(ours.invoke(2, 1000), textbook.invoke(1, 100)) for _ in range(ROUNDS)]
    last, _ = runs[-1]
    a_thousand = last.submissions / 1000
    return {
        "cpu_ms_per_repayment": _paired(runs, "TLS, no latency, batches of 1,000, 4 calls at a time; textbook 5 x 100"),
        "kiva_calls_per_1000_repayments": Figure(
            last.kiva["repayments"] / a_thousand, theirs.kiva["repayments"], {"how": "1,000 messages in one batch"}
        ),
        "connections_per_1000_repayments": Figure(
            last.kiva["connections"] / a_thousand,
            theirs.kiva["connections"],
            {"how": "accepted by Kiva's stub while 4 calls may run; the textbook's Session makes one at a time"},
        ),
        "peak_memory_mb": Figure(
            last.peak / MB,
            runs[-1][1].peak / MB,
            {"how": "VmHWM after 11 x 1,000 repayments; textbook after 1 x 1,000 and 5 x 100"},
        ),
    }


def _drafts(ours: Worker, call_by_call: Worker, textbook: Worker) -> dict[str, Figure]:
    """Call by call, as the textbook works; then ten calls at once: in batches as deployed, and where few come."""
    for worker in (ours, call_by_call, textbook):
        worker.invoke(1, 20)
    how = "2 KB without photo, TLS, no latency; textbook 5 x 50"
    runs = [(call_by_call.invoke(2, 100), textbook.invoke(1, 50)) for _ in range(ROUNDS)]
    deployed = [(ours.invoke(2, 50), textbook.invoke(1, 50)) for _ in range(ROUNDS)]
    few = [(ours.invoke(5, 10), textbook.invoke(1, 50)) for _ in range(ROUNDS)]
    return {
        "cpu_ms_per_draft_in_batches_of_100": _paired(runs, f"one call at a time, {how}"),
        "cpu_ms_per_draft_in_batches_of_50": _paired(deployed, f"10 calls at a time, {how}"),
        "cpu_ms_per_draft_in_batches_of_10": _paired(few, f"10 calls at a time, each on a new connection, {how}"),
    }


def _paired(runs: list[tuple[Run, Run]], how: str) -> Figure:
    """The median of each, and how many times cheaper ours was in each round."""
    ours, theirs = ([run.cpu_ms for run in each] for each in zip(*runs, strict=True))
    return Figure(median(ours), median(theirs), {"how": how, **ratios(ours, theirs)})


def _aws_calls(ours: Mapping[str, Worker], textbook: Mapping[str, Worker]) -> dict[str, Figure]:
    """Calls and DynamoDB's write units of one record, when the token is known already."""
    figures = {}
    theirs = {kind: worker.invoke(1, 100) for kind, worker in textbook.items()}
    for kind, worker in ours.items():
        worker.invoke(1, 10)
        for batch in (100, 1000):
            run = worker.invoke(1, batch)
            known = theirs.get(kind)
            figures[f"aws_calls_per_{kind}_in_batches_of_{batch}"] = Figure(
                run.aws["calls"] / batch, known and known.aws["calls"] / 100, {"how": "textbook in a batch of 100"}
            )
            figures[f"wru_per_{kind}_in_batches_of_{batch}"] = Figure(
                run.write_units / batch,
                known and known.write_units / 100,
                {"how": "table and indexes; textbook in a batch of 100", "of_indexes": run.aws["index_wru"] / batch},
            )
    return figures


def _throughput(
    on: Stage, ours: Mapping[str, Worker], call_by_call: Worker, textbook: Mapping[str, Worker]
) -> dict[str, Figure]:
    call_by_call.invoke(1, 100)
    on.latency(kiva=KIVA_SECONDS, aws=AWS_SECONDS)
    repayments, drafts = (textbook[kind].invoke(2, 10).per_second for kind in ("repayment", "loan_draft"))
    how = f"one environment, Kiva {KIVA_SECONDS} s, AWS {AWS_SECONDS} s; textbook 2 x 10"
    figures = {
        "drafts_per_second": Figure(ours["loan_draft"].invoke(4, 50).per_second, drafts, {"how": f"4 x 50, {how}"}),
        "drafts_per_second_in_batches_of_10": Figure(
            ours["loan_draft"].invoke(10, 10).per_second, drafts, {"how": f"10 x 10, {how}"}
        ),
        "repayments_per_second_1_call": Figure(
            call_by_call.invoke(5, 1000).per_second, repayments, {"how": f"5 x 1,000, {how}"}
        ),
        "repayments_per_second_4_calls": Figure(
            ours["repayment"].invoke(5, 1000).per_second, repayments, {"how": f"5 x 1,000, {how}"}
        ),
    }
    on.latency(kiva=0, aws=0)
    return figures


if __name__ == "__main__":
    alone(measure)
