import pytest

from kiva_partner.queues import LONGEST_WAIT, Queues


class Sqs:
    """SQS as far as waiting needs it: remembers what it was asked, so that the seconds can be read."""

    def __init__(self):
        self.calls = []
        self.answer = {}

    def change_message_visibility_batch(self, **call):
        self.calls.append(call)
        return self.answer


@pytest.fixture
def sqs():
    return Sqs()


@pytest.fixture
def waits(sqs):
    """The seconds that messages wait, for the deliveries each has had, when chance takes its share of the most."""

    def wait(*deliveries, share=1.0, at_least=0):
        queues = Queues(
            lambda: sqs, None, "https://sqs.test/queue", "", jitter=lambda least, most: least + share * (most - least)
        )
        records = [
            {"receiptHandle": f"handle-{number}", "attributes": {"ApproximateReceiveCount": str(count)}}
            for number, count in enumerate(deliveries)
        ]
        queues.put_off((record, at_least) for record in records)
        return [entry["VisibilityTimeout"] for call in sqs.calls for entry in call["Entries"]]

    return wait


def test_each_delivery_doubles_the_most_that_a_message_waits_up_to_an_hour(waits):
    assert waits(1, 2, 3, 4, 5, 6, 7, 8, 9, 1000) == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_it_waits_half_of_that_at_least_and_the_rest_by_chance(waits, sqs):
    assert waits(1, 8, share=0.5) == [22, 2700]
    sqs.calls.clear()
    assert waits(1, 8, share=0) == [15, 1800]


def test_what_kiva_asks_for_is_the_least_and_an_hour_the_most(waits, sqs):
    assert waits(1, share=0.5, at_least=120) == [142]
    sqs.calls.clear()
    assert waits(1, share=0, at_least=120) == [135]
    sqs.calls.clear()
    assert waits(8, share=1, at_least=3000) == [LONGEST_WAIT]


def test_sqs_is_asked_once_for_ten_messages(waits, sqs):
    waits(*[1] * 23)
    assert [len(call["Entries"]) for call in sqs.calls] == [10, 10, 3]
    assert [entry["ReceiptHandle"] for call in sqs.calls for entry in call["Entries"]] == [
        f"handle-{number}" for number in range(23)
    ]
    assert all(len({entry["Id"] for entry in call["Entries"]}) == len(call["Entries"]) for call in sqs.calls)


def test_nothing_to_put_off_asks_nothing(waits, sqs):
    waits()
    assert sqs.calls == []


def test_what_sqs_does_not_take_is_said(waits, sqs, caplog):
    sqs.answer = {"Failed": [{"Id": "0"}]}
    waits(1, 1)
    assert "1 messages wait for the visibility timeout of their queue" in caplog.text
