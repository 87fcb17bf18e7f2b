"""Handlers called as Lambda calls them: real settings, moto's AWS, Kiva at the edge of `requests`."""

import json
from importlib import import_module

import boto3
import pytest

from deployment import FUNCTIONS
from fakes import Context
from invocations import batch, request
from kiva_partner.messages import Kind

BORROWER = ("Canary-Akinyi", "Canary-Odhiambo", "canary story of her stall", "canary subject", "canary body")
"""Planted values that must show nowhere; the token and the secret of tests/fakes.py are called canary too."""


def draft(loan="L-1", **fields):
    entrep = {
        "client_id": "C-1",
        "loan_id": loan,
        "first_name": "Canary-Akinyi",
        "last_name": "Canary-Odhiambo",
        "gender": "female",
        "amount": 100,
    }
    return {"currency": "KES", "description": "canary story of her stall", "entreps": [entrep], **fields}


def journals(loan="L-1", **fields):
    item = {"internal_loan_id": loan, "internal_client_id": "C-1", "subject": "canary subject", "body": "canary body"}
    return {"journals": [item], **fields}


def repayments(loan="L-1", **fields):
    return {"period": "2026-10", "repayments": [{"loan_id": loan, "client_id": "C-1", "amount": 100.5}], **fields}


MESSAGES = {Kind.LOAN_DRAFT: draft, Kind.JOURNAL_UPDATE: journals, Kind.REPAYMENT: repayments}


class Function:
    """One of the three functions behind a queue and a route."""

    def __init__(self, kind, context):
        self.kind = kind
        self.handler = import_module(f"{FUNCTIONS[kind]}.app").handler
        self.context = context
        self.message = MESSAGES[kind]

    def batch(self, *bodies):
        """Deliver messages m0, m1, …; gives the ids of those that are to come again."""
        texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
        response = self.handler(batch(*texts), self.context)
        return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]

    def post(self, body, **headers):
        """POST to the route; gives status, body and headers."""
        text = body if isinstance(body, str) else json.dumps(body)
        response = self.handler(request("POST", "/x", text, headers=headers), self.context)
        return response["statusCode"], json.loads(response["body"]), response["headers"]


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
    """GET a path of the console, or POST when there is a body; gives status and body."""
    handler = import_module("console.app").handler

    def ask(path, body=None, **query):
        text = body if body is None or isinstance(body, str) else json.dumps(body)
        response = handler(request("GET" if body is None else "POST", path, text, query=query), context)
        return response["statusCode"], json.loads(response["body"])

    return ask
