"""Handlers called as Lambda calls them: real settings, moto's AWS, Kiva at the edge of `requests`."""

import boto3
import pytest
import time_machine

from handlers import Function
from kiva_partner.messages import Kind


@pytest.fixture(params=list(Kind))
def function(request, deployed, context):
    return Function(request.param, context)


@pytest.fixture
def waiting(queue_urls):
    """Takes what lies in the queue, or in the dead-letter queue."""

    def take(which="queue"):
        url = queue_urls[0] if which == "queue" else queue_urls[1]
        found = boto3.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        return found.get("Messages", [])

    return take


@pytest.fixture
def time_passes():
    """Lets so many seconds pass."""
    with time_machine.travel("2026-11-28T12:00:00Z", tick=False) as traveller:
        yield traveller.shift
