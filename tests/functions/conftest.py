"""Handlers called as Lambda calls them: real settings, moto's AWS, Kiva at the edge of `requests`."""

import boto3
import pytest

from fakes import Context
from handlers import Console, Function
from kiva_partner.messages import Kind


@pytest.fixture
def context():
    return Context()


@pytest.fixture(params=list(Kind))
def function(request, deployed, context):
    return Function(request.param, context)


@pytest.fixture
def drafts(deployed, context):
    return Function(Kind.LOAN_DRAFT, context)


@pytest.fixture
def reports(deployed, context):
    return Function(Kind.REPAYMENT, context)


@pytest.fixture
def waiting(queue_urls):
    """Takes what lies in the queue, or in the dead-letter queue."""

    def take(which="queue"):
        url = queue_urls[0] if which == "queue" else queue_urls[1]
        found = boto3.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        return found.get("Messages", [])

    return take


@pytest.fixture
def console(deployed, context):
    return Console(context)
