"""One execution environment of Lambda, without Lambda: imports a handler, then invokes it as often as it is told to.

Runs in the artefact's interpreter, which has the artefact's packages and the standard library and nothing else. Told by
one line of JSON on standard input: so many invocations of so many messages; answers with one line: what that took.
What the handler logs is formatted and written as in Lambda, but to nowhere.
"""

import json
import os
import sys
import time
import uuid
from importlib import import_module
from itertools import count

TIMEOUT = 300
"""Seconds of one invocation, as in `template.yaml`."""

PERIOD = "2026-10"
DESCRIPTION = (
    "Achieng has sold cooked food beside the bus park of Kisumu for six years. She buys maize flour and oil by the "
    "day, which is dear; with this loan she buys by the sack and keeps the difference. Her two daughters help after "
    "school, and she means to open a second table before the long rains. "
)


# --- what producers send: the messages of events/sqs, one submission in each -----------------------------------------


def repayment(loan, number):
    row = {"loan_id": loan, "client_id": f"C-{loan}", "amount": 1000 + number % 9000 + 0.25}
    return {"period": PERIOD, "repayments": [row]}


def journal_update(loan, number):
    journal = {
        "internal_loan_id": loan,
        "internal_client_id": f"C-{loan}",
        "subject": "A second stall",
        "body": DESCRIPTION,
        "image_url": f"https://media.example.org/journals/{number}.jpg",
    }
    return {"journals": [journal]}


def loan_draft(loan, number):
    """A draft of an individual, without a photo: 2 KB."""
    amount = 12_000 * (1 + number % 9)
    borrower = {"client_id": f"C-{loan}", "loan_id": loan, "first_name": "Achieng", "last_name": "Odera"}
    return {
        "activity_id": 61,
        "theme_type_id": 48,
        "description_language_id": 1,
        "location": "Kisumu: Kenya",
        "currency": "KES",
        "loanuse": "to buy maize flour and cooking oil by the sack.",
        "description": 3 * DESCRIPTION,
        "client_waiver_signed": True,
        "disburse_time": "2026-12-15",
        "entreps": [{**borrower, "gender": "female", "amount": amount}],
        "schedule": [
            {"date": f"2027-{month:02}-15", "principal": amount // 12, "interest": 75.5} for month in range(1, 13)
        ],
    }


MESSAGES = {"repayment": repayment, "journal_update": journal_update, "loan_draft": loan_draft}


def record(body):
    return {
        "messageId": str(uuid.uuid4()),
        "receiptHandle": "AQEBuHKU/ZIqWSKb3Gt0lFOVmwYCI6wVgHQ4icpPYaTBpCU=",
        "body": json.dumps(body),
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1795511105000",
            "SenderId": "AROAEXAMPLEMIS:core-banking",
            "ApproximateFirstReceiveTimestamp": "1795511105012",
        },
        "messageAttributes": {},
        "md5OfBody": "542eae492eb896c9025ccec5b96ecb8c",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:benchmark",
        "awsRegion": "us-east-1",
    }


# --- what Lambda does with it -----------------------------------------------------------------------------------------


class Context:
    function_name = "benchmark"
    function_version = "$LATEST"
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:benchmark"
    memory_limit_in_mb = "512"
    log_group_name = "/aws/lambda/benchmark"
    log_stream_name = "2026/11/24/[$LATEST]0"

    def __init__(self):
        self.aws_request_id = str(uuid.uuid4())
        self._ends = time.monotonic() + TIMEOUT

    def get_remaining_time_in_millis(self):
        return int((self._ends - time.monotonic()) * 1000)


def invoke(handler, event):
    """CPU seconds of all threads, and seconds, of one invocation that must take every message."""
    cpu, wall = time.process_time(), time.perf_counter()
    answer = handler(event, Context())
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if answer != {"batchItemFailures": []}:
        raise SystemExit(f"the handler did not take every message: {str(answer)[:500]}")
    return cpu, wall


def memory(field):
    """Bytes: `VmHWM` at the most so far, `VmRSS` now."""
    with open("/proc/self/status") as status:  # noqa: PTH123 a handler need not import pathlib
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(f"{field}:"))


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    told = json.loads(sys.argv[1])
    module, _, name = told["handler"].rpartition(".")
    handler = getattr(import_module(module), name)
    message = MESSAGES[told["kind"]]
    numbers = count(1)
    for line in sys.stdin:
        work = json.loads(line)
        cpu = wall = 0
        for _ in range(work["invocations"]):
            some = [next(numbers) for _ in range(work["messages"])]
            event = {"Records": [record(message(f"{told['loans']}-{number}", number)) for number in some]}
            used, passed = invoke(handler, event)
            cpu, wall = cpu + used, wall + passed
        answer = {"cpu": cpu, "wall": wall, "peak": memory("VmHWM"), "memory": memory("VmRSS")}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
