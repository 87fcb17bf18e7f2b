"""What a million repayments cost, and a month without any, by AWS's list prices of us-east-1 without a free tier.

Counted by the stubs (scale.py) and at botocore's edge (counted.py), priced here. Left out: data transfer, the API in
front of the queue, and what people look at.
Sources: the price lists of AWS Lambda, Amazon DynamoDB (on demand), Amazon SQS, Amazon EventBridge, Amazon CloudWatch,
AWS X-Ray, AWS Secrets Manager, AWS KMS and Amazon S3 as of November 2026; AWS Lambda Developer Guide, "Using Lambda
with Amazon SQS" (five pollers of each queue, each asks for 20 s) and "Using Lambda with DynamoDB" (it asks for free).
"""

import json
from collections.abc import Mapping
from typing import Any

from bench import counted
from bench.counted import Counted, Followed
from bench.environment import Figure
from template.cloudformation import Template, as_deployed, named, of_type, read, translate

LAMBDA_GB_SECOND, LAMBDA_MILLION_REQUESTS = 0.0000133334, 0.20
DYNAMODB_MILLION_WRU, DYNAMODB_MILLION_RRU = 0.625, 0.125
SQS_MILLION_REQUESTS = 0.40

EVENTS_MILLION = 1.00
LOGS_GB, LOGS_GB_MONTH, LOG_MONTHS = 0.50, 0.03, 3
"""Taken in, and kept for template.yaml's 90 days."""
DYNAMODB_GB_MONTH, BACKUP_GB_MONTH, LEDGER_MONTHS = 0.25, 0.20, 400 / 30
"""Rows are kept for 400 days; point-in-time recovery is paid by the table's size, without its indexes."""
ITEM_OVERHEAD = 100
"""Bytes that DynamoDB stores with each item, of the table and of an index."""

ALARM_METRIC, CUSTOM_METRIC, DASHBOARD, FREE_METRICS = 0.10, 0.30, 3.00, 50
"""A month. A dashboard of up to 50 metrics costs nothing."""
KEY, SECRET = 1.00, 0.40
"""A month. A key that is rotated each year costs a dollar more after the first and after the second rotation."""
SECRETS_MILLION_CALLS, KMS_MILLION_CALLS, S3_MILLION_LISTS = 5.00, 3.00, 5.00
TRACES_MILLION, SCHEDULES_MILLION = 5.00, 1.00
POLLERS, POLL_SECONDS = 5, 20
DAY, DAYS = 86_400, 30
RUN_SECONDS = 300
PLATFORM_LOG_BYTES = 800
"""Lambda's own lines of an invocation: start, end and report."""
IDLE_CPU_SECONDS = 0.05
"""Of a run of housekeeping in a warm environment, supposed: with moto in the same process it cannot be measured."""

MEMORY_MB, FULL_CORE_MB = 512, 1769
"""A function of template.yaml, and the size at which Lambda gives it a whole core: CPU takes longer by their ratio."""
KIVA_SECONDS, AWS_SECONDS = 0.2, 0.005

OURS = {"batch": 1000, "parallel": 4}
"""As template.yaml sets the queue and the function of repayments."""
TEXTBOOK = {"batch": 10, "parallel": 1}
"""SQS's default, and one call after the other."""

STACK = {"KivaEnvironment": "stage", "KivaPartnerId": "9001"}
"""Parameters of the stack at rest; all else is the template's default."""

SQS_REQUESTS = 3 / 10
"""Of one message: sent, received and deleted, by tens."""


def figures(took: Mapping[str, Any]) -> dict[str, Figure]:
    """All of it; `took` is the detail of SCALE, or empty where that was not measured."""
    run, template = counted.idle_run(), as_deployed(translate(read()), STACK)
    at_rest = usd_at_rest(template, run)
    found = {
        "usd_a_month_at_rest": Figure(sum(at_rest.values()), None, {"how": "cost.py; without a free tier", **at_rest}),
        "alarm_metrics": Figure(alarm_metrics(template), None, {"how": "counted in the translated template"}),
        "custom_metrics_at_rest": Figure(len(run.metrics), None, {"how": "written by a run of housekeeping"}),
    }
    if took:
        how = "computed by cost.py; Kiva 200 ms, AWS 5 ms"
        point = took["ours"][-1]
        ours, textbook = usd_per_million(point, **OURS), usd_per_million(took["textbook"][-1], **TEXTBOOK)
        with_all = usd_per_million_with_all(point, counted.followed())
        found |= {
            "usd_per_million_repayments": Figure(
                sum(ours.values()), sum(textbook.values()), {"how": how, "ours": ours, "textbook": textbook}
            ),
            "usd_per_million_repayments_with_all": Figure(sum(with_all.values()), None, {"how": how, "ours": with_all}),
        }
    return found


