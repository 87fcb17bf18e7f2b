"""What bad input gets under the real settings, by the API and by the queue: a rule, and never its own content back."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.world import loans, text

CANARY = "canary-7f3a"
DEEP = '{"journals": ' + "[" * 10_000 + "]" * 10_000 + "}"
LISTS = {"loan_draft": "entreps", "journal_update": "journals", "repayment": "repayments"}

Message = dict[str, Any]


@dataclass(frozen=True)
class Bad:
    """A way to spoil a valid message of a kind, the field that is named then, and words of the rule."""

    name: str
    kind: str
    spoil: Callable[[Message], Message | str]
    field: str
    rule: str


def changed(**changes: Any) -> Callable[[Message], Message]:
    """With other fields at its top."""
    return lambda message: message | changes


def first(kind: str, **changes: Any) -> Callable[[Message], Message]:
    """With other fields in the first thing of its list; None takes a field away."""

    def spoil(message: Message) -> Message:
        one, *others = message[LISTS[kind]]
        one = {name: value for name, value in (one | changes).items() if value is not None}
        return message | {LISTS[kind]: [one, *others]}

    return spoil


def rewritten(old: str, new: str) -> Callable[[Message], str]:
    """With another text, where a Python value cannot say it."""
    return lambda message: text(message).replace(old, new)


def as_group(message: Message) -> Message:
    """A group of two, of which one value says who is in the photo."""
    (borrower,) = message["entreps"]
    pair = [borrower | {"loan_id": f"{borrower['loan_id']}-{letter}"} for letter in "AB"]
    group = {"group_name": CANARY, "internal_client_id": "G-1", "internal_loan_id": borrower["loan_id"]}
    return message | group | {"entreps": pair, "not_pictured": [False]}


def twice(message: Message) -> Message:
    """With each of its repayments twice."""
    return message | {"repayments": message["repayments"] * 2}


def repaid(**changes: Any) -> Callable[[Message], Message]:
    return first("repayment", **changes)


def told(**changes: Any) -> Callable[[Message], Message]:
    return first("journal_update", **changes)


NO_PHOTO = "data:image/png;base64," + base64.b64encode(b"%PDF-1.7 " + CANARY.encode()).decode()
NO_SUCH_PHOTO = {"s3_key": f"photos/{CANARY}.png"}
ROW, JOURNAL = "$.repayments[0]", "$.journals[0]"

TABLE = [
    Bad("not JSON", "repayment", lambda _: f"{CANARY};1250.50", "$", "is not JSON"),
    Bad("white space", "journal_update", lambda _: " ", "$", "is not JSON"),
    Bad("a list", "repayment", lambda _: f'["{CANARY}"]', "$", "must be object"),
    Bad("another kind", "repayment", lambda _: {"journals": [{"body": CANARY}]}, "$.journals", "a journal_update"),
    Bad("unknown field", "loan_draft", changed(nickname=CANARY), "$.nickname", "is not a field"),
    Bad("unspeakable field", "loan_draft", changed(**{f"<{CANARY}>": 1}), "$.(unprintable)", "is not a field"),
    Bad("field twice", "loan_draft", rewritten('"currency"', f'"currency": "{CANARY}", "currency"'), "$", "twice"),
    Bad("missing field", "journal_update", told(subject=None), f"{JOURNAL}.subject", "is missing"),
    Bad("wrong type", "loan_draft", changed(activity_id=CANARY), "$.activity_id", "must be int"),
    Bad("amount as text", "repayment", repaid(amount=CANARY), f"{ROW}.amount", "must be a number"),
    Bad("NaN", "repayment", rewritten("1250.5", "NaN"), "$", "NaN, which is not JSON"),
    Bad("1e400", "repayment", rewritten("1250.5", "1e400"), f"{ROW}.amount", "is too large"),
    Bad("negative amount", "repayment", repaid(amount=-1), f"{ROW}.amount", "must not be negative"),
    Bad("three decimals", "repayment", repaid(amount=12.345), f"{ROW}.amount", "at most two decimals"),
    Bad("loan twice", "repayment", twice, "$.repayments[1].loan_id", "is twice"),
    Bad("no client id", "repayment", repaid(client_id=None), f"{ROW}.client_id", "is missing"),
    Bad("nobody's", "journal_update", told(internal_client_id=None), f"{JOURNAL}.internal_client_id", "is missing"),
    Bad("no month", "repayment", changed(period=None), "$.period", "is missing"),
    Bad("empty list", "journal_update", changed(journals=[]), "$.journals", "length >= 1"),
    Bad("no such date", "loan_draft", changed(disburse_time="2027-02-30"), "$.disburse_time", "a date that exists"),
    Bad("not_pictured too short", "loan_draft", as_group, "$.not_pictured", "one value for each"),
    Bad("individual in a group", "loan_draft", changed(group_name=CANARY), "$.group_name", "must be absent"),
    Bad("no photo", "loan_draft", changed(image_encoded=NO_PHOTO), "$.image_encoded", "PNG, JPEG or GIF"),
    Bad("no such photo", "loan_draft", changed(photo=NO_SUCH_PHOTO), "$.photo.s3_key", "names no object"),
    Bad("photo by http", "journal_update", told(image_url=f"http://x.test/{CANARY}"), f"{JOURNAL}.image_url", "https"),
    Bad("nested deep", "journal_update", lambda _: DEEP, "$", "is nested too deeply"),
]  # fmt: skip


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.name)
def test_the_api_names_the_field_and_the_rule_and_repeats_nothing(world, bad):
    response = world.post(bad.kind, bad.spoil(world.message(bad.kind)), Prefer="wait")

    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/problem+json"
    assert bad.rule in {error["field"]: error["rule"] for error in response.json()["errors"]}[bad.field]
    assert CANARY not in response.text


@pytest.mark.parametrize(
    ("body", "content_type", "status", "problem"),
    [
        (b"<repayments/>", "application/xml", 415, "unsupported-media-type"),
        (b'{"reference": "\xff"}', "application/json", 400, "invalid-message"),
    ],
)
def test_the_api_takes_json_in_utf_8_only(world, body, content_type, status, problem):
    response = world.post("repayment", body, Content_Type=content_type)

    assert response.status_code == status
    assert response.json()["type"].endswith(problem)


def test_the_api_says_when_a_message_is_too_large(world):
    rows = [{"loan_id": f"L-{number}", "client_id": "€" * 64, "amount": 1} for number in range(5000)]

    response = world.post("repayment", {"period": "2026-10", "repayments": rows})

    assert response.status_code == 413
    assert "at most 1000000 bytes" in response.json()["errors"][0]["rule"]


def test_the_queue_lays_all_of_it_aside_with_the_reasons_and_submits_the_neighbours(world):
    good = {kind: world.message(kind) for kind in LISTS}
    sent = {}
    for kind, message in good.items():
        bad_ones = [bad for bad in TABLE if bad.kind == kind]
        *message_ids, _ = world.put(kind, *(bad.spoil(world.message(kind)) for bad in bad_ones), message)
        sent |= dict(zip(message_ids, bad_ones, strict=True))
    letters = {}

    def all_laid_aside():
        for kind in LISTS:
            letters.update(world.dead_letters(kind))
        return sent.keys() <= letters.keys()

    world.until(all_laid_aside, "a dead letter for each bad message")
    for message_id, bad in sent.items():
        reason = letters[message_id]["Reason"]
        assert bad.field in reason
        assert bad.rule in reason
        assert CANARY not in reason
    for kind, message in good.items():
        (loan,) = loans(kind, message)
        assert world.until(lambda kind=kind, loan=loan: world.at_kiva(kind, loan), f"{kind} {loan} to arrive")


def test_nothing_of_it_reaches_kiva(world):
    assert CANARY not in json.dumps([world.sandbox(view) for view in ("drafts", "journals", "uploads")])
