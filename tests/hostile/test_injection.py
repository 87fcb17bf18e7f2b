"""Texts that would be a line of the log, a header, a path or a place to connect to, if nobody took care."""

import copy
import json
import re
import time
from urllib.parse import urlsplit

import boto3
import pytest
import time_machine
from pytest_socket import disable_socket, enable_socket

from deployment import ENVIRONMENT
from fakes import PARTNER_URL, TOKEN_URL
from hostile.batch import CARRIED
from hostile.mutator import MARKER, real_messages
from hostile.oracle import UNPRINTABLE
from kiva_answers import token_answer
from kiva_partner.errors import InvalidMessage
from kiva_partner.messages import Kind, parse

LINES = {
    "CR": "a\rb",
    "LF": 'a\n{"level":"INFO","message":"forged"}',
    "CRLF": "a\r\nX-Injected: 1",
    "ESC": "a\x1b[31mb",
    "NEL": "a\u0085b",
    "LS and PS": "a\u2028b\u2029c",
    "NUL": "a\0b",
    "bidi": "a\u202eb\u2066c\u200f",
    "DEL and C1": "a\x7fb\x9bc",
}

REAL = dict(reversed(real_messages()))
"""One for each kind: the first."""


def _everywhere(document, text):
    """A document for each of its places, with the text there; and one for each object, with the text as a name."""
    found = []

    def walk(value, path):
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        if isinstance(value, dict):
            found.append(_changed(document, (*path, text), 1))
        for key, each in items:
            found.append(_changed(document, (*path, key), text))
            walk(each, (*path, key))

    walk(document, ())
    return found


def _changed(document, path, value):
    changed = place = copy.deepcopy(document)
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize("kind", list(Kind))
def test_no_field_writes_a_line_of_the_log_or_of_a_dead_letter(deliver, deployed, log, dead_letters, kind):
    for number, text in enumerate(LINES.values()):
        neighbour = re.sub(r'"G?L-', f'"N{number}-', json.dumps(REAL[kind]).replace('"mis-', f'"nei{number}-'))
        bodies = [json.dumps(each, ensure_ascii=False) for each in _everywhere(REAL[kind], text)]
        again = [each["itemIdentifier"] for each in deliver(kind, [neighbour, *bodies])]
        assert "m0" not in again, "their neighbour was not submitted"
        assert f"N{number}-" in json.dumps(deployed.sent)
        assert log()
        while letters := dead_letters():
            for letter in letters:
                assert not UNPRINTABLE.search(letter["MessageAttributes"]["Reason"]["StringValue"])


@pytest.mark.parametrize("kind", list(Kind))
def test_no_field_writes_a_line_or_a_header_through_the_api(deployed, ask, log, kind):
    for text in LINES.values():
        for document in _everywhere(REAL[kind], text):
            answer = ask(kind, "POST", "/x", body=json.dumps(document), headers={"Prefer": text, "X-Hostile": text})
            assert answer["statusCode"] in (200, 202, 400, 409)
            assert not UNPRINTABLE.search("".join(answer["headers"].values()))
            if answer["statusCode"] == 400:
                assert text not in str(json.loads(answer["body"])["errors"][0].values())
        log()


def test_no_header_of_a_request_shows_in_the_log_or_in_the_answer(ask, log):
    for text in LINES.values():
        answer = ask(Kind.REPAYMENT, "POST", text, body="{}", headers={text: text, "Content-Type": f"{text}{MARKER}"})
        assert answer["statusCode"] == 415
        assert not any(MARKER in shown for shown in (*log(), answer["body"], str(answer["headers"])))


def test_the_console_is_asked_for_lines_and_writes_none(deployed, ask, log):
    for text in LINES.values():
        hostile = f"{text}{MARKER}"
        for path, query in [
            (f"/submissions/loan_draft/{hostile}", None),
            (f"/submissions/{hostile}/L-1", None),
            (f"/config/{hostile}", None),
            (f"/{hostile}", None),
            ("/loans", {"query": hostile, "status": hostile}),
            ("/loans", {"limit": hostile}),
            ("/submissions", {"kind": hostile, "state": hostile}),
            ("/submissions", {"kind": "loan_draft", "state": "ACCEPTED", "cursor": hostile}),
        ]:
            answer = ask("console", "GET", path, query=query)
            assert answer["statusCode"] in (200, 400, 404), path
            assert MARKER not in answer["body"]
            assert not UNPRINTABLE.search("".join(map("".join, answer["multiValueHeaders"].values())))
        assert not any(MARKER in line for line in log())


