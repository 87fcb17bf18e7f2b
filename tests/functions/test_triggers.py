"""What else than its triggers may call a function: it says what it takes, and claims nothing."""

from importlib import import_module

import pytest

from handlers import MESSAGES
from kiva_partner.errors import WrongTrigger
from kiva_partner.messages import Kind

SNS = {"Records": [{"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": {"MessageId": "0", "Message": "{}"}}]}
S3 = {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"object": {"key": "a"}}}]}
KINESIS = {"Records": [{"eventSource": "aws:kinesis", "eventID": "0", "kinesis": {"data": "e30="}}]}
SQS = {"Records": [{"eventSource": "aws:sqs", "messageId": "m0", "body": "{}", "attributes": {}}]}
STREAM = {"Records": [{"eventSource": "aws:dynamodb", "eventID": "0", "dynamodb": {"Keys": {}}}]}
EVENTBRIDGE = {"version": "0", "detail-type": "Repayments", "source": "mis", "detail": {"period": "2026-10"}}
CONSOLES_TEST = {"key1": "value1", "key2": "value2", "key3": "value3"}
REQUEST = {"httpMethod": "GET", "path": "/", "headers": None}

QUEUES = ("loan_drafts", "journal_updates", "repayments")
CALLED_BY_ANOTHER = [
    *(
        (name, event)
        for name in QUEUES
        for event in (SNS, S3, KINESIS, STREAM, EVENTBRIDGE, CONSOLES_TEST, [], "x", None)
    ),
    *(("outcomes", event) for event in (SNS, S3, KINESIS, SQS, EVENTBRIDGE, CONSOLES_TEST, REQUEST)),
    *(("console", event) for event in (SNS, SQS, EVENTBRIDGE, CONSOLES_TEST)),
]
TAKES = {
    **dict.fromkeys(QUEUES, "batches of its SQS queue and requests of API Gateway"),
    "outcomes": "batches of the ledger's stream and its schedule",
    "console": "requests of API Gateway",
}


@pytest.mark.parametrize(("name", "event"), CALLED_BY_ANOTHER)
def test_a_function_that_something_else_calls_says_what_it_takes_and_fails(
    name, event, deployed, context, capsys, table
):
    """SNS and S3 then try again and count a failure; an answer would count as delivered, and all would be lost."""
    with pytest.raises(WrongTrigger) as raised:
        import_module(f"{name}.app").handler(event, context)
    records = event.get("Records") if isinstance(event, dict) else None
    source = (records[0].get("eventSource") or records[0]["EventSource"]) if records else "something else"
    if event is REQUEST:
        source = "aws:apigateway"
    said = f"this function takes {TAKES[name]}, and was called by {source}"
    assert str(raised.value) == said
    (line,) = capsys.readouterr().out.splitlines()
    assert f"nothing was taken in: {said}" in line
    assert deployed.sent == []
    assert table.scan(TableName="ledger")["Items"] == []


def test_a_source_that_is_made_up_is_not_shown(deployed, context, capsys):
    event = {"Records": [{"eventSource": "aws:Canary Akinyi"}]}
    with pytest.raises(WrongTrigger, match="by something else"):
        import_module("repayments.app").handler(event, context)
    assert "Canary" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", list(Kind))
def test_the_message_itself_is_no_event(kind, deployed, context):
    name = {Kind.LOAN_DRAFT: "loan_drafts", Kind.JOURNAL_UPDATE: "journal_updates", Kind.REPAYMENT: "repayments"}[kind]
    with pytest.raises(WrongTrigger):
        import_module(f"{name}.app").handler(MESSAGES[kind](), context)
