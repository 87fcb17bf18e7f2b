"""The poller does as AWS says; and no answer of the three functions has it delete what was not dealt with."""

import pytest

from fakes import FakeClock
from faults.poller import Died, EventSource, Queue, Sqs, SqsError, failures


@pytest.fixture
def clock():
    return FakeClock(0.0)


@pytest.fixture
def queue(clock):
    dead_letters = Queue("dead-letters", clock, retention=14 * 86_400)
    return Queue("work", clock, visibility_timeout=100, dead_letters=dead_letters, max_receive_count=3)


def bodies(records):
    return [record["body"] for record in records]


# --- the queue ---


def test_a_message_is_hidden_for_its_visibility_timeout_and_then_comes_again(queue, clock):
    queue.send("a")
    assert bodies(queue.receive(10)) == ["a"]
    clock.advance(99)
    assert queue.receive(10) == []
    clock.advance(1)
    (record,) = queue.receive(10)
    assert record["attributes"]["ApproximateReceiveCount"] == "2"


def test_a_visibility_is_changed_by_the_latest_handle_alone(queue, clock):
    queue.send("a")
    (first,) = queue.receive(10)
    queue.change_visibility(first["receiptHandle"], 10)
    clock.advance(10)
    (second,) = queue.receive(10)
    with pytest.raises(SqsError, match="ReceiptHandleIsInvalid"):
        queue.change_visibility(first["receiptHandle"], 10)
    queue.delete(first["receiptHandle"])
    assert len(queue.messages) == 1
    queue.delete(second["receiptHandle"])
    assert queue.messages == []


@pytest.mark.parametrize("seconds", [-1, 43_201, 1.5, "5"])
def test_a_visibility_has_whole_seconds_up_to_12_hours(queue, seconds):
    queue.send("a")
    (record,) = queue.receive(10)
    with pytest.raises(SqsError, match="InvalidParameterValue"):
        queue.change_visibility(record["receiptHandle"], seconds)


def test_nobody_holds_a_message_for_more_than_12_hours(queue, clock):
    queue.send("a")
    (record,) = queue.receive(10)
    queue.change_visibility(record["receiptHandle"], 43_000)
    clock.advance(40_000)
    with pytest.raises(SqsError, match="12 hours"):
        queue.change_visibility(record["receiptHandle"], 3_600)


def test_a_visibility_that_ran_out_cannot_be_changed(queue, clock):
    queue.send("a")
    (record,) = queue.receive(10)
    clock.advance(100)
    with pytest.raises(SqsError, match="MessageNotInflight"):
        queue.change_visibility(record["receiptHandle"], 10)


def test_a_message_received_too_often_goes_to_the_dead_letters_with_its_id_and_age(queue, clock):
    sent = queue.send("a")
    for _ in range(3):
        assert len(queue.receive(10)) == 1
        clock.advance(100)
    assert queue.receive(10) == []
    (dead,) = queue.dead_letters.messages
    assert (dead.message_id, dead.sent_at) == (sent, 0)


def test_what_nobody_deletes_expires_and_a_dead_letter_counts_from_its_first_day(queue, clock):
    queue.send("a")
    queue.send("b")
    clock.advance(7 * 86_400)
    assert (queue.messages, len(queue.expired)) == ([], 2)


def test_a_purged_queue_holds_nothing(queue):
    queue.send("a")
    (record,) = queue.receive(10)
    queue.send("b")
    queue.purge()
    queue.delete(record["receiptHandle"])
    assert (queue.messages, len(queue.expired)) == ([], 2)


def test_a_redriven_message_is_a_new_one(queue, clock):
    for _ in range(3):
        queue.receive(10)
    sent = queue.dead_letters.send("a")
    clock.advance(1_000)
    (moved,) = queue.dead_letters.redrive(queue)
    (record,) = queue.receive(10)
    assert sent != moved == record["messageId"]
    assert record["attributes"] | {"SentTimestamp": "1000000", "ApproximateReceiveCount": "1"} == record["attributes"]


