"""The functions called as Lambda calls them, and messages of a borrower who must be seen nowhere but at Kiva."""

import json
from importlib import import_module

from deployment import FUNCTIONS
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

    def batch(self, *bodies, attributes=None, delivery=1, age=0):
        """Deliver messages m0, m1, …; gives the ids of those that are to come again."""
        texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
        response = self.handler(batch(*texts, attributes=attributes, delivery=delivery, age=age), self.context)
        return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]

    def post(self, body, **headers):
        """POST to the route; gives status, body and headers."""
        text = body if isinstance(body, str) else json.dumps(body)
        response = self.handler(request("POST", "/x", text, headers=headers), self.context)
        return response["statusCode"], json.loads(response["body"]), response["headers"]


class Console:
    """The function that people and systems read."""

    def __init__(self, context):
        self.handler = import_module("console.app").handler
        self.context = context

    def __call__(self, path, body=None, base_path="", **query):
        """GET a path, or POST when there is a body; gives status and body."""
        text = body if body is None or isinstance(body, str) else json.dumps(body)
        event = request("GET" if body is None else "POST", path, text, query=query, base_path=base_path)
        response = self.handler(event, self.context)
        return response["statusCode"], json.loads(response["body"])
