"""Handlers called as Lambda calls them: real settings, moto's AWS, Kiva at the edge of `requests`."""

from importlib import import_module

import boto3
import pytest
import time_machine
from botocore.client import BaseClient

from handlers import Function
from kiva_partner.messages import Kind
from roles import allows, calls

FUNCTIONS = {
    "loan_drafts": "LoanDraftsFunction",
    "journal_updates": "JournalUpdatesFunction",
    "repayments": "RepaymentsFunction",
    "console": "ConsoleFunction",
    "housekeeping": "HousekeepingFunction",
    "outcomes": "OutcomesFunction",
}
"""Folder of a function -> its logical id in template.yaml."""


@pytest.fixture(autouse=True)
def allowed(monkeypatch):
    """Fails a test in which a function asks DynamoDB for what its role in template.yaml does not allow; gives that."""
    running, refused = [], set()

    def run_as(name, handler):
        def run(event, context):
            running.append(name)
            try:
                return handler(event, context)
            finally:
                running.pop()

        return run

    for folder, name in FUNCTIONS.items():
        app = import_module(f"{folder}.app")
        monkeypatch.setattr(app, "handler", run_as(name, app.handler))
    call = BaseClient._make_api_call

    def watched(client, operation, request):
        if running and client.meta.service_model.service_name == "dynamodb":
            refused.update((running[-1], *it) for it in calls(operation, request) if not allows(running[-1], it))
        return call(client, operation, request)

    monkeypatch.setattr(BaseClient, "_make_api_call", watched)
    yield lambda: refused
    assert refused == set()


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
