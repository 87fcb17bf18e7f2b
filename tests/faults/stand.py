"""One function with all that is around it, while something is at fault; and the books of what comes of it.

The real handlers in this process; Kiva and the payload bucket on sockets; time that the test moves on.
"""

import json
import time
import traceback
from collections import Counter
from contextlib import contextmanager
from copy import replace
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from itertools import groupby
from operator import itemgetter

import pytest
from botocore.config import Config

from deployment import FUNCTIONS, TABLE, credentials, variables
from fakes import Context
from faults.canaries import CLIENT_ID, CLIENT_SECRET, LOAN, MESSAGES, PHOTO_KEY, PREVIOUS_SECRET, STORED_TOKEN, found
from faults.faults import Fate, Fault, close_unread
from faults.in_process import DynamoDb
from faults.kiva_stub import GET, IMAGE, POST, TOKEN
from faults.poller import EventSource, Queue, Sqs
from faults.stage import Secrets
from invocations import request
from kiva_answers import SCOPES
from kiva_partner import runtime, tokens
from kiva_partner.breaker import FIRST_PAUSE, Breaker
from kiva_partner.decisions import Choice, Decision
from kiva_partner.ledger import State
from kiva_partner.messages import Kind
from kiva_partner.settings import Settings
from kiva_partner.tokens import Token

HOUR = 3600
PATIENT, IMPATIENT = 20, 0.3
"""Seconds for a phase that ends by itself on however slow a machine, and for one that never would."""

DELETED, COMES_AGAIN, DEAD_LETTER = "is deleted", "comes again", "is a dead letter"
AT_ONCE = {
    Fate.ACCEPTED: (State.ACCEPTED, DELETED),
    Fate.REJECTED: (State.REJECTED, DELETED),
    Fate.UNKNOWN: (State.UNKNOWN, DELETED),
    Fate.RETRY: (State.RETRY, COMES_AGAIN),
}


class Surface(StrEnum):
    """Where people see who may not see a borrower or a secret. What is searched for canaries.

    The body of a message is exempt, in its queue and among the dead letters: it is the producer's own, and would be of
    no use without what it says. So is the bucket's content, which is what Kiva gets.
    """

    LOGS = "logs"
    METRICS = "metrics"
    STDERR = "stderr"
    LEDGER = "ledger"
    LETTERS = "attributes of dead letters"
    KEYS = "keys of the bucket"
    RETURNED = "what functions return"
    API = "answers of the API"
    COMMANDS = "what commands print"