@pytest.mark.parametrize("field", ["decision", "reason", "kiva_reference"])
def test_a_decision_writes_no_line_and_shows_no_value_of_a_wrong_one(deployed, deliver, ask, log, field):
    path = _unknown(deployed, deliver)
    for text in LINES.values():
        decision = {"decision": "accepted", "reason": "seen in PA2", "kiva_reference": "77", field: f"{text}{MARKER}"}
        answer = ask("console", "POST", f"{path}/decision", body=json.dumps(decision))
        assert answer["statusCode"] in (400, 409)
        assert MARKER not in answer["body"]
    assert not any(MARKER in line for line in log())


def test_why_somebody_decided_is_for_who_asks_and_not_for_the_log(deployed, deliver, ask, log):
    """A reason is one line, which may be written from right to left, but turns round nothing that follows it."""
    reason = f"\u2067\u05e9\u05dc\u05d5\u05dd\u2069 {MARKER}"
    path = _unknown(deployed, deliver)
    with time_machine.travel(time.time() + 7200):
        body = json.dumps({"decision": "abandon", "reason": reason})
        assert ask("console", "POST", f"{path}/decision", body=body)["statusCode"] == 200
    assert json.loads(ask("console", "GET", path)["body"])["decisions"][0]["reason"] == reason
    lines = log()
    assert any('"decision":"abandon"' in line for line in lines)
    assert not any(MARKER in line for line in lines)


def _unknown(deployed, deliver):
    """A submission whose outcome is unknown: its path. No fixture, for a logger keeps the stdout that it found."""
    deployed.answers = [(500, {})]
    deliver(Kind.REPAYMENT, [json.dumps({"period": "2026-10", "repayments": [_row("L-1", 1)]})])
    return "/submissions/repayment/2026-10:L-1:1.00"


def _row(loan, amount):
    return {"loan_id": loan, "client_id": "C-1", "amount": amount}


@pytest.mark.parametrize("text", ["a\uffff", "a\ufffe"], ids=ascii)
def test_what_is_put_into_the_queue_are_characters_that_sqs_carries(deployed, ask, queue_urls, text):
    """moto carries all. SQS refuses those that are no characters of XML, and has replaced them for some time."""
    row = {"internal_loan_id": "L-1", "internal_client_id": "C-1", "subject": "s", "body": text}
    answer = ask(Kind.JOURNAL_UPDATE, "POST", "/x", body=json.dumps({"journals": [row]}))
    queued = boto3.client("sqs").receive_message(QueueUrl=queue_urls[0]).get("Messages", [])
    assert answer["statusCode"] == (202 if queued else 400)
    assert all(CARRIED.fullmatch(each["Body"]) for each in queued)


# --- paths ------------------------------------------------------------------------------------------------------------

PATHS = [
    *("..", ".", "%2e%2e", "%252e%252e", "63/../64", "63%2f64", "63%2F..%2F64", "activities/../loans", "activities%00"),
    *("activities?x=1", "activities#x", "activities;x", "Activities", "\u0661\u0662", "a\nb", "a\0b", "x" * 100_000),
    *("//evil.example/", "\\\\evil", "%", "%zz", "%ff", "\ud800", "https://evil.example/"),
]


def test_no_path_of_ours_becomes_another_path_of_kiva(deployed, ask, log):
    for path in PATHS:
        for place in (f"/config/{path}", f"/submissions/loan_draft/{path}", f"/submissions/{path}/x", f"/loans/{path}"):
            assert ask("console", "GET", place)["statusCode"] in (400, 404), ascii(place)
    assert list(deployed.mock.calls) == []
    log()


def test_what_is_searched_for_stays_in_the_query(deployed, ask, log):
    for path in PATHS:
        answer = ask("console", "GET", "/loans", query={"query": path, "status": path})
        assert answer["statusCode"] in (200, 400), ascii(path)[:50]
    for call in deployed.mock.calls:
        assert call.request.url.partition("?")[0] in (TOKEN_URL, f"{PARTNER_URL}/loans")
    log()


# --- headers ----------------------------------------------------------------------------------------------------------

