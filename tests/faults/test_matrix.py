"""Every fault, at every point, with every kind: what becomes of the message at once, and whether the books balance.

The real handlers in this process; Kiva and the payload bucket on sockets; time that the test moves on.
"""

import json
import time
from base64 import b64decode
from contextlib import contextmanager
from copy import replace
from dataclasses import dataclass, field
from importlib import import_module
from itertools import product
from uuid import uuid4

import botocore.session
import certifi
import pytest
import time_machine
from botocore.config import Config

from deployment import ENVIRONMENT, FUNCTIONS, TABLE, credentials
from fakes import Context
from faults.extent import WHOLE
from faults.faults import FAULTS, Fate, Fault, close_unread, reset_before_the_status
from faults.in_process import DynamoDb
from faults.kiva_stub import BUCKET_URL, GET, IMAGE, POINTS, POST, TOKEN, Certificates, KivaStub
from faults.poller import EventSource, Queue, Sqs
from faults.stage import Secrets
from images import png
from kiva_answers import SCOPES
from kiva_partner import runtime, tokens
from kiva_partner.breaker import FIRST_PAUSE, Breaker
from kiva_partner.decisions import Choice, Decision
from kiva_partner.ledger import State
from kiva_partner.messages import Kind
from kiva_partner.settings import Settings
from kiva_partner.tokens import Token

SEARCH = "search"
"""A fifth point, for drafts alone: housekeeping's search for one whose outcome is unknown."""

HOUR = 3600
PATIENT, IMPATIENT = 20, 0.3
"""Seconds for a phase that ends by itself on however slow a machine, and for one that never would."""

PHOTO = png() + b64decode("canaryPhotoOfTheBorrowerInTheMarket+") * 4
PHOTO_KEY = "photos/borrower.png"
"""A photo that reads canary in base64. So does in plain text whatever else must not be seen."""

LOAN = "L-1"
MESSAGES = {
    Kind.LOAN_DRAFT: {
        "currency": "KES",
        "description": "canary story of her stall",
        "entreps": [
            {
                "client_id": "C-1",
                "loan_id": LOAN,
                "first_name": "Canary-Akinyi",
                "last_name": "Canary-Odhiambo",
                "gender": "female",
                "amount": 100,
            }
        ],
        "photo": {"s3_key": PHOTO_KEY},
    },
    Kind.JOURNAL_UPDATE: {
        "journals": [
            {
                "internal_loan_id": LOAN,
                "internal_client_id": "C-1",
                "subject": "canary subject",
                "body": "canary body",
            }
        ]
    },
    Kind.REPAYMENT: {
        "period": "2026-10",
        "repayments": [{"loan_id": LOAN, "client_id": "C-1", "amount": 100.5}],
    },
}

DELETED, COMES_AGAIN, DEAD_LETTER = "is deleted", "comes again", "is a dead letter"
AT_ONCE = {
    Fate.ACCEPTED: (State.ACCEPTED, DELETED),
    Fate.REJECTED: (State.REJECTED, DELETED),
    Fate.UNKNOWN: (State.UNKNOWN, DELETED),
    Fate.RETRY: (State.RETRY, COMES_AGAIN),
}


# --- the world around the handlers ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def aws_session():
    """One for all cases: it takes 80 ms to read what AWS's services are like."""
    return botocore.session.get_session()


@pytest.fixture
def kiva(certificates, monkeypatch):
    monkeypatch.setattr(certifi, "where", lambda: str(certificates.trusted))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificates.trusted))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", BUCKET_URL)
    with KivaStub(certificates) as kiva:
        kiva.objects[PHOTO_KEY] = PHOTO
        yield kiva


@pytest.fixture
def clock():
    with time_machine.travel(time.time(), tick=True) as traveller:
        yield traveller


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
        secrets.put_secret_value(SecretId="credentials", SecretString=credentials())
        self._aws_session = aws_session
        self._clients = {
            "dynamodb": self._table,
            "secretsmanager": secrets,
            "sqs": Sqs(self.queue, self.dead_letters),
        }
        self._settings = Settings.from_environment(
            {
                **ENVIRONMENT,
                "QUEUE_URL": self.queue.url,
                "DEAD_LETTER_QUEUE_URL": self.dead_letters.url,
                **{f"{each.upper()}_QUEUE_URL": self.queue.url for each in Kind},
            }
        )
        # Powertools keeps a logger for each name, and with it the stdout of the test that made it.
        monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", f"tests-{uuid4()}")
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
        self.queue.send(json.dumps(MESSAGES[self.kind]))

    def deliver(self):
        self.kiva.arrivals = 0
        self._source.drain()

    def keep_house(self):
        try:
            import_module("housekeeping.app").handler({}, Context())
        except Exception as error:  # noqa: BLE001 Lambda would call it a failure, whatever it is
            raise AssertionError(f"housekeeping failed: {type(error).__name__}") from None

    @contextmanager
    def fault(self, point, fault):
        if fault.slow:
            self.wait_for(fault.slow)
        self.kiva.fail(point, fault)
        yield
        self.kiva.heal()
        if fault.slow:
            self.wait_for()

    def row(self):
        (row,) = runtime.ledger().list_by_loan(LOAN) or [None]
        return row

    def message(self):
        if self.queue.messages:
            return COMES_AGAIN
        return DEAD_LETTER if self.dead_letters.messages else DELETED

    def texts(self):
        """What people see who may not see a borrower: the ledger, and what is written on dead letters."""
        yield from (json.dumps(item) for item in self._table.items())
        yield from (json.dumps(letter.attributes) for letter in self.dead_letters.messages)