class World:
    """The functions with all that is around them: Kiva and the bucket on sockets, the rest of AWS in this process."""

    def __init__(self, kind, kiva, clock, aws_session, monkeypatch):
        self.kind = kind
        self.kiva = kiva
        self.clock = clock
        self.dead_letters = Queue("dead-letters", time.time)
        self.queue = Queue("queue", time.time, dead_letters=self.dead_letters)
        self._handler = import_module(f"{FUNCTIONS[kind]}.app").handler
        self._source = EventSource(self.queue, lambda event: self._handler(event, Context()))
        self._table = DynamoDb()
        secrets = Secrets()
        for secret in (PREVIOUS_SECRET, CLIENT_SECRET):
            secrets.put_secret_value(SecretId="credentials", SecretString=credentials(secret, client_id=CLIENT_ID))
        self._aws_session = aws_session
        self.said = []
        self._clients = {
            "dynamodb": self._table,
            "secretsmanager": secrets,
            "sqs": Sqs(self.queue, self.dead_letters),
        }
        environment = variables(self.queue.url, self.dead_letters.url)
        self._settings = Settings.from_environment(environment)
        monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", environment["POWERTOOLS_SERVICE_NAME"])
        monkeypatch.setattr(runtime, "aws", lambda service: lambda: self._clients[service])
        monkeypatch.setattr(runtime, "settings", lambda: self._settings)
        self.wait_for()

    def wait_for(self, slow=""):
        """In an execution environment that has little patience with a phase that never ends."""
        connecting, answering = (IMPATIENT if slow == phase else PATIENT for phase in ("connecting", "answering"))
        self._settings = replace(self._settings, connect_timeout=connecting, read_timeout=answering)
        config = Config(
            connect_timeout=connecting,
            read_timeout=answering,
            retries={"mode": "standard", "total_max_attempts": 1},
            request_checksum_calculation="when_required",  # else a body comes in chunks, with a trailer
        )
        self._clients["s3"] = self._aws_session.create_client("s3", config=config)
        runtime.forget()

    def send(self):
        self.queue.send(json.dumps(MESSAGES[self.kind]()))

    def deliver(self):
        self.kiva.arrivals = 0
        self._source.drain()

    def post(self, body, **headers):
        """POST to the function's route; gives the status."""
        answer = self._handler(request("POST", "/x", body, headers=headers), Context())
        self.said.append((Surface.API, json.dumps(answer)))
        return answer["statusCode"]

    def ask(self, path, body=None, **query):
        """GET a path of the console, or POST when there is a body; gives status and answer."""
        event = request("POST" if body else "GET", path, body, query=query)
        answer = import_module("console.app").handler(event, Context())
        # Kiva's own list is shown as it is, names included; of it a test has to speak for itself.
        if path != "/loans":
            self.said.append((Surface.API, json.dumps(answer)))
        return answer["statusCode"], answer["body"]

    def keep_house(self, *, may_fail=False):
        try:
            done = import_module("housekeeping.app").handler({}, Context())
        except Exception as error:  # noqa: BLE001 Lambda would call it a failure, whatever it is
            done = None
            self.said.append((Surface.LOGS, traceback.format_exc()))  # Lambda prints it
            if not may_fail:
                raise AssertionError(f"housekeeping failed: {type(error).__name__}") from None
        self.said.append((Surface.RETURNED, json.dumps(done)))

    @contextmanager
    def fault(self, point, fault):
        if fault.slow:
            self.wait_for(fault.slow)
        self.kiva.fail(point, fault)
        yield
        self.kiva.heal()
        if fault.slow:
            self.wait_for()

    @contextmanager
    def failing(self, service, stand_in):
        """With another client of a service of AWS."""
        client, self._clients[service] = self._clients[service], stand_in
        runtime.forget()
        yield
        self._clients[service] = client
        runtime.forget()

    def row(self):
        (row,) = runtime.ledger().list_by_loan(LOAN).rows or [None]
        return row

    def rows(self, state):
        return list(runtime.ledger().every(self.kind, state))

    def message(self):
        if self.queue.messages:
            return COMES_AGAIN
        return DEAD_LETTER if self.dead_letters.messages else DELETED

    def texts(self):
        """Everything that is to be searched and is not printed."""
        yield from self.said
        yield from ((Surface.LEDGER, json.dumps(item)) for item in self._table.items())
        yield from ((Surface.LETTERS, json.dumps(letter.attributes)) for letter in self.dead_letters.messages)
        yield from ((Surface.KEYS, key) for key in self.kiva.objects if key != PHOTO_KEY)
        yield from ((Surface.RETURNED, repr(response)) for response in self._source.responses)

    def prepare(self, point):
        """See to it that a delivery comes to this point."""
        if point != TOKEN:
            a_token_an_hour_old(self)
        if point == GET:
            half_open(self)
        if point == IMAGE and self.kind is not Kind.LOAN_DRAFT:
            decided_to_be_sent_again(self)


def a_token_an_hour_old(world):
    token = Token(STORED_TOKEN, frozenset(SCOPES.split()), time.time() - HOUR, time.time() + 10 * HOUR)
    text = tokens._to_text(token, {}, runtime.settings())
    runtime.aws("secretsmanager")().put_secret_value(SecretId="token", SecretString=text)


def without_doubts():
    """The breaker has forgotten what it knew, and the table is a fresh one."""
    runtime.aws("dynamodb")().delete_item(
        TableName=TABLE, Key={"pk": {"S": f"{runtime.settings().ledger_scope}#sending"}}
    )


def half_open(world):
    """Three answers in a row left doubts, and the pause that came of it is over."""
    breaker = Breaker(runtime.sending())
    assert breaker.note(world.kind, [False] * 3, trial=False)
    world.clock.shift(FIRST_PAUSE + 1)


def decided_to_be_sent_again(world):
    """Instead of the message there is one that points to the payload that was kept."""
    unknown(world, close_unread)
    world.clock.shift(HOUR)
    again = Decision(decision=Choice.SEND_AGAIN, reason="it is not in PA2")
    runtime.decisions().decide(world.row(), again, "somebody")
    world.keep_house()
    assert "kept" in world.queue.messages[0].body


