"""Two versions of the relay at work on one ledger: while a deployment is under way, and after it was taken back."""

import json

import boto3
import pytest

from invocations import batch
from kiva_partner import formats, runtime
from kiva_partner.errors import NewerVersion
from kiva_partner.ledger import State
from kiva_partner.payloads import Kept


class Versions:
    """Plays the versions that are at work: what is called within `with` is done by the next one."""

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch
        self.this = formats.VERSION

    def __enter__(self):
        self._monkeypatch.setattr(formats, "VERSION", self.this + 1)

    def __exit__(self, *_):
        self._monkeypatch.setattr(formats, "VERSION", self.this)


@pytest.fixture
def the_next_one(monkeypatch):
    return Versions(monkeypatch)


@pytest.fixture
def queue(queue_urls):
    """Takes the messages that lie in the queue, in the form in which Lambda hands them to the function."""

    def take():
        sqs = boto3.client("sqs")
        found = sqs.receive_message(QueueUrl=queue_urls[0], MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        for message in found.get("Messages", []):
            sqs.delete_message(QueueUrl=queue_urls[0], ReceiptHandle=message["ReceiptHandle"])
        return [
            (message["Body"], {name: it["StringValue"] for name, it in message.get("MessageAttributes", {}).items()})
            for message in found.get("Messages", [])
        ]

    return take


@pytest.fixture
def deliver(function):
    """Hand these messages to the function; gives those that are to come again, with the seconds that they wait."""

    def hand_over(*messages, **more):
        waits = []
        event = batch(*(body for body, _ in messages), **more)
        for record, (_, attributes) in zip(event["Records"], messages, strict=True):
            told = {name: {"stringValue": text, "dataType": "String"} for name, text in attributes.items()}
            record["messageAttributes"] = told
        queues = runtime.consumer(function.kind).queues
        put_off = queues.put_off
        queues.put_off = lambda some: waits.extend(some := list(some)) or put_off(some)
        try:
            function.handler(event, function.context)
        finally:
            queues.put_off = put_off
        return [(record["body"], seconds) for record, seconds in waits]

    return hand_over


def item(kind, reference):
    key = {"pk": {"S": f"{runtime.settings().ledger_scope}#submission#{kind}#{reference}"}}
    return boto3.client("dynamodb").get_item(TableName="ledger", Key=key)["Item"]


def rewrite(kind, reference, **attributes):
    """As a newer version may have written it: a state that this one does not know, and a version of its own."""
    changed = item(kind, reference) | {"v": {"N": str(formats.VERSION + 1)}} | attributes
    boto3.client("dynamodb").put_item(TableName="ledger", Item=changed)
    return changed


def only(kind):
    (row,) = runtime.ledger().list_by_loan("L-1").rows
    return row


# --- one version's messages through the next, and back ------------------------------------------------------------


def test_what_this_version_took_in_the_next_one_submits(function, deployed, queue, deliver, the_next_one):
    function.post(function.message("L-1"))
    messages = queue()
    with the_next_one:
        assert deliver(*messages) == []
    assert len(deployed.sent) == 1


def test_what_the_next_version_took_in_waits_here_and_goes_there(function, deployed, queue, deliver, the_next_one):
    with the_next_one:
        function.post(function.message("L-1"))
    (message,) = queue()
    ((_, seconds),) = deliver(message)
    assert (deployed.sent, seconds) == ([], 3600)
    with the_next_one:
        assert deliver(message) == []
    assert len(deployed.sent) == 1


def test_a_message_of_the_next_version_waits_whatever_the_ledger_knows_of_it(
    function, deployed, queue, deliver, the_next_one
):
    with the_next_one:
        function.post(function.message("L-1"))
        key = item(function.kind, only(function.kind).reference)["pk"]
        boto3.client("dynamodb").delete_item(TableName="ledger", Key={"pk": key})
    ((_, seconds),) = deliver(*queue())
    assert (deployed.sent, seconds) == ([], 3600)


def test_its_neighbours_in_the_batch_go_on(function, deployed, queue, deliver, waiting, the_next_one):
    with the_next_one:
        function.post(function.message("L-1"))
    newer = queue()
    again = deliver(*newer, (json.dumps(function.message("L-2")), {}))
    assert [body for body, _ in again] == [newer[0][0]]
    assert len(deployed.sent) == 1
    assert waiting("dead letters") == []


@pytest.mark.parametrize("state", ["QUEUED", "PONDERING"])
def test_a_row_of_the_next_version_is_neither_sent_nor_touched(function, deployed, deliver, state):
    function.post(function.message("L-1"))
    row = only(function.kind)
    before = rewrite(function.kind, row.reference, state={"S": state})
    ((_, seconds),) = deliver((json.dumps(function.message("L-1")), {}))
    assert (deployed.sent, seconds) == ([], 3600)
    assert item(function.kind, row.reference) == before


def test_a_row_that_the_next_version_has_settled_is_answered_there(function, deployed, deliver, the_next_one):
    with the_next_one:
        assert deliver((json.dumps(function.message("L-1")), {})) == []
    assert len(deliver((json.dumps(function.message("L-1")), {}))) == 1
    with the_next_one:
        assert deliver((json.dumps(function.message("L-1")), {})) == []
    assert len(deployed.sent) == 1


def test_an_event_posted_again_whose_row_is_of_the_next_version_is_queued_and_not_sent(function, deployed, queue):
    function.post(function.message("L-1"))
    row = only(function.kind)
    before = rewrite(function.kind, row.reference)
    queue()
    status, _, _ = function.post(function.message("L-1"), Prefer="wait")
    assert (status, deployed.sent) == (202, [])
    assert len(queue()) == 1
    assert item(function.kind, row.reference) == before


# --- what is kept -------------------------------------------------------------------------------------------------


@pytest.fixture
def unknown(function, deployed, deliver):
    """A submission of unknown outcome, which is kept."""
    deployed.answers = [(500, {})]
    deliver((json.dumps(function.message("L-1")), {}))
    return only(function.kind)


def test_what_is_kept_goes_from_version_to_version(unknown, the_next_one):
    kept = Kept.at(unknown.payload)
    with the_next_one:
        assert runtime.payloads().load(kept).reference == unknown.reference
        runtime.payloads().keep(runtime.payloads().load(kept))
    with pytest.raises(NewerVersion):
        runtime.payloads().load(kept)


def test_a_pointer_of_the_next_version_waits(function, unknown, deliver, the_next_one):
    with the_next_one:
        pointer = Kept.at(unknown.payload).pointer
    for body in (pointer, pointer.replace(', "v"', ', "because": "of something new", "v"')):
        ((_, seconds),) = deliver((body, {}))
        assert seconds == 3600


def test_housekeeping_leaves_alone_what_is_of_the_next_version(function, unknown, context):
    housekeeping = runtime.housekeeping()
    states = ("SENDING", "RETRY", "UNKNOWN", "QUEUED", "PONDERING")
    for state in states:
        kind_state = {"S": f"{runtime.settings().ledger_scope}#{function.kind}#{state}"}
        more = {"kind_state": kind_state, "lease_until": {"N": "1"}, "requeue": {"BOOL": True}}
        before = rewrite(
            function.kind, unknown.reference, state={"S": state}, updated_at={"S": "2026-01-01T00:00:00"}, **more
        )
        assert [housekeeping.expire_claims(), housekeeping.requeue(), housekeeping.find_stuck()] == [0, 0, 0]
        assert [housekeeping.send_again(), housekeeping.forget_settled(), housekeeping.report()] == [0, 0, 0]
        assert item(function.kind, unknown.reference) == before
    assert runtime.payloads().load(Kept.at(unknown.payload))


# --- who reads ----------------------------------------------------------------------------------------------------


def test_a_reader_is_told_that_a_newer_version_goes_on_with_it(function, console, unknown):
    rewrite(function.kind, unknown.reference, state={"S": "PONDERING"})
    path = f"/submissions/{function.kind}/{unknown.reference}"
    status, body = console(path)
    assert (status, body["type"]) == (409, "urn:kiva-relay:problem:newer-version")
    decision = {"decision": "abandon", "reason": "to be rid of it"}
    assert console(f"{path}/decision", decision)[0] == 409


def test_lists_leave_it_out_and_go_on(function, console, deliver, unknown):
    deliver((json.dumps(function.message("L-2")), {}))
    rewrite(function.kind, unknown.reference, loan_id={"S": f"{runtime.settings().ledger_scope}#L-2"})
    status, body = console("/submissions", loan_id="L-2")
    assert (status, [each["state"] for each in body["submissions"]]) == (200, [State.ACCEPTED])
    assert console("/waiting")[1]["counts"]["unknown"] == 0
    assert console("/health")[0] == 200
