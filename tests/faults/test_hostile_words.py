"""A Kiva that says back what it was told, wherever an answer can say something and however it writes it."""

import json

import pytest

from faults.canaries import (
    CLIENT_ID,
    CLIENT_SECRET,
    ENCODINGS,
    FIRST_NAME,
    JOURNAL,
    LOAN,
    MESSAGES,
    PHOTO,
    PREVIOUS_SECRET,
    STORED_TOKEN,
    found,
)
from faults.faults import Fault, reset_before_the_status
from faults.kiva_stub import GET, POST, TOKEN
from faults.stand import a_token_an_hour_old, unknown, without_doubts
from images import data_uri
from kiva_answers import SCOPES, created, token_answer
from kiva_partner.ledger import State
from kiva_partner.messages import Kind
from sockets import answer

NAME = {Kind.LOAN_DRAFT: "loan_draft", Kind.JOURNAL_UPDATE: "journals", Kind.REPAYMENT: "repayments"}
"""What Kiva calls them in a path."""

REFUSED = b"400 Bad Request"


def told(kind):
    """What one call tells Kiva that it should keep to itself: the token, and every text that holds a canary, whole."""
    photo = {"image_encoded": data_uri(PHOTO)} if kind is Kind.LOAN_DRAFT else {}
    texts = {name: text for name, text in _texts("", MESSAGES[kind]()) if name != "s3_key" and found(text)}
    return {"token": STORED_TOKEN, **texts, **photo}


def _texts(name, value):
    match value:
        case str():
            yield name, value
        case dict():
            for key, each in value.items():
                yield from _texts(key, each)
        case list():
            for each in value:
                yield from _texts(name, each)


