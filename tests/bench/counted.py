"""What the functions ask AWS for besides submitting, counted at botocore's edge, with moto behind it.

A run of housekeeping that finds nothing to do, and what follows a batch of repayments: its lines in the log, its rows,
and its events. What submitting itself takes is counted by scale.py.
"""

import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any
from unittest import mock

import boto3
import pytest

from bench.aws_stub import _bytes as item_bytes
from deployment import BUCKET, TABLE, create_table, credentials, variables
from fakes import PARTNER_URL, Context, Kiva
from handlers import Function
from kiva_partner import runtime
from kiva_partner.client import CONFIG_NAMES
from kiva_partner.messages import Kind
from moto_aws import aws_by_moto
from stream import Stream

ROWS = 100
"""Of a batch whose consequences are counted."""


@dataclass
class Counted:
    """What some invocations asked for: calls by service and operation, DynamoDB's units, and what they wrote."""

    calls: Counter[str] = field(default_factory=Counter)
    read_units: float = 0
    write_units: float = 0
    events: int = 0
    log: str = ""

    @property
    def logged_bytes(self) -> int:
        """Lines of the log, and metrics, which are lines too."""
        return len(self.log.encode())

    @property
    def metrics(self) -> set[str]:
        """Custom metrics that were written."""
        return set(re.findall(r'"Name":"(\w+)","Unit"', self.log))


@dataclass(frozen=True)
class Followed:
    """What follows one repayment: bytes of the log, of its row and of its copies in the indexes, and its event."""

    logged_bytes: float
    row_bytes: float
    index_bytes: float
    events: float
    read_units: float
    write_units: float
    aws_calls: float


def idle_run() -> Counted:
    """Housekeeping with a fresh token and fresh lists, and nothing in any queue or row."""
    with _deployed() as count:
        housekeeping = import_module("housekeeping.app").handler
        count(lambda: housekeeping({"detail-type": "Scheduled Event"}, Context()))
        return count(lambda: housekeeping({"detail-type": "Scheduled Event"}, Context()))


def followed() -> Followed:
    """A batch of repayments through the function, then through the stream to the bus."""
    with _deployed() as count, pytest.MonkeyPatch.context() as patch:
        stream = Stream(patch)
        reports = Function(Kind.REPAYMENT, Context())
        submitted = count(lambda: reports.batch(*(reports.message(f"L-{number:05}") for number in range(ROWS))))
        items = boto3.client("dynamodb").scan(TableName=TABLE)["Items"]
        rows = [item for item in items if "fingerprint" in item]
        outcomes = import_module("outcomes.app").handler
        published = count(lambda: stream.deliver(lambda event: outcomes(event, Context())))
        by_loan = [{name: row[name] for name in ("pk", "loan_id", "created_at", "period")} for row in rows]
        return Followed(
            logged_bytes=(submitted.logged_bytes + published.logged_bytes) / ROWS,
            row_bytes=sum(map(item_bytes, items)) / ROWS,
            # The index by state holds all of a row.
            index_bytes=sum(map(item_bytes, [*rows, *by_loan])) / ROWS,
            events=published.events / ROWS,
            read_units=published.read_units / ROWS,
            write_units=published.write_units / ROWS,
            aws_calls=sum(published.calls.values()) / ROWS,
        )


@contextmanager
def _deployed() -> Iterator[Callable[[Callable[[], object]], Counted]]:
    """A stack in moto's AWS, and Kiva; gives what counts while something is done."""
    no_aws = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    test = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test") | {"AWS_DEFAULT_REGION": "us-east-1"}
    with (
        mock.patch.dict(os.environ, no_aws | test, clear=True),
        pytest.MonkeyPatch.context() as patch,
        aws_by_moto(patch),
        Kiva() as kiva,
    ):
        sqs, secrets = boto3.client("sqs"), boto3.client("secretsmanager")
        urls = [sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("queue", "dead-letters")]
        create_table(boto3.client("dynamodb"))
        secrets.create_secret(Name="credentials", SecretString=credentials())
        secrets.create_secret(Name="token")
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        boto3.client("events").create_event_bus(Name="outcomes")
        for name in CONFIG_NAMES:
            kiva.mock.add("GET", f"{PARTNER_URL}/config/{name}", json={name: []})
        os.environ |= {**variables(*urls), "EVENT_BUS": "outcomes"}
        runtime.forget()
        try:
            yield _counting
        finally:
            runtime.forget()


def _counting(do: Callable[[], object]) -> Counted:
    """As a warm environment: what is built once is built; but its clients are watched, so they are made anew."""
    counted = Counted()
    written = io.StringIO()

    def note(model: Any, params: dict[str, Any], **_: object) -> None:
        service, operation = model.service_model.service_id.replace(" ", ""), model.name
        counted.calls[f"{service}.{operation}"] += 1
        if service == "DynamoDB":
            read, write = _units(operation, json.loads(params["body"]))
            counted.read_units += read
            counted.write_units += write
        if operation == "PutEvents":
            counted.events += len(json.loads(params["body"])["Entries"])

    runtime.forget()
    runtime._aws_session().register("before-call", note)
    with redirect_stdout(written):
        do()
    counted.log = written.getvalue()
    return counted


def _units(operation: str, asked: dict[str, Any]) -> tuple[float, float]:
    """Request units of items that are smaller than one unit. Transactions are scale.py's to count."""
    match operation:
        case "Query":
            return 0.5, 0
        case "GetItem":
            return (1 if asked.get("ConsistentRead") else 0.5), 0
        case "BatchGetItem":
            wanted = asked["RequestItems"].values()
            return sum(len(each["Keys"]) * (1 if each.get("ConsistentRead") else 0.5) for each in wanted), 0
        case "PutItem" | "UpdateItem" | "DeleteItem":
            return 0, 1
    return 0, 0
