"""What nobody should see is seen in no answer of the API and by no command, whatever is at fault or wrong.

What functions log and write is searched in the matrix; here, with the same faults, what people ask for.
"""

import json
from itertools import product
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ParamValidationError

from cli import app as command
from cli.stacks import KINDS
from fakes import FakeStack
from faults.canaries import (
    CANARIES,
    CLIENT_ID,
    CLIENT_SECRET,
    FIRST_NAME,
    LOAN,
    MESSAGES,
    PHOTO,
    PHOTO_KEY,
    STORY,
    found,
)
from faults.extent import WHOLE
from faults.faults import FAULTS, close_unread
from faults.kiva_stub import IMAGE, POINTS
from faults.stand import HOUR, Surface, a_token_an_hour_old, unknown
from images import data_uri
from kiva_partner import runtime
from kiva_partner.ledger import State
from kiva_partner.messages import Kind

TEXTS = {name: value for name, value in CANARIES.items() if isinstance(value, str)} | {"photo": data_uri(PHOTO)}
REFERENCE = {Kind.LOAN_DRAFT: LOAN, Kind.JOURNAL_UPDATE: f"j:{LOAN}", Kind.REPAYMENT: f"2026-10:{LOAN}:100.50"}


def message(kind, *, inline=False):
    """As the matrix sends it; a draft with its photo inside, a journal under a reference that is easy to say."""
    match kind:
        case Kind.LOAN_DRAFT if inline:
            return {name: it for name, it in MESSAGES[kind](image_encoded=TEXTS["photo"]).items() if name != "photo"}
        case Kind.JOURNAL_UPDATE:
            return {"reference": "j", **MESSAGES[kind]()}
    return MESSAGES[kind]()


@pytest.fixture
def relay(monkeypatch):
    """The relay command at a stack: gives its exit code, and prints as ever."""

    def run(stack, *arguments):
        monkeypatch.setattr(command, "stack_of", lambda stage: stack)
        with pytest.raises(SystemExit) as ended:
            command.app(arguments)
        return ended.value.code

    return run


@pytest.fixture
def move_dead_letters(world, relay):
    """`make redrive`: gives its exit code."""
    urls = {"Queue": world.queue.url, "DeadLetterQueue": world.dead_letters.url}
    outputs = {f"{KINDS[world.kind]}{which}Url": url for which, url in urls.items()}
    stack = FakeStack(outputs, client=lambda service: runtime.aws(service)())
    return lambda: relay(stack, "redrive", world.kind, "--yes")


# --- every fault ------------------------------------------------------------------------------------------------------