def unknown(world, act):
    with world.fault(POST, Fault("", act)):
        world.deliver()
    assert world.row().state is State.UNKNOWN


# --- the books --------------------------------------------------------------------------------------------------------


@dataclass
class Search:
    """How many cases were searched for canaries, by kind; in how many one was seen; and how many texts, by surface."""

    cases: Counter[Kind] = field(default_factory=Counter)
    seen: Counter[Kind] = field(default_factory=Counter)
    texts: Counter[Surface] = field(default_factory=Counter)


@dataclass
class Books:
    """What is wrong after a case, sorted by what it does to the promise."""

    world: World
    capsys: pytest.CaptureFixture
    caplog: pytest.LogCaptureFixture
    search: Search
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def check_at_once(self, fate, before):
        row, message = self.world.row(), self.world.message()
        expected = AT_ONCE.get(fate) or (before, DEAD_LETTER if fate is Fate.DEAD else COMES_AGAIN)
        state = row.state if row else None
        if (state, message) != expected:
            self.wrong.append(f"it is {state} and the message {message}, not {expected[0]} and {expected[1]}")
        if state in (State.REJECTED, State.RETRY) and self._processed:
            self.wrong.append(f"it is {state} though Kiva processed it")
        self._check()

    def check_wait(self, seconds, since):
        due = self.world.queue.next_visible_at
        if due is not None and due < since + seconds:
            self.wrong.append(f"it comes again after {due - since:.1f} s instead of {seconds} s")

    def check_arrivals(self, most):
        if self.world.kiva.arrivals > most:
            self.wrong.append(f"it was posted {self.world.kiva.arrivals} times in one delivery")

    def check_when_quiet(self, fate):
        expected = {Fate.REJECTED: State.REJECTED, Fate.UNKNOWN: State.UNKNOWN}.get(fate, State.ACCEPTED)
        row = self.world.row()
        if row is None or row.state is not expected:
            self.wrong.append(f"it ends as {row and row.state}, not as {expected}")
        if self.world.queue.messages:
            self.wrong.append("it never becomes quiet")
        self._check()

    def look(self, printed=Surface.LOGS):
        """Look for canaries in all that can be seen by now; `printed` says whose stdout it is."""
        said = self.capsys.readouterr()
        texts = [
            *((Surface.METRICS if '"_aws"' in line else printed, line) for line in said.out.splitlines()),
            (Surface.STDERR, said.err),
            (Surface.LOGS, self.caplog.text),
            *self.world.texts(),
        ]
        self.caplog.clear()
        self.world.said.clear()
        for surface, together in groupby(sorted(texts), itemgetter(0)):
            lines = [text for _, text in together if text]
            self.search.texts[surface] += len(lines)
            if found("\n".join(lines)):
                self.seen += [f"{surface}: {', '.join(sorted(found(line)))} in {line}" for line in lines if found(line)]

    def close(self, line):
        line.add(lost=bool(self.lost), doubled=bool(self.doubled), wrong=bool(self.wrong))
        self.search.cases[self.world.kind] += 1
        self.search.seen[self.world.kind] += bool(self.seen)
        complaints = self.lost + self.doubled + self.wrong + self.seen
        assert not complaints, "\n".join(complaints)

    @property
    def _processed(self):
        return self.world.kiva.processed[LOAN]

    def _check(self):
        row = self.world.row()
        if self._processed > 1:
            self.doubled.append(f"Kiva processed it {self._processed} times")
        known = row and row.state in (State.ACCEPTED, State.REJECTED, State.UNKNOWN)
        if self.world.message() == DELETED and not known:
            self.lost.append(f"it is {row and row.state}, and in no queue")
        if row and row.state is State.UNKNOWN and row.payload not in self.world.kiva.objects:
            self.lost.append("it is unknown, and what it held is not kept")
        if row and row.state is State.ACCEPTED:
            if not self._processed:
                self.lost.append("it is accepted though Kiva never processed it")
            if dict(row.outcome.kiva) not in self.world.kiva.references[LOAN]:
                self.wrong.append(f"Kiva never gave it the reference {dict(row.outcome.kiva)}")
        self.look()
