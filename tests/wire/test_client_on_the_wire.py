"""The client against real sockets on this machine: what only a connection can show. No server here knows Kiva."""

import json
import socket
import ssl
import time
from contextlib import contextmanager
from copy import replace
from urllib.parse import parse_qs

import pytest
from urllib3.util import connection

from fakes import FakeTokens
from kiva_partner import client
from kiva_partner.checks import mend_of
from kiva_partner.client import MAX_INTERIM_ANSWERS, KivaClient, new_ssl_context, post_form
from kiva_partner.errors import Misconfigured, NotSent, OutcomeUnknown, Rejected
from kiva_partner.telemetry import Telemetry
from kiva_partner.tokens import Token
from sockets import HttpServer, answer, certificate, reset, say, say_and_hang_up

CREATED = b'{"loan_draft_uuid": "7d0c9a52-1b7e-4f0e-8f39-5a8e4f3c2b61"}'


def hang_up_rudely(exchange):
    exchange.body()
    reset(exchange.connection)


def hang(exchange):
    exchange.body()
    exchange.hang()


@pytest.fixture
def session(settings):
    @contextmanager
    def at(url, tls=new_ssl_context):
        local = replace(settings, api_base_url=url, connect_timeout=1, read_timeout=1)
        with KivaClient(local, FakeTokens(), tls).session(lambda: 290.0) as session:
            yield session

    return at


