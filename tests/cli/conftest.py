"""The relay command as its users run it, at a stack whose API is in the test's hand."""

import json
from copy import deepcopy
from dataclasses import dataclass, field

import pytest
import time_machine
from typer.testing import CliRunner

from cli import app as command
from cli import submit
from cli.relay_api import Refused, Reply
from cli.stacks import NoSuchStack
from fakes import FakeStack
from kiva_partner.errors import InvalidMessage
from kiva_partner.messages import parse
from kiva_partner.settings import AmountMode, PartnerRules
from relay_answers import WELL

KIND_OF_ROUTE = {route: kind for kind, route in submit.ROUTES.items()}


@dataclass
class FakeRelay:
    """The relay's API without a stack: takes everything in by the layer's rules, and ends it as the test wants.

    `answers` come first, for whoever POSTs next; `ending` names the state of a loan, by default ACCEPTED. What was
    taken in is QUEUED until it is looked at.
    """

    rules: PartnerRules
    answers: list = field(default_factory=list)
    ending: dict = field(default_factory=dict)
    lists: dict = field(default_factory=dict)
    posted: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    known: dict = field(default_factory=dict)
    health: dict = field(default_factory=lambda: deepcopy(WELL))

    def post(self, *path, body, **headers):
        self.posted.append((path, json.loads(body)))
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            if answer:
                return Reply(200, answer)
        kind = KIND_OF_ROUTE[path[0]]
        try:
            message = parse(kind, body.decode(), self.rules)
        except InvalidMessage as error:
            raise Refused(400, {"title": "The message breaks a rule", "errors": []}) from error
        shown = [self.shown(kind, it.reference, it.loan_id, "QUEUED") for it in message.submissions]
        reference = shown[0]["reference"] if len(shown) == 1 else message.reference
        self.known[kind, reference] = shown
        return Reply(202, self._answer(kind, reference))

    def get(self, *path, **query):
        self.asked.append((path, query))
        match path:
            case ("submissions", kind, reference):
                if (kind, reference) not in self.known:
                    raise Refused(404, {"title": "No submission of this kind has this reference"})
                for each in self.known[kind, reference]:
                    each.update(state=self.ending.get(each["loan_id"], "ACCEPTED"))
                return self._answer(kind, reference)
            case ("submissions",) if "loan_id" in query:
                return {"submissions": self.lists.get(query["loan_id"], [])}
            case ("submissions",):
                found = self.lists.get((query["kind"], query["state"]), [])
                return {"submissions": [it for it in found if it["updated_at"] >= query.get("since", "")]}
            case ("loans",):
                found = self.lists.get(("loans", query.get("status", "")), [])
                page = found[query["offset"] : query["offset"] + query["limit"]]
                return {"total_records": len(found), "loans": page}
            case ("check" | "config" as name, *_):
                return self.lists[name]
            case ("health",):
                return self.health

    def _answer(self, kind, reference):
        shown = self.known[kind, reference]
        return shown[0] if len(shown) == 1 else {"kind": kind, "reference": reference, "submissions": shown}

    @staticmethod
    def shown(kind, reference, loan_id, state, **more):
        """A submission as the API shows it."""
        times = {"created_at": "2026-11-25T10:00:00+00:00", "updated_at": "2026-11-25T10:00:05+00:00"}
        first = {"kind": kind, "reference": reference, "loan_id": loan_id, "state": state}
        return {**first, "next_step": "look in PA2", "attempts": 1, **times, **more}

    def note(self, submission):
        """Let it be known under its reference."""
        self.known[submission["kind"], submission["reference"]] = [submission]
        self.ending[submission["loan_id"]] = submission["state"]


RULES = PartnerRules(needs_client_id=False, amount_mode=AmountMode.CUMULATIVE_PRINCIPAL, max_image_bytes=5 * 2**20)


@pytest.fixture
def relay():
    return FakeRelay(RULES)


@pytest.fixture
def stack(relay):
    return FakeStack(
        {"KivaEnvironment": "sandbox", "KivaPartnerId": "9001", "PayloadBucketName": "payloads"},
        {"CsvColumns": "2", "RepaymentAmountMode": "cumulative_principal"},
        api=relay,
    )


@pytest.fixture
def pauses(monkeypatch):
    """The pauses that were made, of which none lasts."""
    made = []
    monkeypatch.setattr(command.time, "sleep", made.append)
    return made


@pytest.fixture
def somebody(monkeypatch):
    """A person who can be asked."""
    monkeypatch.setattr("cli.show.somebody_answers", lambda: True)


@pytest.fixture
def run(stack, pauses, monkeypatch):
    """Run the command, in November 2026; gives what CliRunner gives. `typed` is what somebody answers to questions."""

    def the_stack_of(stage):
        if stage not in ("local", "prod"):
            raise NoSuchStack(f"samconfig.toml has no environment {stage!r}; it has local, prod")
        return stack

    monkeypatch.setattr(command, "stack_of", the_stack_of)
    monkeypatch.setenv("COLUMNS", "160")

    def run_it(*arguments, typed=""):
        with time_machine.travel("2026-11-28T10:00:00Z", tick=False):
            return CliRunner().invoke(command.app, list(map(str, arguments)), input=typed)

    return run_it


@pytest.fixture
def write(tmp_path):
    """Write a file of lines, of JSON, or of bytes."""

    def write_file(name, content):
        file = tmp_path / name
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write_file
