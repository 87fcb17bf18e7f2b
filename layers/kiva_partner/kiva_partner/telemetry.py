"""What the functions tell about themselves: one log line for each submission, and metrics by kind and outcome.

Log fields and metrics are listed in docs/architecture.md. Nothing here takes free text of a message or of Kiva.
"""

import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from .errors import Misconfigured, NotConfigured, SubmissionError, where
from .ledger import Row, State
from .messages import Kind
from .relay import Result, Verdict

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


WORTH_TELLING_SECONDS = 300
"""Of a message's age. Younger ones are the usual, and a metric that is never written costs nothing."""


class Telemetry:
    """Powertools' Logger and Metrics, with our fields. One for the life of an execution environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        service = environment.get("POWERTOOLS_SERVICE_NAME", "kiva-relay")
        self._logger = Logger(service=service)
        self._service = service
        self._namespace = environment.get("POWERTOOLS_METRICS_NAMESPACE", "KivaRelay")
        # One for each kind, for a line of metrics has one set of dimensions; None is for what is of no kind.
        self._metrics: dict[Kind | None, EphemeralMetrics] = {}
        # The layer's modules log with the standard library; their lines come out like the Logger's own.
        layer = logging.getLogger(__package__)
        layer.handlers = list(self._logger.handlers)
        layer.setLevel(self._logger.log_level)
        layer.propagate = False
        # Its warnings quote URLs, and the URL of GET loans holds what was searched for: a name, perhaps.
        logging.getLogger("urllib3").setLevel(logging.ERROR)

    @contextmanager
    def invocation(self, context: "LambdaContext") -> Iterator[None]:
        """Put the request's id on every line, and write the metrics at the end, whatever happens."""
        self._logger.append_keys(function_request_id=context.aws_request_id)
        try:
            yield
        finally:
            for metrics in self._metrics.values():
                if metrics.metric_set:  # Powertools warns about an invocation that counted nothing
                    metrics.flush_metrics()

    def submissions(self, kind: Kind, results: Iterable[Result]) -> None:
        """One line and one count for each submission of an invocation, and whether Kiva took nothing of them."""
        counts: Counter[str] = Counter()
        misconfigured = 0
        unavailable = answered = False
        lines = []
        for result in results:
            outcome = result.outcome
            counts[f"Submission{_metric(result)}"] += 1
            misconfigured += bool(outcome and outcome.misconfigured)
            unavailable |= bool(outcome and outcome.unavailable)
            answered |= result.new and result.state in (State.ACCEPTED, State.REJECTED)
            fields = {
                "kind": kind,
                "reference": result.submission.reference,
                "verdict": result.verdict,
                "state": result.state,
                "http_status": outcome and outcome.http_status,
                "call_id": outcome and outcome.call_id,
            }
            lines.append({name: value for name, value in fields.items() if value})
        self._info_each("submission", lines)
        for name, count in counts.items():
            self.count(name, count, kind)
        self.count("Misconfigured", misconfigured)
        self.count("KivaUnavailable", int(unavailable and not answered))

    def _info_each(self, message: str, every: Iterable[dict[str, Any]]) -> None:
        """A line for each, like the Logger's own; but what they share is formatted once.

        Formatting takes 30 us, and a report has thousands of rows: it was a quarter of the CPU that a repayment takes.
        """
        if self._logger.log_level > logging.INFO:
            return
        names = {"name": self._logger.name, "levelno": logging.INFO, "levelname": "INFO", "msg": message}
        shared = msgspec.json.decode(self._logger.registered_formatter.format(logging.makeLogRecord(names)))
        del shared["location"]  # of the record, which was not logged anywhere
        lines = [msgspec.json.encode({**shared, **fields}).decode() + "\n" for fields in every]
        sys.stdout.write("".join(lines))
        sys.stdout.flush()

    def expired(self, rows: Iterable[Row]) -> None:
        """Claims that became UNKNOWN because their sender ended without a word."""
        for row in rows:
            self._logger.warning("claim expired", extra={"kind": row.kind.value, "reference": row.reference})
            self.count("SubmissionUnknown", int(row.state is State.UNKNOWN), row.kind)

    def stuck(self, rows: Iterable[Row]) -> None:
        """Rows that no message brings to Kiva by itself any more."""
        for row in rows:
            self._logger.warning("stuck", extra={"kind": row.kind.value, "reference": row.reference})
            self.count("SubmissionStuck", 1, row.kind)

    def decided(self, rows: Sequence[Row], decision: str, by: str) -> None:
        """What a person decided, and who; the reason is in the ledger."""
        for row in rows:
            fields = {"kind": row.kind.value, "reference": row.reference, "decision": decision, "by": by}
            self._logger.info("decision", extra=fields)
        self.count("Decision", kind=rows[0].kind)

    def stands(self, counts: Mapping[str, int], refused_percent: float) -> None:
        """How the stack stands right now. What is zero is not written: a metric at rest costs nothing."""
        for name, number in counts.items():
            self.count(name, number)
        if refused_percent:
            self._add("RefusedPercent", refused_percent, MetricUnit.Percent, None)

    def said(self, what: str, kinds: Iterable[Kind], by: str) -> None:
        """What a person changed about sending, and who; the reason is in the ledger."""
        for kind in kinds:
            self._logger.warning(what, extra={"kind": kind.value, "by": by})

    def received(self, oldest_seconds: float) -> None:
        """How old the oldest message of a batch is, where that is worth telling."""
        if oldest_seconds > WORTH_TELLING_SECONDS:
            self._add("OldestMessageSeconds", oldest_seconds, MetricUnit.Seconds, None)

    def done(self, kind: Kind, reference: str, by: str) -> None:
        """What a person has done in PA2, and who."""
        self._logger.info("done", extra={"kind": kind.value, "reference": reference, "by": by})

    def refused(self, what: str, error: SubmissionError) -> None:
        """Something could not be done at all. The error's text is ours and names no secret."""
        if isinstance(error, NotConfigured):  # a fresh stack waits for its credentials, and rings nobody
            self._logger.warning("%s: %s", what, error)
            return
        self._logger.error("%s: %s", what, error)
        self.count("Misconfigured", int(isinstance(error, Misconfigured)))

    def unexpected(self, what: str, error: Exception) -> None:
        """A fault of ours or of AWS stopped something: its class and place, for its text may hold anything."""
        self._logger.error("%s: unexpected %s", what, where(error))

    def count(self, name: str, number: int = 1, kind: Kind | None = None) -> None:
        """Add to a metric of this invocation; without a kind it is the whole stack's."""
        if number:
            self._add(name, number, MetricUnit.Count, kind)

    def _add(self, name: str, value: float, unit: MetricUnit, kind: Kind | None) -> None:
        if kind not in self._metrics:
            dimensions = {"kind": kind.value} if kind else {}
            self._metrics[kind] = EphemeralMetrics(
                namespace=self._namespace, service=self._service, default_dimensions=dimensions
            )
        self._metrics[kind].add_metric(name=name, unit=unit, value=value)


def _metric(result: Result) -> str:
    """An outcome is counted when it comes about: a message delivered twice must not raise an alarm twice."""
    if result.verdict is Verdict.STANDS and result.state:
        return result.state.title() if result.new else "Known"
    return result.verdict.title()