def at(server, scheme="http"):
    return f"{scheme}://127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    "behave",
    [
        say_and_hang_up(),
        hang_up_rudely,
        hang,
        say_and_hang_up(b"HTTP/1.1 200"),
        say_and_hang_up(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + CREATED),
        say_and_hang_up(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"lo'),
        say_and_hang_up(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"),
        say_and_hang_up(b"SSH-2.0-OpenSSH_9.2\r\n"),
    ],
    ids=["close", "reset", "hang", "half a status", "short body", "half a chunk", "bad gzip", "not HTTP"],
)
def test_whatever_goes_wrong_after_the_request_was_sent_is_unknown_and_sent_once(session, behave):
    with HttpServer(behave) as server, session(at(server)) as kiva:
        with pytest.raises(OutcomeUnknown):
            kiva.post_loan_draft({"currency": "KES"})
        assert len(server.requests) == 1


class Drip:
    """A behaviour: one byte every tenth of a second, each in time, for as long as somebody takes them."""

    def __init__(self, text):
        self._text = text
        self.sent = 0

    def __call__(self, exchange):
        exchange.body()
        for byte in self._text:
            exchange.send(bytes([byte]))
            self.sent += 1
            time.sleep(0.1)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n"


@pytest.mark.parametrize(
    "text",
    [
        HEAD + b"X-Slow: " + b"x" * 1000,
        HEAD + b"\r\n" + b" " * 1000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 1000,
    ],
    ids=["headers", "body", "body without an end"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_answer_that_drips_is_cut_as_a_whole_though_every_byte_is_in_time(session, tmp_path, text, scheme):
    path, tls = certificate(tmp_path / "certificate.pem", "127.0.0.1")
    drip = Drip(text)
    with HttpServer(drip, tls if scheme == "https" else None) as server:
        with session(at(server, scheme), trusting(path)) as kiva, pytest.raises(OutcomeUnknown):
            kiva.post_loan_draft({})
        assert len(server.requests) == 1
    # A second takes ten of them; all of them would take more than a hundred.
    assert drip.sent < len(text) / 2


def test_an_answer_in_time_leaves_nothing_behind_that_would_cut_the_next_one(session, monkeypatch):
    monkeypatch.setattr(client, "IDLE_SECONDS", 60)
    with HttpServer(say(answer(body=CREATED))) as server, session(at(server)) as kiva:
        for _ in range(3):
            kiva.post_loan_draft({})
            time.sleep(0.6)  # three of them are longer than the answer's time
        assert (server.connections, len(server.requests)) == (1, 3)


def test_a_server_that_does_not_take_the_body_is_left_in_time_and_the_outcome_is_unknown(session):
    with HttpServer(lambda _: time.sleep(3)) as server, session(at(server)) as kiva, pytest.raises(OutcomeUnknown):
        kiva.post_loan_draft({"image_encoded": "x" * 20_000_000})


def test_connecting_ends_in_time_however_many_addresses_a_name_has(session, monkeypatch):
    """Each address is tried for the whole timeout, and finding them out has none: here that is what takes long."""
    connect = connection.create_connection

    def slowly(address, *arguments, **named):
        time.sleep(1.2)
        return connect(address, *arguments, **named)

    monkeypatch.setattr(connection, "create_connection", slowly)
    with HttpServer(say(answer(body=CREATED))) as server, session(at(server)) as kiva:
        with pytest.raises(NotSent, match="could not connect"):
            kiva.post_loan_draft({})
        assert server.requests == []


@pytest.mark.parametrize("status", [200, 301, 404, 401, 500, 503, 408, 425, 429])
def test_kiva_seems_to_be_there_unless_it_says_that_it_is_not(session, status):
    with HttpServer(say(answer(b"%d x" % status, b""))) as server, session(at(server)) as kiva:
        assert kiva.answers("create:loan_draft") is (status in (200, 301, 401, 404))


@pytest.mark.parametrize("behave", [say_and_hang_up(), hang, hang_up_rudely])
def test_kiva_is_not_there_when_a_read_gets_no_answer(session, behave):
    with HttpServer(behave) as server, session(at(server)) as kiva:
        assert kiva.answers("create:loan_draft") is False


def hang_up_amid_the_body(exchange):
    exchange.body(1000)
    reset(exchange.connection)


def read_no_more(exchange):
    exchange.body(1000)
    time.sleep(2)


@pytest.mark.parametrize("behave", [hang_up_amid_the_body, read_no_more])
def test_what_goes_wrong_while_the_request_is_still_being_written_is_unknown_too(session, behave):
    larger_than_what_the_kernel_takes = "x" * 20_000_000
    with HttpServer(behave) as server, session(at(server)) as kiva:
        with pytest.raises(OutcomeUnknown):
            kiva.post_loan_draft({"image_encoded": larger_than_what_the_kernel_takes})
        assert len(server.requests) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid"])
def test_what_never_connected_was_not_sent(session, url):
    with session(url) as kiva, pytest.raises(NotSent):
        kiva.post_loan_draft({})


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303 See Other", b"307 Temporary", b"308 Permanent"])
def test_no_redirect_is_followed(session, status):
    with HttpServer(say(answer(body=CREATED))) as other:
        location = f"Location: {at(other)}/v3".encode()
        redirect = say(answer(status, b"", location))
        expected = pytest.raises((OutcomeUnknown, Misconfigured))
        with HttpServer(redirect) as server, session(at(server)) as kiva, expected:
            kiva.post_loan_draft({})
        assert other.connections == 0


def test_calls_of_one_invocation_share_a_connection_and_invocations_do_not(session):
    with HttpServer(say(answer(body=CREATED))) as server:
        for _ in range(2):
            with session(at(server)) as kiva:
                for _ in range(3):
                    kiva.post_loan_draft({})
        assert (server.connections, len(server.requests)) == (2, 6)


@pytest.mark.parametrize("written", ["{token}", "Bearer {token}", "in {token}."])
def test_an_answer_that_quotes_our_token_loses_it(session, written):
    text = written.format(token="token-1/with+signs==")
    for body in (json.dumps({"message": text}), json.dumps({"message": text}).replace("/", "\\/")):
        with HttpServer(say(answer(b"400 x", body.encode()))) as server, session(at(server)) as kiva:
            kiva._tokens.get = lambda _: Token("token-1/with+signs==", frozenset(), 0, 0)
            with pytest.raises(Rejected) as raised:
                kiva.post_loan_draft({})
            assert raised.value.text == text.replace("token-1/with+signs==", "***")


def test_an_answer_nested_too_deeply_is_unreadable(session):
    deep = b'{"a":' * 2000 + b"1" + b"}" * 2000
    with HttpServer(say(answer(body=deep))) as server, session(at(server)) as kiva:
        with pytest.raises(OutcomeUnknown):
            kiva.post_loan_draft({})
        with pytest.raises(NotSent):
            kiva.loans()


def test_no_cookie_comes_back(session):
    with HttpServer(say(answer(b"200 OK", CREATED, b"Set-Cookie: a=b; Path=/"))) as server, session(at(server)) as kiva:
        kiva.post_loan_draft({})
        kiva.post_loan_draft({})
        assert b"cookie" not in server.requests[1].lower()


def test_a_proxy_of_the_environment_gets_nothing(session, monkeypatch):
    with HttpServer(say(answer(body=CREATED))) as proxy, HttpServer(say(answer(body=CREATED))) as server:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, at(proxy))
        with session(at(server)) as kiva:
            kiva.post_loan_draft({})
        assert (proxy.connections, server.connections) == (0, 1)


def test_the_form_of_the_token_request_is_encoded(settings):
    secret = "s3cr&t+/= %ü"
    with HttpServer(say(answer(b"200 OK", b"{}"))) as server:
        status, body = post_form(settings, new_ssl_context, f"{at(server)}/oauth/token", {"client_secret": secret})
    assert (status, body) == (200, b"{}")
    head, _, form = server.requests[0].partition(b"\r\n\r\n")
    assert b"application/x-www-form-urlencoded" in head
    assert parse_qs(form.decode()) == {"client_secret": [secret]}


@pytest.mark.parametrize("behave", [say_and_hang_up(), hang, say_and_hang_up(b"HTTP/1.1 20")])
def test_a_token_service_that_breaks_off_was_not_reached(settings, behave):
    quick = replace(settings, read_timeout=1)
    with HttpServer(behave) as server, pytest.raises(NotSent):
        post_form(quick, new_ssl_context, at(server), {})


def test_the_secret_follows_no_redirect(settings):
    with HttpServer(say(answer(body=CREATED))) as other:
        location = f"Location: {at(other)}/".encode()
        with HttpServer(say(answer(b"307 Temporary", b"", location))) as server:
            assert post_form(settings, new_ssl_context, at(server), {"client_secret": "x"})[0] == 307
        assert other.connections == 0


# --- interim answers --------------------------------------------------------------------------------------------------

INTERIM = [b"100 Continue", b"102 Processing", b"103 Early Hints", b"110 Odd", b"199 "]
LINK = b"Link: </style.css>; rel=preload\r\nContent-Length: 5\r\n"


@pytest.mark.parametrize("pace", ["at once", "one by one"])
@pytest.mark.parametrize("status", INTERIM)
def test_interim_answers_are_read_over_with_their_headers(session, status, pace):
    """RFC 9110 §15.2: one or more of them may come before the final answer, also to a client that asked for none."""
    interim = b"HTTP/1.1 " + status + b"\r\n" + LINK + b"\r\n"
    parts = [interim, interim, answer(body=CREATED)]
    with HttpServer(say(*parts if pace == "one by one" else [b"".join(parts)])) as server:
        with session(at(server)) as kiva:
            for _ in range(2):
                assert kiva.post_loan_draft({}).kiva[0]["loan_draft_uuid"].encode() in CREATED
        assert server.connections == 1


@pytest.mark.parametrize("status", INTERIM)
def test_more_interim_answers_than_anybody_sends_are_no_answer(session, status):
    interim = b"HTTP/1.1 " + status + b"\r\n\r\n"
    with HttpServer(say(interim * MAX_INTERIM_ANSWERS, answer(body=CREATED))) as server, session(at(server)) as kiva:
        assert kiva.post_loan_draft({})
    with HttpServer(say(interim * (MAX_INTERIM_ANSWERS + 1), answer(body=CREATED))) as server:
        with session(at(server)) as kiva, pytest.raises(OutcomeUnknown):
            kiva.post_loan_draft({})
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", INTERIM)
def test_a_connection_that_ends_after_an_interim_answer_gave_none(session, status):
    with HttpServer(say_and_hang_up(b"HTTP/1.1 " + status + b"\r\n\r\n")) as server, session(at(server)) as kiva:
        with pytest.raises(OutcomeUnknown):
            kiva.post_loan_draft({})
        assert len(server.requests) == 1


@pytest.mark.parametrize("final", [b"400 Bad Request", b"429 Too Many Requests", b"503 Service Unavailable"])
def test_what_follows_an_interim_answer_means_what_it_always_means(session, final):
    expected = {b"4": Rejected if final[:3] == b"400" else NotSent, b"5": OutcomeUnknown}[final[:1]]
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    with HttpServer(say(early, answer(final))) as server, session(at(server)) as kiva, pytest.raises(expected):
        kiva.post_loan_draft({})


# --- TLS --------------------------------------------------------------------------------------------------------------


def trusting(path):
    def tls():
        context = new_ssl_context()
        context.load_verify_locations(path)
        return context

    return tls


def test_a_trusted_certificate_is_taken(session, tmp_path):
    path, tls = certificate(tmp_path / "certificate.pem", "127.0.0.1")
    with HttpServer(say(answer(body=CREATED)), tls) as server, session(at(server, "https"), trusting(path)) as kiva:
        assert kiva.post_loan_draft({})


@pytest.mark.parametrize("fault", ["untrusted", "another host", "expired", "no TLS"])
def test_a_certificate_that_proves_nothing_gets_nothing(session, tmp_path, fault):
    host = "127.0.0.2" if fault == "another host" else "127.0.0.1"
    path, tls = certificate(tmp_path / "certificate.pem", host, days=-1 if fault == "expired" else 1)
    context = new_ssl_context if fault == "untrusted" else trusting(path)
    with HttpServer(say(answer(body=CREATED)), None if fault == "no TLS" else tls) as server:
        with session(at(server, "https"), context) as kiva, pytest.raises(NotSent):
            kiva.post_loan_draft({})
        assert not any(b"loan_draft" in request for request in server.requests)


def test_the_roots_are_loaded_once_and_not_for_every_connection(session, tmp_path, monkeypatch):
    path, tls = certificate(tmp_path / "certificate.pem", "127.0.0.1")
    context = trusting(path)()
    loads = []
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: loads.append(1))
    closing = say_and_hang_up(answer(b"200 OK", CREATED, b"Connection: close"))
    with HttpServer(closing, tls) as server, session(at(server, "https"), lambda: context) as kiva:
        for _ in range(5):
            kiva.post_loan_draft({})
        assert server.connections == 5
    assert loads == []


# --- logs -------------------------------------------------------------------------------------------------------------


def test_no_library_logs_what_was_searched_for(session, caplog):
    Telemetry({})
    broken = b'HTTP/1.1 200 OK\r\nContent-Length: 33\r\nodd header\r\n\r\n{"total_records": 0, "data": []}  '
    with HttpServer(say(broken)) as server, session(at(server)) as kiva:
        kiva.loans(query="Akinyi")
    assert b"Akinyi" in server.requests[0]
    assert "Akinyi" not in caplog.text


# --- whose fault it is that nobody answers: what `relay check` tells -------------------------------------------------


@pytest.mark.parametrize("status", [None, 503])
def test_a_kiva_that_gives_no_answer_is_in_trouble_and_nothing_is_to_be_changed(session, status):
    behave = say(answer(b"%d x" % status, b"")) if status else hang
    with HttpServer(behave) as server, session(at(server)) as kiva, pytest.raises(NotSent) as failed:
        kiva.config("themes")
    assert "the trouble is Kiva's" in mend_of(failed.value, "KivaApiBaseUrl")


def test_where_nobody_listens_kiva_may_come_back(session):
    with HttpServer(say(b"")) as server:
        gone = at(server)
    with session(gone) as kiva, pytest.raises(NotSent, match="ConnectionRefusedError") as failed:
        kiva.config("themes")
    assert "the trouble is Kiva's" in mend_of(failed.value, "KivaApiBaseUrl")


def test_a_name_that_does_not_exist_is_a_wrong_address(session, settings, monkeypatch):
    def nowhere(*_):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with session("http://partnerapi.example") as kiva, pytest.raises(NotSent) as failed:
        kiva.config("themes")
    assert "KivaApiBaseUrl" in mend_of(failed.value, "KivaApiBaseUrl")
    with pytest.raises(NotSent) as failed:
        post_form(settings, new_ssl_context, "http://auth.example/oauth/token", {})
    assert "KivaTokenUrl" in mend_of(failed.value, "KivaTokenUrl")


@pytest.mark.parametrize("fault", ["another name", "expired", "nobody vouches"])
def test_a_certificate_of_somebody_else_is_a_wrong_address(session, tmp_path, fault):
    host = "kiva.example" if fault == "another name" else "127.0.0.1"
    path, tls = certificate(tmp_path / "certificate.pem", host, days=-1 if fault == "expired" else 1)
    ours = new_ssl_context if fault == "nobody vouches" else trusting(path)
    with (
        HttpServer(say(answer(body=CREATED)), tls) as server,
        session(at(server, "https"), ours) as kiva,
        pytest.raises(NotSent) as failed,
    ):
        kiva.config("themes")
    assert "KivaApiBaseUrl" in mend_of(failed.value, "KivaApiBaseUrl")
