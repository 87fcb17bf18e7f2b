"""A Kiva that was taken over, or something in its place: each answer gets one verdict, for memory that is bounded."""

import gzip
import json
import tracemalloc
import zlib
from copy import replace
from functools import cache

import pytest

from fakes import FakeTokens
from kiva_partner.client import MAX_ANSWER_BYTES, MAX_LOANS_ANSWER_BYTES, KivaClient, new_ssl_context, post_form
from kiva_partner.errors import Misconfigured, NotSent, OutcomeUnknown, Rejected
from sockets import HttpServer, answer, say_and_hang_up

MOST_MEMORY = {"POST": 32 * 2**20, "GET": 48 * 2**20, "token": 32 * 2**20}
"""Lists of loans may be long: 4 MB are read of them, of everything else 1 MB."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
UUID = "7d0c9a52-1b7e-4f0e-8f39-5a8e4f3c2b61"
DRAFT = json.dumps({"loan_draft_uuid": UUID}).encode()


@cache
def unfolding(wbits):
    """200 MiB of spaces in 200 kB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    spaces = b" " * 2**20
    return b"".join([*(packer.compress(spaces) for _ in range(200)), packer.flush()])


def endlessly(head, piece):
    """A behaviour: the piece again and again, until nobody takes it."""

    def behave(exchange):
        exchange.body()
        exchange.send(head)
        while True:
            exchange.send(piece)

    return behave


def zipped(encoding, body):
    return say_and_hang_up(answer(b"200 OK", body, b"Content-Encoding: " + encoding))


