"""A connection serves again only while it is quiet: what lies on it before a request was sent answers no request.

Each behaviour leaves something on the connection of the first call. The second call then has an answer of its own.
"""

import io
import select
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from copy import replace
from types import SimpleNamespace

import pytest

from fakes import FakeTokens
from kiva_partner import client
from kiva_partner.client import KivaClient, new_ssl_context
from kiva_partner.errors import OutcomeUnknown
from sockets import HttpServer, answer, certificate, reset, say

WIRES = {"plain": None, "TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}
FOREIGN = b'{"loan_draft_uuid": "ffffffff-of-another-call"}'


def uuid(number):
    return f"{number:08}-of-this-call"


def own(number, *headers):
    return answer(b"200 OK", b'{"loan_draft_uuid": "%s"}' % uuid(number).encode(), *headers)


class Kiva:
    """Answers each call with a number of its own, and does something more after the first one."""

    def __init__(self, server_of, session_at):
        self.left = threading.Event()
        """What there is to be left on the first connection has reached the other side."""
        self._first = threading.Event()
        self._server_of = server_of
        self._session_at = session_at

    @contextmanager
    def open(self, behave):
        """A server that behaves like this on its first call, and the client's session."""

        def first_then_well(exchange):
            number = len(self.server.requests)
            exchange.body()
            if number == 1:
                return behave(exchange)
            exchange.send(own(number))
            return True

        with self._server_of(first_then_well) as self.server, self._session_at(self.server) as self.session:
            yield self

    def post(self):
        return self.session.post_loan_draft({"currency": "KES"}).kiva[0]["loan_draft_uuid"]

    def at_once(self, *more):
        """The first answer, and more in the same breath."""

        def behave(exchange):
            exchange.send(b"".join((own(1), *more)))
            self.left.set()
            return True

        return behave

    def later(self, leave):
        """The first answer, and when that was read, something else."""

        def behave(exchange):
            exchange.send(own(1))
            self._first.wait(5)
            leave(exchange)
            self.left.set()
            return not exchange.connection._closed

        return behave

    def first_is_read(self):
        self._first.set()
        assert self.left.wait(5)


@pytest.fixture(params=WIRES)
def wire(request):
    return request.param


@pytest.fixture
def kiva(settings, wire, tmp_path):
    path, of_server = certificate(tmp_path / "certificate.pem", "127.0.0.1")
    if version := WIRES[wire]:
        of_server.minimum_version = of_server.maximum_version = version

    def trusting():
        context = new_ssl_context()
        context.load_verify_locations(path)
        return context

    @contextmanager
    def session_at(server):
        url = f"{'https' if version else 'http'}://127.0.0.1:{server.port}"
        local = replace(settings, api_base_url=url, connect_timeout=5, read_timeout=5)
        with KivaClient(local, FakeTokens(), trusting).session(lambda: 290.0) as session:
            yield session

    made = Kiva(lambda behave: HttpServer(behave, of_server if version else None), session_at)
    made.trusting = trusting
    return made


@pytest.fixture
def clock(monkeypatch):
    """The client's clock, which stands still unless a test puts it forward."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(client, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_quiet_connection_serves_again(kiva, clock):
    with kiva.open(kiva.at_once()):
        for number in range(1, 6):
            assert kiva.post() == uuid(number)
            clock.now += 1
        assert (kiva.server.connections, len(kiva.server.requests)) == (1, 5)


def test_one_that_was_idle_for_more_than_a_second_does_not(kiva, clock):
    with kiva.open(kiva.at_once()):
        kiva.post()
        clock.now += 1.001
        assert kiva.post() == uuid(2)
        kiva.post()
        assert kiva.server.connections == 2


def test_idle_is_what_passes_since_the_answer_ended_and_not_since_the_call_began(kiva, clock):
    def slowly(exchange):
        clock.now += 3
        exchange.send(own(1))
        return True

    with kiva.open(slowly):
        assert [kiva.post(), kiva.post()] == [uuid(1), uuid(2)]
        assert kiva.server.connections == 1


SECOND_ANSWERS = {
    "whole": answer(b"200 OK", FOREIGN),
    "half": answer(b"200 OK", FOREIGN)[:-10],
    "one byte": b"H",
    "an interim answer": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "more than is read at once": answer(b"200 OK", FOREIGN, b"X-Long: " + b"x" * 12_000),
    "line breaks": b"\r\n\r\n",
}


@pytest.mark.parametrize("second", SECOND_ANSWERS.values(), ids=SECOND_ANSWERS)
def test_an_answer_too_many_that_comes_with_the_first_is_no_answer_to_the_next_call(kiva, second):
    with kiva.open(kiva.at_once(second)):
        assert [kiva.post(), kiva.post()] == [uuid(1), uuid(2)]
        assert kiva.server.connections == 2


@pytest.mark.parametrize("second", SECOND_ANSWERS.values(), ids=SECOND_ANSWERS)
def test_an_answer_too_many_that_comes_later_is_none_either(kiva, second):
    with kiva.open(kiva.later(lambda exchange: exchange.send(second))):
        assert kiva.post() == uuid(1)
        kiva.first_is_read()
        assert kiva.post() == uuid(2)
        assert kiva.server.connections == 2


@pytest.mark.parametrize("kind", ["chunked", "no content"])
def test_after_every_kind_of_answer_one_too_many_is_seen(kiva, kind):
    body = b'{"loan_draft_uuid": "%s"}' % uuid(1).encode()
    first = {
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
        "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    }[kind]

    def behave(exchange):
        exchange.send(first + answer(b"200 OK", FOREIGN))
        return True

    with kiva.open(behave):
        with suppress(OutcomeUnknown):
            kiva.post()
        assert kiva.post() == uuid(2)
        assert kiva.server.connections == 2


@pytest.mark.parametrize("wire", ["TLS 1.2", "TLS 1.3"], indirect=True)
def test_bytes_that_tls_has_decrypted_and_nobody_has_read_are_seen(kiva):
    """The first answer is as long as what is read at once, so that the rest of the record waits inside TLS."""
    start = own(1, b"X-Long: ")
    first = own(1, b"X-Long: " + b"x" * (io.DEFAULT_BUFFER_SIZE - len(start)))
    assert len(first) == io.DEFAULT_BUFFER_SIZE

    def behave(exchange):
        exchange.send(first + answer(b"200 OK", FOREIGN))
        return True

    with kiva.open(behave):
        assert kiva.post() == uuid(1)
        assert _only_connection(kiva).sock.pending()
        assert kiva.post() == uuid(2)
        assert kiva.server.connections == 2


def say_farewell(exchange):
    """TLS's close_notify, and TCP stays open; without TLS half of it is closed."""
    if isinstance(exchange.connection, ssl.SSLSocket):
        exchange.connection.settimeout(0)
        with suppress(ssl.SSLWantReadError):
            exchange.connection.unwrap()
    else:
        exchange.connection.shutdown(socket.SHUT_WR)


def close(exchange):
    exchange.connection.close()


def close_rudely(exchange):
    reset(exchange.connection)
    exchange.connection.close()


@pytest.mark.parametrize("leave", [say_farewell, close, close_rudely])
def test_one_that_was_closed_meanwhile_makes_no_outcome_unknown(kiva, leave):
    with kiva.open(kiva.later(leave)):
        kiva.post()
        kiva.first_is_read()
        assert kiva.post() == uuid(2)


def test_one_that_has_switched_to_another_protocol_answers_nothing_and_serves_no_more(kiva):
    switching = say(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
    with kiva.open(switching):
        with pytest.raises(OutcomeUnknown, match="HTTP 101"):
            kiva.post()
        assert kiva.post() == uuid(2)
        assert kiva.server.connections == 2


@pytest.mark.parametrize("wire", ["TLS 1.3"], indirect=True)
def test_a_session_ticket_that_waits_is_taken_off_and_the_connection_serves(kiva, clock):
    """TLS 1.3 sends tickets when it likes (RFC 8446 §4.6.1): to whom asks the kernel, the connection has something."""
    with kiva.open(kiva.at_once()):
        made = client._HTTPSConnection("127.0.0.1", kiva.server.port, ssl_context=kiva.trusting(), timeout=5)
        made.connect()
        assert select.select([made.sock], [], [], 5)[0], "the tickets have come"
        assert made.is_connected
        assert not select.select([made.sock], [], [], 0)[0], "the tickets are taken off"
        assert made.sock.gettimeout() == 5
        made.request("GET", "/")
        assert made.getresponse().status == 200
        made.close()


def _only_connection(kiva):
    """The pool's connection; it stays there."""
    adapter = kiva.session._http.get_adapter("https://")
    (key,) = adapter.poolmanager.pools.keys()
    pool = adapter.poolmanager.pools.get(key)
    return next(each for each in pool.pool.queue if each)