@pytest.fixture
def world(request, kiva, clock, aws_session, monkeypatch):
    yield World(request.getfixturevalue("kind"), kiva, clock, aws_session, monkeypatch)
    runtime.forget()


def a_token_an_hour_old(world):
    token = Token("canary-token-0", frozenset(SCOPES.split()), time.time() - HOUR, time.time() + 10 * HOUR)
    text = tokens._to_text(token, runtime.settings())
    runtime.aws("secretsmanager")().put_secret_value(SecretId="token", SecretString=text)


def half_open(world):
    """Three answers in a row left doubts, and the pause that came of it is over."""
    breaker = Breaker(runtime.aws("dynamodb"), TABLE, runtime.settings().ledger_scope)
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
class Books:
    """What is wrong after a case, sorted by what it does to the promise."""

    world: World
    capsys: pytest.CaptureFixture
    caplog: pytest.LogCaptureFixture
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

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

    def close(self, line):
        line.add(lost=bool(self.lost), doubled=bool(self.doubled), wrong=bool(self.wrong))
        complaints = self.lost + self.doubled + self.wrong
        assert not complaints

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
        said = self.capsys.readouterr()
        texts = [*said.out.splitlines(), *said.err.splitlines(), self.caplog.text, *self.world.texts()]
        self.wrong += [f"this shows what nobody should see: {text}" for text in texts if "canary" in text.lower()]


@pytest.fixture
def books(world, capsys, caplog):
    return Books(world, capsys, caplog)


# --- the matrix -------------------------------------------------------------------------------------------------------


def case(point, fault, kind):
    return pytest.param(point, fault, kind, id=f"{point}-{fault}-{kind}")


CASES = [
    case(point, fault, kind)
    for number, (point, fault) in enumerate(product(POINTS, FAULTS))
    for kind in (Kind if WHOLE else [list(Kind)[number % 3]])
]
"""All of them; in the short form each fault at each point, with the kinds in turn."""


@pytest.mark.parametrize(("point", "fault", "kind"), CASES)
def test_a_fault_loses_nothing_doubles_nothing_and_is_told_as_it_is(point, fault, kind, world, books, tally):
    with tally("Fault matrix") as line:
        world.send()
        if point != TOKEN:
            a_token_an_hour_old(world)
        if point == GET:
            half_open(world)
        if point == IMAGE and kind is not Kind.LOAN_DRAFT:
            decided_to_be_sent_again(world)
        before, since = world.row() and world.row().state, time.time()
        with world.fault(point, fault):
            world.deliver()
        bucket = fault.photo if kind is Kind.LOAN_DRAFT else fault.kept
        fate = {TOKEN: fault.token, POST: fault.post, GET: fault.probe, IMAGE: bucket}[point]
        books.check_at_once(fate, before)
        books.check_wait(fault.wait if point == POST else 1, since)
        books.check_arrivals(2 if point == POST and fault.unauthorised else 1)
        world.dead_letters.redrive(world.queue)
        for _ in range(3):
            world.clock.shift(2 * HOUR)
            world.deliver()
            books.check_arrivals(1)
        books.check_when_quiet(fate)
        books.close(line)


@pytest.mark.parametrize(("point", "fault", "kind"), [case(SEARCH, fault, Kind.LOAN_DRAFT) for fault in FAULTS])
def test_a_search_that_fails_proves_nothing_about_a_draft_and_the_next_one_proves_it(
    point, fault, kind, world, books, tally
):
    with tally("Fault matrix") as line:
        world.send()
        a_token_an_hour_old(world)
        unknown(world, reset_before_the_status)
        with world.fault(GET, fault):
            world.keep_house()
        books.check_at_once(fault.search, State.UNKNOWN)
        world.clock.shift(HOUR / 2)
        world.keep_house()
        books.check_when_quiet(Fate.ACCEPTED)
        books.close(line)