DEEP = 100_000
UNREADABLE = {
    "a body without end": endlessly(HEAD + b"\r\n", b" " * 65_536),
    "chunks without end": endlessly(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b" " * 4096 + b"\r\n"),
    "a chunk's extension without end": endlessly(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;a=", b"x" * 65_536),
    "a trailer without end": endlessly(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Long: ", b"x" * 65_536),
    "a chunk larger than there is": endlessly(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n", b" " * 65_536
    ),
    "a status without end": endlessly(b"HTTP/1.1 200 ", b"x" * 65_536),
    "a header without end": endlessly(HEAD + b"X-Long: ", b"x" * 65_536),
    "headers without end": endlessly(HEAD, b"X-More: 1\r\n" * 5000),
    "10,000 headers": say_and_hang_up(HEAD, b"X-More: 1\r\n" * 10_000, b"\r\n{}"),
    "lists in lists": say_and_hang_up(answer(b"200 OK", b"[" * DEEP + b"]" * DEEP)),
    "objects in objects": say_and_hang_up(answer(b"200 OK", b'{"a":' * DEEP + b"1" + b"}" * DEEP)),
    "a gzip bomb": zipped(b"gzip", unfolding(31)),
    "a deflate bomb": zipped(b"deflate", unfolding(15)),
    "a bomb in a bomb": zipped(b"gzip, gzip", gzip.compress(unfolding(31))),
    "as many encodings as fit": zipped(b", ".join([b"gzip"] * 1000), b"x"),
    "a bomb that says where it is moved to": say_and_hang_up(
        answer(b"302 Found", unfolding(31), b"Location: http://127.0.0.1/", b"Content-Encoding: gzip")
    ),
    "brotli that is none": zipped(b"br", b"\xff" * 1000),
    "shorter than it says": say_and_hang_up(HEAD, b"Content-Length: 1000000\r\n\r\n{}"),
    "a negative length": say_and_hang_up(HEAD, b"Content-Length: -1\r\n\r\n["),
    "two lengths": say_and_hang_up(HEAD, b"Content-Length: 2\r\nContent-Length: 500\r\n\r\n{}"),
    "NUL bytes": say_and_hang_up(answer(b"200 OK", b"\0" * 1000)),
    "no UTF-8": say_and_hang_up(answer(b"200 OK", b'{"loan_draft_uuid": "\xff\xfe", "data": "\xff"}')),
    "a number without end": say_and_hang_up(answer(b"200 OK", b"9" * 900_000)),
    "text": say_and_hang_up(answer(b"200 OK", b"<html>welcome</html>")),
    "a status without meaning": say_and_hang_up(b"HTTP/1.1 99999999999 x\r\n\r\n"),
    "a redirect to nowhere": say_and_hang_up(answer(b"302 Found", b"", b"Location: http://[")),
    "a redirect in no charset": say_and_hang_up(answer(b"302 Found", b"", b"Location: http://\xff\xfe/")),
    "a redirect without end": endlessly(b"HTTP/1.1 303 See Other\r\nLocation: /x\r\n\r\n", b" " * 65_536),
}


@pytest.fixture
def call(settings):
    """A POST, a GET or a token request to a server."""

    def make(method, server):
        url = f"http://127.0.0.1:{server.port}"
        local = replace(settings, api_base_url=url, connect_timeout=3, read_timeout=3)
        if method == "token":
            status, body = post_form(local, new_ssl_context, f"{url}/oauth/token", {"client_secret": "canary"})
            return status, body
        with KivaClient(local, FakeTokens(), new_ssl_context).session(lambda: 290.0) as kiva:
            return kiva.post_loan_draft({"currency": "KES"}) if method == "POST" else kiva.loans()

    return make


@pytest.fixture
def posted(settings):
    """What a POST of one kind makes of an answer."""

    def post(name, body):
        with HttpServer(say_and_hang_up(answer(b"200 OK", body))) as server:
            local = replace(settings, api_base_url=f"http://127.0.0.1:{server.port}", connect_timeout=3, read_timeout=9)
            with KivaClient(local, FakeTokens(), new_ssl_context).session(lambda: 290.0) as kiva:
                return getattr(kiva, name)([{}])

    return post


@pytest.mark.parametrize("behave", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("method", ["POST", "GET", "token"])
def test_an_answer_that_cannot_be_read_is_one_verdict_for_bounded_memory(call, method, behave):
    tracemalloc.start()
    try:
        with HttpServer(behave) as server:
            if method == "token":
                _is_refused_or_small(call, server)
            else:
                with pytest.raises(OutcomeUnknown if method == "POST" else NotSent) as verdict:
                    call(method, server)
                assert len(str(verdict.value)) < 200
            assert len(server.exchanges) == 1
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY[method]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", ["POST", "GET", "token"])
def test_a_chunk_with_a_negative_length_is_an_answer_that_broke_off(call, method):
    negative = say_and_hang_up(HEAD, b"Transfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n0\r\n\r\n")
    with HttpServer(negative) as server, pytest.raises(OutcomeUnknown if method == "POST" else NotSent):
        call(method, server)


@pytest.mark.parametrize("status", [b"100 Continue", b"103 Early Hints"])
def test_one_that_says_go_on_without_end_is_left(call, status):
    going_on = endlessly(b"", b"HTTP/1.1 " + status + b"\r\n\r\n")
    with HttpServer(going_on) as server, pytest.raises(OutcomeUnknown, match="no answer: ConnectionError"):
        call("POST", server)


def test_one_whose_interim_answer_has_headers_without_end_is_left(call):
    early = endlessly(b"HTTP/1.1 103 Early Hints\r\n", b"Link: </x>\r\n" * 5000)
    with HttpServer(early) as server, pytest.raises(OutcomeUnknown, match="no answer: ConnectionError"):
        call("POST", server)


UNFOLDED = {"POST": (OutcomeUnknown, "without a loan", 96), "GET": (NotSent, "no total_records", 256)}
"""For the longest answer that is read: the verdict, its words, and the most memory, of a function's 512 MiB."""


@pytest.mark.parametrize("part", [b"{}", b'{"":{}}', b'"",""', b"1e9"])
@pytest.mark.parametrize("method", UNFOLDED)
def test_an_answer_of_many_small_parts_unfolds_to_a_part_of_a_functions_memory(call, method, part):
    verdict, words, most = UNFOLDED[method]
    length = MAX_ANSWER_BYTES if method == "POST" else MAX_LOANS_ANSWER_BYTES
    body = b'{"a":[%s]}' % b",".join([part] * ((length - 100) // (len(part) + 1)))
    tracemalloc.start()
    try:
        with HttpServer(say_and_hang_up(answer(b"200 OK", body))) as server, pytest.raises(verdict, match=words):
            call(method, server)
        assert tracemalloc.get_traced_memory()[1] < most * 2**20
    finally:
        tracemalloc.stop()


def _is_refused_or_small(call, server):
    """The body of a token request is for others to read: here it is only not to be without end."""
    try:
        _, body = call("token", server)
    except NotSent as verdict:
        assert len(str(verdict)) < 200  # noqa: PT017 a body is as right as this
    else:
        assert len(body) <= 1_000_000


@pytest.mark.parametrize("status", [b"301 x", b"302 x", b"303 x", b"307 x", b"308 x"])
@pytest.mark.parametrize("method", ["POST", "GET", "token"])
def test_what_is_redirected_to_another_host_takes_neither_token_nor_secret_there(call, method, status):
    with HttpServer(say_and_hang_up(answer(b"200 OK", DRAFT))) as other:
        location = f"Location: http://127.0.0.1:{other.port}/steal".encode()
        with HttpServer(say_and_hang_up(answer(status, b"", location))) as server:
            if method == "token":
                assert call(method, server)[0] == int(status[:3])
            else:
                with pytest.raises((OutcomeUnknown, NotSent, Misconfigured)):
                    call(method, server)
        assert other.connections == 0


REFERENCES = [
    *(
        None,
        True,
        False,
        [],
        {},
        [UUID],
        {"id": UUID},
        "",
        " ",
        1.5,
        "../..",
        "a/b",
        "a b",
        f"{UUID}\n",
        "x" * 900_000,
    ),
    *(
        "a\r\nX-Injected: 1",
        "<script>alert(1)</script>",
        "\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668",
        "\x1b[31m",
    ),
]


@pytest.mark.parametrize("reference", REFERENCES, ids=[ascii(each)[:30] for each in REFERENCES])
@pytest.mark.parametrize(
    ("name", "field"),
    [("post_loan_draft", "loan_draft_uuid"), ("post_journals", "archive_id"), ("post_repayments", "upload_id")],
)
def test_a_success_without_a_reference_of_kivas_shape_is_unknown(posted, name, field, reference):
    with pytest.raises(OutcomeUnknown, match=f"without a {field}"):
        posted(name, json.dumps({field: reference}).encode())


def test_of_a_name_that_is_there_twice_the_last_one_counts_and_must_have_its_shape(posted):
    twice = b'{"loan_draft_uuid": "%s", "loan_draft_uuid": "../.."}' % UUID.encode()
    with pytest.raises(OutcomeUnknown):
        posted("post_loan_draft", twice)


URLS = [
    *(None, 1, [], {}, "", "javascript:alert(1)", "data:text/html,x", "http://www.kiva.org/a", "//www.kiva.org/a"),
    *(
        "https://evil.example/",
        "https://kiva.org.evil.example/",
        "https://evilkiva.org/",
        "https://kiva.org@evil.example/",
    ),
    *(
        "https://a:b@www.kiva.org/",
        "https://www.kiva.org/\r\nX: 1",
        "https://www.kiva.org/\u202ea",
        "https://[",
        "https://[::1]/",
    ),
    *("https://evil.example\\@kiva.org/", "https://evil.example\\.kiva.org/", "https://evil.example%2f@kiva.org/"),
    *("https://evil.example#.kiva.org/", "https://evil.example?.kiva.org/", "https://www.kiva.org:99999999/"),
    *(
        "https://www.kiva.org/" + "x" * 10_000,
        " https://www.kiva.org/",
        "https://www.kiva.org/\n",
        "https://\u212aiva.org/",
    ),
]


@pytest.mark.parametrize("url", URLS, ids=[ascii(each)[:40] for each in URLS])
def test_a_place_to_confirm_that_is_not_kivas_is_not_shown_and_the_reference_still_counts(posted, url):
    accepted = posted("post_journals", json.dumps({"archive_id": "77", "confirm_url": url}).encode())
    assert accepted.kiva == [{"archive_id": "77"}]


def test_kivas_own_place_is_shown(posted):
    url = "https://www.kiva.org/pa2/journals?id=77"
    body = json.dumps({"archive_id": "77", "confirm_url": url}).encode()
    assert posted("post_journals", body).kiva == [{"archive_id": "77", "confirm_url": url}]


PROBLEMS = [
    *(None, 1, "x", {}, {"loan_id": "L"}, [None, 1, "x", [], True], [{"loan_id": {}, "severity": [], "code": 1}]),
    [{}] * 100_000,
]


@pytest.mark.parametrize("problems", PROBLEMS, ids=[ascii(each)[:40] for each in PROBLEMS])
def test_problems_of_any_shape_are_a_doubt_about_rows_and_not_about_the_upload(posted, problems):
    taken = posted("post_repayments", json.dumps({"upload_id": "77", "problems": problems}).encode())
    assert taken.kiva == [{"upload_id": "77"}]
    assert bool(taken.findings.doubt) == (problems is not None)
    assert all(isinstance(text, str) for each in taken.findings.of_call for text in (each.loan_id, each.details))


@pytest.mark.parametrize("message", [None, 1, [], {}, "x" * 900_000, {"message": "y"}])
def test_a_refusal_of_any_shape_is_a_refusal(call, message):
    body = json.dumps({"message": message}).encode()
    with HttpServer(say_and_hang_up(answer(b"400 Bad Request", body))) as server, pytest.raises(Rejected) as refusal:
        call("POST", server)
    assert len(refusal.value.text) <= 2000


@pytest.mark.parametrize(
    "retry_after", [b"9" * 60_000, b"-1", b"1e9", b"nan", b"\xff", b"Mon, 99999999999999999999 Jan 2024 00:00:00 GMT"]
)
def test_a_wait_that_is_absurd_is_none(call, retry_after):
    behave = say_and_hang_up(answer(b"429 Too Many Requests", b"", b"Retry-After: " + retry_after))
    with HttpServer(behave) as server, pytest.raises(NotSent) as verdict:
        call("POST", server)
    assert verdict.value.retry_after is None
