"""A batch as large as the template allows fits what Lambda hands to a function, and so does the answer.

6 MB for a request and for its answer (AWS Lambda Developer Guide, "Lambda quotas"). What does not fit is no error:
"Lambda passes all of the records in the batch to the function in a single call, up to the payload limit for synchronous
invocation (6 MB)" (AWS Lambda API Reference, "GetEventSourceMapping", BatchSize); the rest goes with the next call.
"""

import json
import re

import pytest

from invocations import batch
from kiva_partner.messages import FROM_API, Kind
from kiva_partner.queues import come_again
from template.cloudformation import ROOT, read

PAYLOAD = 6 * 1024 * 1024
PARAMETERS = read()["Parameters"]
NAMES = {Kind.LOAN_DRAFT: "LoanDrafts", Kind.JOURNAL_UPDATE: "JournalUpdates", Kind.REPAYMENT: "Repayments"}
REPAYMENT = json.dumps(
    {"period": "2026-10", "repayments": [{"loan_id": "L" * 20, "client_id": "C" * 20, "amount": 1234567.25}]}
)
EXAMPLE = json.loads((ROOT / "events" / "sqs" / "repayments.json").read_text())["Records"][0]


def record(body):
    """A record with all that SQS and Lambda put into one, each as long as it gets in practice or longer."""
    return {
        "messageId": "b87294fd-922a-4922-9bdc-6b749453959b",
        "receiptHandle": "A" * 412,
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": "100",
            "AWSTraceHeader": "Root=1-6a14a5b0-0123456789abcdef01234567;Parent=0123456789abcdef;Sampled=1",
            "SentTimestamp": "1795511105000",
            "SenderId": f"AROAEXAMPLEEXAMPLEEXA:{'s' * 64}",
            "ApproximateFirstReceiveTimestamp": "1795511105012",
        },
        "messageAttributes": {
            FROM_API: {
                "stringValue": "yes",
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": "String",
            }
        },
        "md5OfMessageAttributes": "0" * 32,
        "md5OfBody": EXAMPLE["md5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:ap-southeast-1:123456789012:{'s' * 48}-journal-updates",
        "awsRegion": "ap-southeast-1",
    }


def size(body, number):
    """Bytes of an event of so many messages of this body, as JSON without blanks."""
    one, two = (len(json.dumps({"Records": [record(body)] * many}, separators=(",", ":"))) for many in (1, 2))
    return one + (number - 1) * (two - one)


def largest_body(number):
    """Bytes of a body of repayments of which so many messages still fit."""
    return next(
        len(body)
        for rows in range(400, 0, -1)
        if size(
            body := json.dumps({"period": "2026-10", "repayments": [rows_of(each) for each in range(rows)]}), number
        )
        <= PAYLOAD
    )


def rows_of(number):
    return {"loan_id": f"L-{number:05}-1", "client_id": f"C-{number:05}", "amount": 41650.25}


def test_the_record_has_what_a_record_of_aws_has():
    assert record("").keys() >= EXAMPLE.keys()
    assert record("")["attributes"].keys() >= EXAMPLE["attributes"].keys()
    assert record("").keys() >= batch("")["Records"][0].keys()


def test_a_full_batch_of_one_repayment_each_fits_four_times():
    assert 4 * size(REPAYMENT, PARAMETERS["RepaymentsBatchSize"]["Default"]) <= PAYLOAD


def test_of_the_largest_batch_that_may_be_asked_for_nearly_all_fits():
    assert size(REPAYMENT, PARAMETERS["RepaymentsBatchSize"]["MaxValue"] * 9 // 10) <= PAYLOAD


def test_the_size_up_to_which_a_full_batch_fits_is_the_documented_one():
    (told,) = re.findall(r"fit up to ([\d,]+) bytes each", (ROOT / "docs" / "architecture.md").read_text())
    largest = largest_body(PARAMETERS["RepaymentsBatchSize"]["Default"])
    assert 0.8 * largest <= int(told.replace(",", "")) <= largest


@pytest.mark.parametrize("kind", Kind)
def test_the_answer_fits_when_every_message_comes_again(kind):
    ids = [record("")["messageId"]] * PARAMETERS[f"{NAMES[kind]}BatchSize"]["MaxValue"]
    assert len(json.dumps(come_again(ids))) <= PAYLOAD / 10
