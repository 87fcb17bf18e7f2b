"""What can go wrong between us and Kiva or the payload bucket, and what is to become of a message that it happens to.

The columns of this table are the points of the matrix; they say what docs/architecture.md says in words. An act is what
a server does with a request: it gets the exchange and the stub, and says whether the connection goes on.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from enum import StrEnum
from urllib.parse import parse_qsl, urlsplit

from faults.kiva_stub import GET, KivaStub
from sockets import answer, reset


class Fate(StrEnum):
    """What a message and its row come to in the delivery that meets the fault."""

    ACCEPTED = "accepted, the message is deleted"
    REJECTED = "rejected, the message is deleted"
    UNKNOWN = "unknown, the message is deleted and what it held is kept"
    RETRY = "to be sent again, and the message comes again"
    WAITS = "as it was, and the message comes again"
    DEAD = "as it was, and the message is a dead letter"


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and the fate of a message that meets it at each point.

    `door` is a fault of the way to a host (see the stub), `act` one of the exchange; `slow` names the phase that never
    ends; `once` is over after one request; `wait` are the seconds before which Kiva wants it not to come again.
    """

    name: str
    act: Callable | None = None
    door: Callable | None = None
    slow: str = ""
    once: bool = False
    unauthorised: bool = False
    wait: float = 1
    token: Fate = Fate.WAITS
    post: Fate = Fate.UNKNOWN
    probe: Fate = Fate.WAITS
    search: Fate = Fate.UNKNOWN
    photo: Fate = Fate.WAITS
    kept: Fate = Fate.WAITS

    def __str__(self):
        return self.name


# --- acts -------------------------------------------------------------------------------------------------------------

DRIP_SECONDS = 0.05
DRIPS = 12
ENDLESS = 21_000_000
"""Bytes: more than the functions read of any answer."""

NO_REFERENCES = (
    b'{"loan_draft_uuid": {"a": 1}, "archive_id": "1\\r\\n", "upload_id": true, "total_records": 1, "data": {}}'
)


def after(*parts):
    """Do what is asked, say this instead of the right answer, and hang up."""

    def act(exchange, kiva):
        kiva.process(exchange)
        exchange.send(*parts)

    return act


def with_status(status, *headers, processed=True, body=None):
    """The right answer under another status; or, when nothing was processed, a refusal that quotes the request."""

    def act(exchange, kiva):
        right = kiva.process(exchange)[1] if processed else complaint(exchange)
        text = right if body is None else body
        exchange.send(answer(status.encode(), text, b"Connection: close", *(header.encode() for header in headers)))

    return act


def with_body(change, *headers):
    """A 200 with another body than the right one."""

    def act(exchange, kiva):
        body = change(kiva.process(exchange)[1])
        exchange.send(answer(b"200 OK", body, b"Connection: close", *headers))

    return act


def broken_off(change):
    """The right answer, changed on its way, and then the connection ends."""

    def act(exchange, kiva):
        exchange.send(change(answer(b"200 OK", kiva.process(exchange)[1])))

    return act


def come_later(when=None):
    def act(exchange, kiva):
        headers = [f"Retry-After: {when()}"] if when else []
        with_status("429 Too Many Requests", *headers, processed=False)(exchange, kiva)

    return act


def redirected(status, *, processed):
    """To an address that would take it, and answer as if nothing had been."""

    def act(exchange, kiva):
        (kiva.process(exchange) if processed else exchange.body())
        location = f"Location: https://{exchange.header('host')}{exchange.target}"
        exchange.send(answer(status.encode(), b"", location.encode(), b"Connection: close"))
        kiva.heal()

    return act


def words(exchange):
    """Every text that was sent, but for a photo."""
    return [text for text in _texts_of(exchange) if not text.startswith("data:")]


def photo(exchange):
    return [text for text in _texts_of(exchange) if text.startswith("data:")]


def bearer(exchange):
    return [exchange.header("authorization")]


def _texts_of(exchange):
    body = exchange.body().decode()
    form = urlsplit(exchange.target).query if exchange.method == "GET" else body
    return list(_texts(json.loads(body))) if body.startswith("{") else [value for _, value in parse_qsl(form)]


def _texts(value):
    match value:
        case str():
            yield value
        case dict() | list():
            for each in value.values() if isinstance(value, dict) else value:
                yield from _texts(each)


def complaint(exchange, quoted=words):
    """What a careless server says: the request's own words."""
    message = "cannot take " + ", ".join(quoted(exchange))
    return json.dumps({"message": message, "error_description": message}).encode()


def refused_with(quoted):
    def act(exchange, kiva):
        exchange.send(answer(b"400 Bad Request", complaint(exchange, quoted), b"Connection: close"))

    return act


def close_unread(exchange, kiva):
    reset(exchange.connection)