TOKENS = {
    "CRLF": "a\r\nX-Injected: 1",
    "LF": "a\nb",
    "end of line": "a\n",
    "space": "a b",
    "NUL": "a\0b",
    "not ASCII": "tök€n",
    "line separator": "a\u2028b",
    "half a surrogate": "a\ud800",
    "nothing": "",
    "900,000 characters": "a" * 900_000,
}


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
def test_a_token_that_no_header_can_carry_is_never_sent(deployed, deliver, log, token):
    answer = json.dumps(token_answer(token))
    deployed.mock.replace("POST", TOKEN_URL, body=answer)
    body = json.dumps({"period": "2026-10", "repayments": [_row("L-1", 1)]})
    assert [each["itemIdentifier"] for each in deliver(Kind.REPAYMENT, [body])] == ["m0"]
    assert deployed.sent == []
    assert not any("Authorization" in call.request.headers for call in deployed.mock.calls)
    assert not any(token[:20] in line for line in log() if token.strip())


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
def test_such_a_token_in_the_shared_store_is_as_good_as_none(deployed, deliver, log, token):
    stored = {"access_token": token, "scopes": ["create:repayment"], "obtained_at": 0, "expires_at": 10**11}
    belongs_to = {
        name: ENVIRONMENT[f"KIVA_{name.upper()}"] for name in ("environment", "partner_id", "token_url", "audience")
    }
    _store(json.dumps({**stored, **belongs_to}))
    assert deliver(Kind.REPAYMENT, [json.dumps({"period": "2026-10", "repayments": [_row("L-1", 1)]})]) == []
    sent = {call.request.headers.get("Authorization") for call in deployed.mock.calls}
    assert sent == {None, "Bearer canary-token-1"}
    log()


@pytest.mark.parametrize("text", ["", "[" * 30_000, "null", '{"access_token": "a"}', "\0", '{"expires_at": 1e999}'])
def test_a_shared_store_that_holds_anything_else_is_as_good_as_empty(deployed, deliver, text):
    if text:
        _store(text)
    assert deliver(Kind.REPAYMENT, [json.dumps({"period": "2026-10", "repayments": [_row("L-1", 1)]})]) == []
    assert deployed.token_requests == 1


def _store(text):
    """Into the store itself: moto, as AWS, takes no more than 64 kB, and so do others who write there."""
    boto3.client("secretsmanager").put_secret_value(SecretId=ENVIRONMENT["TOKEN_STORE_NAME"], SecretString=text)


# --- places to connect to ---------------------------------------------------------------------------------------------

NOT_PUBLIC = [
    *("http://media.example.org/a.png", "file:///etc/passwd", "ftp://media.example.org/a.png", "gopher://x/", "//x/a"),
    *("https://user:secret@media.example.org/a", "https://media.example.org@evil.example/a", "https://[::1]/a"),
    *(
        "https://media.example.org/a\r\nHost: evil",
        "https://media.example.org/a b",
        "javascript:alert(1)",
        "https:/x/a",
    ),
    *(
        "data:image/png;base64,AAAA",
        "https://media.example.org",
        "https://media.example.org\\@evil/a",
        "jar:https://x!/",
    ),
    *("https://m\u00e9dia.example.org/a", "https://media.example.org/\u202eexe.png", "HTTPS://x/a"),
]
NOWHERE_NEAR = [
    *(
        "https://169.254.169.254/latest/meta-data/",
        "https://localhost/a",
        "https://127.0.0.1:8443/a",
        "https://2130706433/",
    ),
    *("https://0x7f.1/a", "https://metadata.google.internal/", "https://media.example.org:99999/a"),
]


def _journal(url):
    row = {"internal_loan_id": "L-1", "internal_client_id": "C-1", "subject": "s", "body": "b", "image_url": url}
    return json.dumps({"journals": [row]})


@pytest.mark.parametrize("url", NOT_PUBLIC)
def test_an_image_url_that_is_not_https_with_a_plain_host_is_refused(rules, url):
    with pytest.raises(InvalidMessage) as refusal:
        parse(Kind.JOURNAL_UPDATE, _journal(url), rules)
    (violation,) = refusal.value.violations
    assert violation.path == "$.journals[0].image_url"
    assert violation.rule == "must be a public https URL" or violation.rule.startswith("holds U+")


@pytest.mark.parametrize("url", ["https://media.example.org/a.jpg", *NOWHERE_NEAR])
def test_an_image_url_goes_to_kiva_as_it_is_and_is_never_fetched_by_us(deployed, deliver, url):
    disable_socket()
    try:
        assert deliver(Kind.JOURNAL_UPDATE, [_journal(url)]) == []
    finally:
        enable_socket()
    ((_, sent),) = deployed.sent
    assert sent["journals"][0]["image_url"] == url
    asked = {urlsplit(call.request.url).hostname for call in deployed.mock.calls}
    assert asked == {urlsplit(TOKEN_URL).hostname, urlsplit(PARTNER_URL).hostname}


def test_a_draft_has_no_image_url(rules):
    with pytest.raises(InvalidMessage, match="image_url: is not a field of this kind"):
        parse(Kind.LOAN_DRAFT, json.dumps({**REAL[Kind.LOAN_DRAFT], "image_url": "https://x/a"}), rules)