def says(status, body=b"", *headers):
    """Do what is asked, and answer so."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()

    def act(exchange, kiva):
        kiva.process(exchange)
        exchange.send(answer(status, text, b"Connection: close", *headers))

    return Fault("", act)


def deliver(world, number, fault):
    """One more loan, which meets this."""
    world.queue.send(json.dumps(MESSAGES[world.kind](f"L-{number}")))
    without_doubts()
    with world.fault(POST, fault):
        world.deliver()


# --- however it writes it ---------------------------------------------------------------------------------------------

MANGLED = {
    **ENCODINGS,
    "the beginning": lambda text: text[: len(text) * 3 // 4],
    "the end": lambda text: text[len(text) // 4 :],
    "in a word": lambda text: f"value_{text}_",
    "on one line": lambda text: " ".join(text.split()),
}


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("mangled", MANGLED)
def test_what_kiva_says_of_a_message_is_told_without_what_the_message_said(mangled, kind, world, books, tally):
    with tally("Hostile words") as line:
        a_token_an_hour_old(world)
        for number, (name, text) in enumerate(told(kind).items()):
            words = f"{name}: {MANGLED[mangled](text)} is not allowed, says Kiva"
            deliver(world, number, says(REFUSED, {"message": words}))
            assert len(world.rows(State.REJECTED)) == number + 1
        books.look()
        books.close(line)


@pytest.mark.parametrize("kind", [Kind.JOURNAL_UPDATE])
def test_a_long_text_is_not_told_by_its_beginning(kind, world, books, tally):
    with tally("Hostile words") as line:
        a_token_an_hour_old(world)
        story = f"{JOURNAL} " * 100
        world.queue.send(json.dumps(MESSAGES[kind](body=story)))
        with world.fault(POST, says(REFUSED, {"message": f"the body is too long: {story}"})):
            world.deliver()
        books.look()
        books.close(line)


# --- wherever it says it ----------------------------------------------------------------------------------------------


def right(kind, **changes):
    return {"code": "api.success", "problems": [], **created(NAME[kind], 1), **changes}


def everywhere(kind, text):
    """Answers to a POST that hold a text somewhere."""
    line = text.replace("\n", " ").encode()
    yield says(REFUSED, {"error_description": text})
    yield says(REFUSED, {"error": text})
    yield says(REFUSED, {"message": [text], "code": text})
    yield says(REFUSED, text)
    yield says(REFUSED, line)
    yield says(b"400 " + line)
    yield says(line + b" 200 OK", right(kind))
    for status in (b"200 OK", b"400 No", b"500 Oh"):
        yield says(status, right(kind), line)
        yield says(status, right(kind), line + b": x", b"X: " + line, b"Content-Type: " + line)
        yield says(status, right(kind), b"Content-Encoding: " + line)
        yield says(status, right(kind), b"Set-Cookie: a=" + line, b"Transfer-Encoding: " + line)
    yield says(b"429 Later", right(kind), b"Retry-After: " + line)
    yield says(b"307 There", right(kind), b"Location: https://api.kiva.test/" + line)
    for name in ("code", "loan_draft_uuid", "archive_id", "upload_id", "confirm_url", "problems"):
        yield says(b"200 OK", right(kind, **{name: text}))
    for severity in ("error", "warning", text):
        problem = {"loan_id": LOAN, "severity": severity, "code": text, "details": f"it is {text}"}
        yield says(b"200 OK", right(kind, problems=[problem]))


@pytest.mark.parametrize("kind", [Kind.JOURNAL_UPDATE])
@pytest.mark.parametrize("name", told(Kind.JOURNAL_UPDATE))
def test_a_url_that_people_open_holds_nothing_of_what_was_told(name, kind, world, books, tally):
    with tally("Hostile words") as line:
        a_token_an_hour_old(world)
        url = f"https://partners.kiva.org/{ENCODINGS["a URL's query"](told(kind)[name])}"
        deliver(world, 0, says(b"200 OK", right(kind, confirm_url=url)))
        books.look()
        books.close(line)


EVERYWHERE = [(kind, name) for kind in Kind for name in told(kind)]


@pytest.mark.parametrize(("kind", "name"), EVERYWHERE)
def test_what_kiva_says_anywhere_is_told_without_what_it_was_told(kind, name, world, books, tally):
    with tally("Hostile words") as line:
        a_token_an_hour_old(world)
        for number, fault in enumerate(everywhere(kind, told(kind)[name])):
            deliver(world, number, fault)
        assert world.dead_letters.messages == []
        books.look()
        books.close(line)


@pytest.mark.parametrize("kind", [Kind.LOAN_DRAFT])
@pytest.mark.parametrize("name", ["kiva_id", "uuid"])
@pytest.mark.parametrize("text", [FIRST_NAME, STORED_TOKEN], ids=["name", "token"])
def test_the_ids_of_a_loan_that_is_found_are_ids(name, text, kind, world, books, tally):
    with tally("Hostile words") as line:
        a_token_an_hour_old(world)
        world.send()
        unknown(world, reset_before_the_status)
        (row,) = world.rows(State.UNKNOWN)
        ids = {"internal_loan_id": LOAN, "internal_client_id": row.client_id, "create_time": 2_000_000_000}
        loan = {"kiva_id": "1", "uuid": "2", **ids, name: text}
        with world.fault(GET, says(b"200 OK", {"total_records": 1, "data": [loan]})):
            world.keep_house()
        books.look()
        books.close(line)


@pytest.mark.parametrize("kind", [Kind.REPAYMENT])
@pytest.mark.parametrize("field", ["scope", "token_type", "partnerId", "expires_in", "access_token", "error"])
@pytest.mark.parametrize(
    "text", [CLIENT_ID, CLIENT_SECRET, PREVIOUS_SECRET], ids=["client id", "client secret", "the one before it"]
)
def test_what_the_token_service_says_is_told_without_the_credentials(field, text, kind, world, books, tally):
    with tally("Hostile words") as line:
        for status in (b"200 OK", b"400 No", b"500 Oh"):
            for said in (text, f"{SCOPES} {text}", [text]):
                world.send()
                fault = says(status, {**token_answer("t"), field: said}, text.encode(), b"X: " + text.encode())
                with world.fault(TOKEN, fault):
                    world.clock.shift(120)
                    world.deliver()
                    world.keep_house()
                    a_token_an_hour_old(world)
        books.look()
        books.close(line)