def usd_per_million(point: Mapping[str, float], *, batch: int, parallel: int) -> dict[str, float]:
    """Price of a million records that each cost what `point` says.

    Args:
        point: CPU milliseconds, calls and units of one record, as scale.py measures them.
        batch: Records of one invocation.
        parallel: Calls to Kiva at once. Those to AWS come one after the other.
    """
    computing = point["cpu_ms"] / 1000 * FULL_CORE_MB / MEMORY_MB
    waiting = point["kiva_calls"] * KIVA_SECONDS / parallel + point["aws_calls"] * AWS_SECONDS
    return {
        "Lambda": (computing + waiting) * MEMORY_MB / 1024 * LAMBDA_GB_SECOND * 1e6 + LAMBDA_MILLION_REQUESTS / batch,
        "DynamoDB": point["wru"] * DYNAMODB_MILLION_WRU + point["rru"] * DYNAMODB_MILLION_RRU,
        "SQS": SQS_REQUESTS * SQS_MILLION_REQUESTS,
    }


def usd_per_million_with_all(point: Mapping[str, float], follows: Followed) -> dict[str, float]:
    """The same of ours, with what follows: the function for outcomes, events, logs, 400 days of storage, backups."""
    gb = 1e6 / 2**30
    stored = follows.row_bytes + ITEM_OVERHEAD, follows.index_bytes + 2 * ITEM_OVERHEAD
    outcomes = follows.aws_calls * AWS_SECONDS * MEMORY_MB / 1024 * LAMBDA_GB_SECOND * 1e6
    units = follows.write_units * DYNAMODB_MILLION_WRU + follows.read_units * DYNAMODB_MILLION_RRU
    return {
        **usd_per_million(point, **OURS),
        "function for outcomes": outcomes + units,
        "events": follows.events * EVENTS_MILLION,
        "logs": follows.logged_bytes * gb * (LOGS_GB + LOGS_GB_MONTH * LOG_MONTHS),
        "400 days of storage": sum(stored) * gb * DYNAMODB_GB_MONTH * LEDGER_MONTHS,
        "backups": stored[0] * gb * BACKUP_GB_MONTH * LEDGER_MONTHS,
    }


def usd_at_rest(template: Template, run: Counted) -> dict[str, float]:
    """A month of a stack that nobody uses.

    Args:
        template: The translated template as a stack has it.
        run: A run of housekeeping that finds nothing to do.
    """
    runs = DAYS * DAY / RUN_SECONDS
    million_runs = runs / 1e6
    of = run.calls
    reads = of["SecretsManager.GetSecretValue"]
    seconds = IDLE_CPU_SECONDS * FULL_CORE_MB / MEMORY_MB + sum(of.values()) * AWS_SECONDS
    lambdas = seconds * MEMORY_MB / 1024 * LAMBDA_GB_SECOND * runs + LAMBDA_MILLION_REQUESTS * million_runs
    units = run.read_units * DYNAMODB_MILLION_RRU + run.write_units * DYNAMODB_MILLION_WRU
    queues = sum(named(it["EventSourceArn"]).endswith("Queue.Arn") for it in _mappings(template))
    polls = queues * POLLERS * DAYS * DAY / POLL_SECONDS
    return {
        "alarms": alarm_metrics(template) * ALARM_METRIC,
        "dashboard": DASHBOARD * (_drawn(template) > FREE_METRICS),
        "custom metrics": len(run.metrics) * CUSTOM_METRIC,
        "key": len(of_type(template, "AWS::KMS::Key")) * KEY,
        "secrets": len(of_type(template, "AWS::SecretsManager::Secret")) * SECRET,
        "polling of the queues": polls / 1e6 * SQS_MILLION_REQUESTS,
        "housekeeping: Lambda, schedule, traces, log": lambdas
        + (SCHEDULES_MILLION + TRACES_MILLION) * million_runs
        + runs * (PLATFORM_LOG_BYTES + run.logged_bytes) / 2**30 * LOGS_GB,
        "housekeeping: what it reads": million_runs
        * (
            units
            + reads * (SECRETS_MILLION_CALLS + KMS_MILLION_CALLS)
            + of["S3.ListObjectsV2"] * S3_MILLION_LISTS
            + of["SQS.GetQueueAttributes"] * SQS_MILLION_REQUESTS
        ),
    }


def alarm_metrics(template: Template) -> int:
    """What CloudWatch counts of alarms: each metric that one looks at, also where it calculates with several."""
    alarms = of_type(template, "AWS::CloudWatch::Alarm").values()
    return sum(sum("MetricStat" in it for it in alarm.get("Metrics", [])) or 1 for alarm in alarms)


def _mappings(template: Template) -> list[dict[str, Any]]:
    return list(of_type(template, "AWS::Lambda::EventSourceMapping").values())


def _drawn(template: Template) -> int:
    (dashboard,) = of_type(template, "AWS::CloudWatch::Dashboard").values()
    widgets = json.loads(dashboard["DashboardBody"]["Fn::Sub"])["widgets"]
    return sum(len(it["properties"].get("metrics", [])) for it in widgets)