EVERY = list(product(POINTS, FAULTS, Kind))
SOME = [(POINTS[at % 4], fault, list(Kind)[at // 4 % 3]) for at, fault in enumerate(FAULTS)]
"""Each fault once, at the points and with the kinds in turn."""


@pytest.mark.parametrize(("point", "fault", "kind"), EVERY if WHOLE else SOME, ids=str)
def test_what_people_ask_for_while_something_is_at_fault_shows_nothing(
    point, fault, kind, world, books, move_dead_letters, tally
):
    with tally("Answers and commands") as line:
        if point == IMAGE and kind is not Kind.LOAN_DRAFT:
            world.send()
        world.prepare(point)
        submission = f"/submissions/{kind}/{quote(REFERENCE[kind])}"
        with world.fault(point, fault):
            statuses = [
                world.post(json.dumps(message(kind, inline=True)), Prefer="wait"),
                world.post(json.dumps(message(kind))),
            ]
            world.send()
            world.deliver()
            _, loans = world.ask("/loans", query=LOAN)
            world.ask("/config/themes")
            world.keep_house(may_fail=True)
        ask_for_everything(world, submission)
        world.clock.shift(HOUR)
        world.ask(f"{submission}/decision", json.dumps({"decision": "abandon", "reason": "it is not in PA2"}))
        books.look()
        assert move_dead_letters() == 0
        books.look(Surface.COMMANDS)
        if names := found(loans) - {"first name"}:  # Kiva's own list has names
            books.seen.append(f"{Surface.API}: {names} among Kiva's loans")
        books.close(line)
        assert not {500, None} & set(statuses)


def ask_for_everything(world, submission):
    assert world.ask(submission)[0] in (200, 404)
    for state in State:
        assert world.ask("/submissions", kind=world.kind.value, state=state.value)[0] == 200


# --- messages that break a rule ---------------------------------------------------------------------------------------


def spoiled(kind, value):
    """Messages that hold the value where it must not be, or as what it is not."""
    good = message(kind)
    name, rows = next((name, rows) for name, rows in good.items() if isinstance(rows, list))
    yield value
    yield json.dumps(value)
    yield json.dumps(good)[:-1] + f', "reference": {value}'
    yield json.dumps({**good, value: 1})
    yield json.dumps({**good, "reference": value})
    for field in ("period", "currency", "photo", "image_encoded", "schedule", "not_pictured", "client_waiver_signed"):
        yield json.dumps({**good, field: value})
    yield json.dumps({**good, "photo": {"s3_key": f"{value}/../x"}})
    yield json.dumps({**good, "image_encoded": data_uri(value.encode())})
    yield json.dumps({**good, "schedule": [{"date": value, "principal": 1}]})
    for field in ("amount", "gender", "subject", "body", "image_url", "payment_id", "loan_id", "internal_loan_id"):
        yield json.dumps({**good, name: [{**rows[0], field: [value]}]})
        yield json.dumps({**good, name: [{**rows[0], field: f"{value}\n{value}"}]})
    yield json.dumps({**good, name: [rows[0], value]})
    yield json.dumps({**good, name: rows + rows})


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_wrong_with_a_message_is_said_without_the_message(kind, name, world, books, move_dead_letters, tally):
    with tally("Answers and commands") as line:
        a_token_an_hour_old(world)
        for body in spoiled(kind, TEXTS[name]):
            world.queue.send(body)
            world.deliver()
            assert world.post(body, Prefer="wait") in (200, 202, 400, 413)
        assert len(world.dead_letters.messages) > 10
        books.look()
        assert move_dead_letters() == 0
        books.look(Surface.COMMANDS)
        books.close(line)


@pytest.mark.parametrize("kind", [Kind.LOAN_DRAFT])
@pytest.mark.parametrize("what", ["missing", "too large", "no photo", "too many pixels"])
def test_a_photo_that_cannot_be_sent_is_not_shown(what, kind, world, books, move_dead_letters, tally):
    with tally("Answers and commands") as line:
        a_token_an_hour_old(world)
        stored = {
            "missing": None,
            "too large": PHOTO + bytes(6_000_000),
            "no photo": CANARIES["photo"],
            "too many pixels": PHOTO[:16] + b"\x7f" * 8 + PHOTO[24:],
        }[what]
        world.kiva.objects = {} if stored is None else {PHOTO_KEY: stored}
        world.send()
        world.deliver()
        statuses = [world.post(json.dumps(message(kind)), Prefer="wait")]
        if stored:
            inline = {name: it for name, it in message(kind).items() if name != "photo"}
            statuses.append(world.post(json.dumps({**inline, "image_encoded": data_uri(stored)})))
        assert world.dead_letters.messages
        assert set(statuses) <= {400, 413}
        books.look()
        assert move_dead_letters() == 0
        books.look(Surface.COMMANDS)
        books.close(line)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_reference_that_belongs_to_other_content_shows_neither_of_the_two(
    kind, world, books, move_dead_letters, tally
):
    with tally("Answers and commands") as line:
        a_token_an_hour_old(world)
        good = message(kind)
        name, rows = next((name, rows) for name, rows in good.items() if isinstance(rows, list))
        for body in ({"reference": "r", **good}, {**good, "reference": "r", name: [{**rows[0], "client_id": "C-9"}]}):
            change = body if kind is not Kind.JOURNAL_UPDATE else {**body, name: [{**rows[0], "subject": FIRST_NAME}]}
            world.queue.send(json.dumps(change if body is not good else body))
            world.deliver()
            world.post(json.dumps(change), Prefer="wait")
        books.look()
        assert move_dead_letters() == 0
        books.look(Surface.COMMANDS)
        books.close(line)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("kind", [Kind.LOAN_DRAFT])
def test_the_console_does_not_repeat_what_it_is_asked(kind, name, world, books, tally):
    with tally("Answers and commands") as line:
        value = TEXTS[name]
        a_token_an_hour_old(world)
        world.send()
        unknown(world, close_unread)
        world.clock.shift(HOUR)
        for path in (value, f"submissions/{quote(value, '')}/x", f"submissions/loan_draft/{quote(value, '')}"):
            assert world.ask(f"/{path}")[0] in (400, 404)
        for query in (
            {"kind": value},
            {"kind": kind, "state": value},
            {"kind": kind, "state": "UNKNOWN", "cursor": value},
        ):
            assert world.ask("/submissions", **query)[0] == 400
        assert world.ask("/loans", query=value, status=value, limit=value)[0] == 400
        good = {"decision": "accepted", "reason": "x", "kiva_reference": "1"}
        for field in good:
            assert world.ask(f"/submissions/{kind}/{LOAN}/decision", json.dumps({**good, field: [value]}))[0] == 400
            lines = json.dumps({**good, field: f"{value}\n{value}"})
            assert world.ask(f"/submissions/{kind}/{LOAN}/decision", lines)[0] == 400
        books.look()
        books.close(line)


# --- AWS at fault -----------------------------------------------------------------------------------------------------


class Failing:
    """A service of AWS whose errors quote what it was asked, as those of some of its services do."""

    def __init__(self, service, calls):
        self._service = service
        self._calls = calls
        self.exceptions = service.exceptions if hasattr(service, "exceptions") else None

    def __getattr__(self, name):
        call = getattr(self._service, name)

        def fail(**arguments):
            if name in self._calls:
                said = (
                    f"Value '{arguments}' at '{name}' failed to satisfy constraint; it holds {CLIENT_SECRET}, {STORY}"
                )
                raise ClientError({"Error": {"Code": "ValidationException", "Message": said}}, name)
            return call(**arguments)

        return fail


CALLS = {
    "dynamodb": ["get_item", "batch_get_item", "query", "put_item", "update_item", "transact_write_items"],
    "s3": ["get_object", "put_object"],
    "secretsmanager": ["get_secret_value", "put_secret_value"],
    "sqs": ["send_message", "change_message_visibility_batch", "receive_message", "delete_message"],
}
AWS_FAULTS = [(service, call) for service, calls in CALLS.items() for call in calls]


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(("service", "call"), AWS_FAULTS)
def test_an_error_of_aws_is_told_by_its_class_alone(service, call, kind, world, books, move_dead_letters, tally):
    with tally("Answers and commands") as line:
        world.queue.send('{"currency": "KES"}')
        world.queue.send(json.dumps({**message(kind), "colour": FIRST_NAME}))
        world.send()
        with world.failing(service, Failing(runtime.aws(service)(), [call])):
            world.post(json.dumps(message(kind, inline=True)), Prefer="wait")
            world.post(json.dumps(message(kind)))
            world.deliver()
            world.ask(f"/submissions/{kind}/{quote(REFERENCE[kind])}")
            world.ask("/submissions", kind=kind.value, state="UNKNOWN")
            world.ask(
                f"/submissions/{kind}/{quote(REFERENCE[kind])}/decision", '{"decision": "abandon", "reason": "x"}'
            )
        books.look()
        books.close(line)


# --- credentials ------------------------------------------------------------------------------------------------------


class Secrets:
    """AWS as `make credentials` meets it."""

    def __init__(self, error):
        self._error = error

    def put_secret_value(self, **_):
        if self._error:
            raise self._error


ERRORS = [
    None,
    *(
        ClientError({"Error": {"Code": code, "Message": text}}, "PutSecretValue")
        for code, text in (
            ("AccessDeniedException", "User: x is not authorized to perform: secretsmanager:PutSecretValue"),
            ("ResourceNotFoundException", "Secrets Manager can't find the specified secret."),
            ("EncryptionFailure", "Secrets Manager can't encrypt the protected secret text"),
            ("LimitExceededException", "You have reached the limit"),
            ("ValidationException", f"Value '{CLIENT_ID}:{CLIENT_SECRET}' at 'secretString' is too strange"),
        )
    ),
    ParamValidationError(report=f"Invalid type for parameter SecretString, value: {CLIENT_SECRET!r}"),
    EndpointConnectionError(endpoint_url="https://secretsmanager.us-east-1.amazonaws.com/"),
]


@pytest.mark.parametrize("typed", [(CLIENT_ID, CLIENT_SECRET), (CLIENT_ID, ""), ("", CLIENT_SECRET)])
@pytest.mark.parametrize("error", ERRORS, ids=lambda it: type(it).__name__)
def test_credentials_are_not_shown_by_the_command_that_stores_them(error, typed, relay, monkeypatch, capsys, tally):
    with tally("Answers and commands") as line:
        answers = iter(typed)
        monkeypatch.setattr(command.getpass, "getpass", lambda prompt: next(answers))
        outputs = {"CredentialsSecretArn": "arn", "KivaEnvironment": "sandbox", "KivaPartnerId": "9001"}
        stack = FakeStack(outputs, client=lambda service: Secrets(error))
        assert relay(stack, "credentials") == int(bool(error) or not all(typed))
        said = capsys.readouterr()
        line.add(1)
        assert found(said.out + said.err) == set()
