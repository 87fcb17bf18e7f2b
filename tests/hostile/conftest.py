"""The functions as Lambda calls them, and what they wrote to stdout, line by line."""

import json
from importlib import import_module

import boto3
import pytest

from deployment import FUNCTIONS
from fakes import Context
from hostile.oracle import UNPRINTABLE, Oracle
from invocations import batch, request


@pytest.fixture(scope="session")
def oracle():
    return Oracle()


@pytest.fixture
def deliver(deployed):
    """Gives texts to a kind's function in one batch; gives the numbers of those that are to come again."""

    def give(kind, bodies):
        return import_module(f"{FUNCTIONS[kind]}.app").handler(batch(*bodies), Context())["batchItemFailures"]

    return give


@pytest.fixture
def ask(deployed):
    """A request of API Gateway to the function of a kind, or to the console; gives its answer."""

    def give(function, method, path, **parts):
        event = request(method, path, **parts)
        return import_module(f"{FUNCTIONS.get(function, function)}.app").handler(event, Context())

    return give


@pytest.fixture
def dead_letters(queue_urls):
    def receive():
        found = boto3.client("sqs").receive_message(
            QueueUrl=queue_urls[1], MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        )
        return found.get("Messages", [])

    return receive


@pytest.fixture
def log(capsys):
    """What was written since: every line is one JSON object, and none can take a terminal over."""

    def lines():
        written = capsys.readouterr().out.split("\n")
        assert written.pop() == ""
        for line in written:
            assert isinstance(json.loads(line), dict)
            assert not UNPRINTABLE.search(line), line
        return written

    return lines