def test_a_message_may_be_delivered_while_somebody_has_it(queue):
    queue.send("a")
    (first,) = queue.receive(10)
    (second,) = queue.duplicate()
    assert first["messageId"] == second["messageId"]
    assert first["receiptHandle"] != second["receiptHandle"]


def test_the_calls_of_the_functions_are_boto3s(queue):
    sqs = Sqs(queue)
    sqs.send_message(
        QueueUrl=queue.url, MessageBody="a", MessageAttributes={"Reason": {"DataType": "String", "StringValue": "why"}}
    )
    (record,) = queue.receive(10)
    assert record["messageAttributes"] == {"Reason": {"stringValue": "why", "dataType": "String"}}
    entries = [
        {"Id": "0", "ReceiptHandle": record["receiptHandle"], "VisibilityTimeout": 5},
        {"Id": "1", "ReceiptHandle": "of nobody", "VisibilityTimeout": 5},
    ]
    answer = sqs.change_message_visibility_batch(QueueUrl=queue.url, Entries=entries)
    assert [entry["Id"] for entry in answer["Successful"]] == ["0"]
    assert [entry["Id"] for entry in answer["Failed"]] == ["1"]
    for wrong in ([], entries[:1] * 2, [{**entries[0], "Id": str(number)} for number in range(11)]):
        with pytest.raises(SqsError):
            sqs.change_message_visibility_batch(QueueUrl=queue.url, Entries=wrong)


# --- the event source mapping ---

DELETES_ALL = [{"batchItemFailures": []}, {"batchItemFailures": None}, {}, None, {"BatchItemFailures": []}]
KEEPS_ALL = [
    {"batchItemFailures": [{"itemIdentifier": "of another batch"}]},
    {"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "of another batch"}]},
    {"batchItemFailures": [{"itemIdentifier": ""}]},
    {"batchItemFailures": [{"itemIdentifier": None}]},
    {"batchItemFailures": [{"ItemIdentifier": "a"}]},
    {"batchItemFailures": ["a"]},
    {"batchItemFailures": "a"},
    {"batchItemFailures": {"itemIdentifier": "a"}},
    [{"itemIdentifier": "a"}],
    "not a dict",
    {"batchItemFailures": {1, 2}},
    {"batchItemFailures": [], "not": float("nan")},
    ValueError("uncaught"),
    Died(),
]


@pytest.mark.parametrize("response", DELETES_ALL, ids=repr)
def test_an_answer_without_failures_deletes_the_whole_batch(response):
    assert failures(response, ["a", "b"]) == set()


@pytest.mark.parametrize("response", KEEPS_ALL, ids=repr)
def test_an_answer_that_lambda_cannot_read_keeps_the_whole_batch(response):
    assert failures(response, ["a", "b"]) == {"a", "b"}


def test_of_a_partial_failure_the_rest_is_deleted(queue, clock):
    queue.send("a")
    queue.send("b")
    source = EventSource(queue, lambda event: {"batchItemFailures": [{"itemIdentifier": first(event)}]})
    assert source.poll() == 2
    assert [message.body for message in queue.messages] == ["a"]
    assert source.poll() == 0
    clock.advance(100)
    assert source.poll() == 1


def first(event):
    return event["Records"][0]["messageId"]


@pytest.mark.parametrize("error", [ValueError(), Died()], ids=repr)
def test_what_a_function_raises_keeps_the_batch(queue, error):
    queue.send("a")

    def handler(event):
        raise error

    EventSource(queue, handler).poll()
    assert len(queue.messages) == 1


def test_a_batch_is_no_larger_than_its_size_and_draining_takes_them_all(queue):
    sizes = []
    for _ in range(25):
        queue.send("a")
    EventSource(queue, lambda event: sizes.append(len(event["Records"])), batch_size=10).drain()
    assert sizes == [10, 10, 5]
    assert queue.messages == []