def reset_amid_the_body(exchange, kiva):
    exchange.body(int(exchange.header("content-length") or 0) // 2)
    reset(exchange.connection)


def reset_before_the_status(exchange, kiva):
    kiva.process(exchange)
    reset(exchange.connection)


def hang(exchange, kiva):
    kiva.process(exchange)
    exchange.hang()


def drip(head):
    """Byte by byte: each comes in time, and all of them never do."""

    def act(exchange, kiva):
        kiva.process(exchange)
        exchange.send(head)
        for _ in range(DRIPS):
            time.sleep(DRIP_SECONDS)
            exchange.send(b"X")
        exchange.hang()

    return act


def continue_for_ever(exchange, kiva):
    kiva.process(exchange)
    for _ in range(DRIPS):
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(DRIP_SECONDS)
    exchange.hang()


def wrong_door(exchange, kiva):
    """A gateway that has lost Kiva: it knows no path, whatever is asked for from now on."""
    not_found = with_status("404 Not Found", processed=False)
    not_found(exchange, kiva)
    if exchange.method == "POST":
        kiva.fail(GET, Fault("", not_found))


def instead(old, new):
    """The right answer with something else in it."""
    return with_body(lambda body: body.replace(old, new))


def _in(seconds):
    return lambda: formatdate(time.time() + seconds, usegmt=True)


# --- the table --------------------------------------------------------------------------------------------------------

ACCEPTED, REJECTED, UNKNOWN, RETRY, WAITS, DEAD = Fate

NOT_CONNECTED = [
    Fault(name, door=door, slow=slow, post=RETRY)
    for name, door, slow in (
        ("connection refused", KivaStub.refused, ""),
        ("no such name", KivaStub.no_such_name, ""),
        ("the name server hangs", KivaStub.name_server_hangs, "connecting"),
        ("nobody answers at any address", KivaStub.silent, "connecting"),
        ("certificate expired", KivaStub.expired, ""),
        ("certificate untrusted", KivaStub.untrusted, ""),
        ("certificate of another host", KivaStub.of_another_host, ""),
        ("no TLS", KivaStub.no_tls, ""),
        ("TLS handshake reset", KivaStub.reset_handshake, ""),
        ("TLS handshake hangs", KivaStub.no_handshake, "connecting"),
    )
]

NO_ANSWER = [
    Fault("hung up before the body was read", close_unread),
    Fault("reset amid the body", reset_amid_the_body),
    Fault("reset before the status", reset_before_the_status),
    Fault("closed before the status", after()),
    Fault("half a status line", after(b"HTTP/1.1 20")),
    Fault("no status line", after(b"SSH-2.0-OpenSSH_9.2\r\n")),
    Fault("a status of four digits", after(b"HTTP/1.1 2000 OK\r\n\r\n")),
    Fault("too many headers", after(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 200, b"\r\n")),
    Fault("a header without an end", after(b"HTTP/1.1 200 OK\r\nA: ", b"b" * 100_000)),
    Fault("two lengths", after(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Length: 8\r\n\r\n")),
    Fault("answer hangs", hang, slow="answering"),
    Fault("headers drip", drip(b"HTTP/1.1 200 OK\r\nA: "), slow="answering"),
    Fault("continue, for ever", continue_for_ever, slow="answering"),
]


def _unreadable(name, act, **fates):
    """Kiva may have done it. A probe asks no more than whether Kiva answers, so a status is enough for it."""
    return Fault(name, act, **{"probe": ACCEPTED, **fates})


_OTHER_REFERENCES = b'"loan_draft_uuid": "aaaaaaaa", "archive_id": "a-1", "upload_id": "a-1", "code": "api.success"'
NO_PHOTO, NO_PAYLOAD = {"photo": DEAD}, {"kept": DEAD}
GOOD_FOR_THE_BUCKET = {"photo": ACCEPTED, "kept": ACCEPTED}

UNREADABLE = [
    _unreadable("headers break off", after(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-")),
    _unreadable("body drips", drip(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"), slow="answering"),
    _unreadable("body shorter than promised", broken_off(lambda text: text[:-5])),
    _unreadable("half a chunk", after(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"lo')),
    _unreadable("no chunk", after(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}")),
    _unreadable("JSON cut off", with_body(lambda body: body[: len(body) // 2]), photo=ACCEPTED, **NO_PAYLOAD),
    _unreadable("not gzip", with_body(bytes, b"Content-Encoding: gzip"), **GOOD_FOR_THE_BUCKET),
    _unreadable("not UTF-8", with_body(lambda _: b'{"a": "\xff\xfe"}'), **NO_PHOTO),
    _unreadable("larger than any", with_body(lambda body: body + b" " * ENDLESS), kept=ACCEPTED, **NO_PHOTO),
    _unreadable("HTML", with_body(lambda _: b"<html><h1>Maintenance</h1></html>"), **NO_PHOTO, **NO_PAYLOAD),
    _unreadable("nothing", with_body(lambda _: b""), **NO_PHOTO, **NO_PAYLOAD),
    _unreadable("an empty object", with_body(lambda _: b"{}"), **NO_PHOTO),
    _unreadable("null", with_body(lambda _: b"null"), **NO_PHOTO),
    _unreadable("nested without an end", with_body(lambda _: b"[" * 100_000), **NO_PHOTO, **NO_PAYLOAD),
    _unreadable("nested deeply", with_body(lambda _: b'{"a":' * 2000 + b"1" + b"}" * 2000), **NO_PHOTO, **NO_PAYLOAD),
    _unreadable("references that are none", with_body(lambda _: NO_REFERENCES), **NO_PHOTO),
    *(
        _unreadable(name, instead(old, new), token=ACCEPTED, search=ACCEPTED, **GOOD_FOR_THE_BUCKET)
        for name, old, new in (
            ("another code than success", b"api.success", b"api.failure"),
            ("a finding that fits no row", b'"problems": []', b'"problems": [{"severity": "error", "code": "x"}]'),
            ("findings that are no list", b'"problems": []', b'"problems": {"severity": "error"}'),
            ("success with errors", b'"problems": []', b'"errors": ["x"]'),
            ("a reference twice", b'"code": "api.success"', _OTHER_REFERENCES),
        )
    ),
]


def _doubtful(status, *headers, probe=WAITS):
    """Kiva may have done it before it said so."""
    return Fault(", ".join([f"HTTP {status}", *headers]), with_status(status, *headers), probe=probe)


def _refused(status, *, post=REJECTED, probe=ACCEPTED):
    return Fault(f"HTTP {status}", with_status(status, processed=False), post=post, probe=probe)


STATUSES = [
    *(
        Fault(
            f"HTTP {status}", with_status(status), token=ACCEPTED, post=ACCEPTED, probe=ACCEPTED, **GOOD_FOR_THE_BUCKET
        )
        for status in ("201 Created", "202 Accepted")
    ),
    Fault("HTTP 204", with_status("204 No Content", body=b""), probe=ACCEPTED, **NO_PHOTO, **NO_PAYLOAD),
    Fault("HTTP 304", with_status("304 Not Modified", body=b""), probe=ACCEPTED),
    *(
        Fault(f"HTTP {status}", redirected(status, processed=post is UNKNOWN), post=post, probe=ACCEPTED)
        for status, post in (
            ("301 Moved Permanently", UNKNOWN),
            ("302 Found", UNKNOWN),
            ("303 See Other", UNKNOWN),
            ("307 Temporary Redirect", RETRY),
            ("308 Permanent Redirect", RETRY),
        )
    ),
    _refused("400 Bad Request"),
    *(
        Fault(
            f"HTTP {status}, {'once' if once else 'for ever'}",
            with_status(status, processed=False),
            once=once,
            unauthorised=True,
            token=ACCEPTED if once else WAITS,  # with the secret before
            post=ACCEPTED if once else RETRY,
            probe=ACCEPTED,
            search=ACCEPTED if once else UNKNOWN,
        )
        for status in ("401 Unauthorized", "403 Forbidden")
        for once in (True, False)
    ),
    Fault("HTTP 400, quoting the token", refused_with(bearer), post=REJECTED, probe=ACCEPTED),
    Fault("HTTP 400, quoting the photo", refused_with(photo), post=REJECTED, probe=ACCEPTED),
    _refused("404 Not Found"),
    Fault("HTTP 404, whatever is asked for", wrong_door, post=RETRY, probe=ACCEPTED),
    _refused("405 Method Not Allowed"),
    _refused("410 Gone"),
    _refused("413 Content Too Large"),
    _refused("415 Unsupported Media Type"),
    _refused("422 Unprocessable Content"),
    _refused("431 Request Header Fields Too Large"),
    _refused("425 Too Early", post=RETRY, probe=WAITS),
    Fault("HTTP 429", come_later(), post=RETRY),
    Fault("HTTP 429, seconds", come_later(lambda: "7"), post=RETRY, wait=7),
    Fault("HTTP 429, a date", come_later(_in(30)), post=RETRY, wait=28),
    Fault("HTTP 429, a date that is over", come_later(_in(-3600)), post=RETRY),
    Fault("HTTP 429, a year", come_later(lambda: "31536000"), post=RETRY, wait=3600),
    Fault("HTTP 429, a thousand years", come_later(lambda: "31536000000"), post=RETRY),
    Fault("HTTP 429, absurd", come_later(lambda: "soon"), post=RETRY),
    _doubtful("408 Request Timeout"),
    _doubtful("409 Conflict", probe=ACCEPTED),
    _doubtful("500 Internal Server Error"),
    _doubtful("502 Bad Gateway"),
    _doubtful("503 Service Unavailable"),
    _doubtful("503 Service Unavailable", "Retry-After: 5"),
    _doubtful("504 Gateway Timeout"),
    _doubtful("520 Origin Error"),
    _doubtful("999 Odd"),
]

FAULTS = [*NOT_CONNECTED, *NO_ANSWER, *UNREADABLE, *STATUSES]
