"""What `relay verify` tries, without a stack: that it tries all there is, and says what was not as it should be."""

import json
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from cli import app as command
from cli.relay_api import Refused, Reply
from cli.verify import NOT_EMBEDDED, ROUTES, Verification
from kiva_partner.openapi import document

TEXT = "Zebedea was here"


class Broken:
    """A stack of which nothing answers as it should."""

    name = "kiva-relay-stage"

    def __init__(self, environment="stage", endpoint=None):
        self.environment = environment
        self.endpoint = endpoint
        self.session = SimpleNamespace(client=lambda service, **_: self.client(service))

    @property
    def api(self):
        def answer(*_, **__):
            raise Refused(503, {"title": "Not now"})

        return SimpleNamespace(url="http://127.0.0.1:1", get=answer, post=answer)

    def output(self, name):
        return self.environment if name == "KivaEnvironment" else name

    def client(self, service):
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": TEXT}}, f"Any of {service}")


def test_every_route_of_the_api_is_called():
    described = {
        (method.upper(), path)
        for path, item in document()["paths"].items()
        for method in item
        if method in ("get", "post", "put", "patch", "delete")
    }
    assert set(ROUTES) == described


def test_what_is_called_changes_nothing():
    writing = {route: expected for route, (method, *_, expected) in ROUTES.items() if method == "POST"}
    assert set(writing.values()) <= {400, 404}


def test_where_nothing_answers_nothing_is_as_it_should_be():
    steps = list(Verification(Broken(), seconds=0, sleep=lambda _: None).lines(draft=True))
    assert {step.verdict for step in steps} == {"bad"}
    assert {step.name for step in steps} > {"outcome event", "units", "digest", "alarms", "logs", "loan draft"}
    assert TEXT not in repr(steps)


def test_what_the_embedded_aws_has_not_is_named_and_not_passed_over():
    steps = {it.name: it for it in Verification(Broken(endpoint="http://127.0.0.1:1"), seconds=0).lines(draft=False)}
    not_tried = {name: it.detail for name, it in steps.items() if it.verdict == "unseen"}
    assert not_tried == NOT_EMBEDDED


def test_a_step_that_comes_otherwise_says_how():
    stack = Broken()
    verification = Verification(stack, seconds=0)
    route = verification._route(("GET", "/waiting"))
    assert verification._line("GET /waiting", route).detail == "Not now"

    class Careless(Broken):
        api = SimpleNamespace(url="", post=lambda *_, **__: Reply(202, {}))

    verification = Verification(Careless(), seconds=0)
    step = verification._line("POST /repayments", verification._route(("POST", "/repayments")))
    assert (step.verdict, step.detail) == ("bad", "HTTP 202 and not 400")


@pytest.fixture
def relay(monkeypatch):
    def run(stack, *arguments):
        monkeypatch.setattr(command, "stack_of", lambda _: stack)
        return CliRunner().invoke(command.app, ["verify", *arguments])

    return run


def test_a_draft_that_is_none_never_goes_to_production(relay):
    ran = relay(Broken("production"), "--draft", "--yes")
    assert ran.exit_code == 2
    assert "test environment" in ran.output


def test_production_is_tried_after_more_than_a_keystroke(relay, monkeypatch):
    monkeypatch.setattr(Verification, "lines", lambda *_, **__: pytest.fail("tried"))
    ran = relay(Broken("production"))
    assert (ran.exit_code, "Type production" in ran.output) == (130, True)


def test_the_command_tells_what_is_not_as_it_should_be_and_exits_with_1(relay, monkeypatch):
    steps = Verification.lines
    monkeypatch.setattr(Verification, "lines", lambda self, **it: steps(Verification(self.stack, seconds=0), **it))
    ran = relay(Broken(), "--yes", "--json")
    told = json.loads(ran.stdout)["lines"]
    assert (ran.exit_code, {it["verdict"] for it in told}) == (1, {"bad"})
