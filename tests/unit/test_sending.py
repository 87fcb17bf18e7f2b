from copy import replace

import pytest

from kiva_partner.errors import InvalidMessage, NotSent
from kiva_partner.messages import Kind
from kiva_partner.sending import LONGEST_PAUSE, Sending, parse_pause, parse_resume

DRAFT, JOURNAL, REPAYMENT = Kind


class Table:
    """A client for the ledger table that tells what a test has it tell of the table, and counts how often it did."""

    def __init__(self, client):
        self._client = client
        self.id, self.is_restored = "first", False
        self.described = 0

    def __getattr__(self, name):
        return getattr(self._client, name)

    def describe_table(self, TableName):  # noqa: N803
        self.described += 1
        restored = {"RestoreSummary": {"RestoreInProgress": False}} if self.is_restored else {}
        return {"Table": {"TableName": TableName, "TableId": self.id, **restored}}

    def restore(self):
        self.id, self.is_restored = "second", True


@pytest.fixture
def table(table):
    return Table(table)


@pytest.fixture
def there(table, clock):
    """As another execution environment has it."""
    return Sending(lambda: table, "ledger", "stage#9001", clock=clock)


def refusal(sending, kind=DRAFT, **more):
    with pytest.raises(NotSent) as raised:
        sending.check(kind, **more)
    return raised.value


# --- pauses -------------------------------------------------------------------------------------------------------


def test_a_paused_kind_is_not_sent_until_it_is_resumed_and_the_others_are(sending, there):
    assert there.pause([DRAFT], "arn:ann", "PA2 shows doubles") == [DRAFT]
    assert refusal(sending).retry_after == LONGEST_PAUSE
    sending.check(JOURNAL)
    assert there.resume([DRAFT], "arn:bob", "Kiva has cleaned up") == [DRAFT]
    sending.check(DRAFT)


def test_why_and_by_whom_it_is_paused_is_told_to_those_who_ask_and_to_no_message(sending):
    sending.pause([DRAFT], "arn:ann", "Akinyi was paid twice")
    assert "Akinyi" not in str(refusal(sending))
    assert "ann" not in str(refusal(sending))
    word = sending.standing().paused[DRAFT]
    assert (word.by, word.reason, word.at) == ("arn:ann", "Akinyi was paid twice", "2026-09-21T14:13:20+00:00")


def test_who_pauses_what_is_paused_changes_nothing(sending, clock):
    sending.pause([DRAFT], "arn:ann", "first")
    clock.advance(60)
    assert sending.pause(list(Kind), "arn:bob", "second") == [JOURNAL, REPAYMENT]
    assert {kind: word.by for kind, word in sending.standing().paused.items()} == {
        DRAFT: "arn:ann",
        JOURNAL: "arn:bob",
        REPAYMENT: "arn:bob",
    }


def test_who_resumes_what_is_not_paused_changes_nothing(sending):
    assert sending.resume([DRAFT], "arn:ann", "in vain") == []
    sending.pause([DRAFT], "arn:ann", "why")
    sending.resume([DRAFT], "arn:bob", "it is over")
    assert sending.resume(list(Kind), "arn:eve", "again") == []
    assert {kind: word.by for kind, word in sending.standing().resumed.items()} == {DRAFT: "arn:bob"}


def test_pauses_and_the_breaker_do_not_overwrite_each_other(sending, there):
    seen = there.read()
    sending.pause([DRAFT], "arn:ann", "why")
    assert there.write_circuits({DRAFT: replace(seen.circuits[DRAFT], open_until=10**10)}, seen.version)
    sending.pause([JOURNAL], "arn:ann", "why")
    standing = sending.standing()
    assert (standing.paused.keys(), standing.open_until) == ({DRAFT, JOURNAL}, {DRAFT: 10**10})


def test_what_was_read_a_moment_ago_serves_within_an_invocation(sending, there, clock):
    sending.check(DRAFT)
    there.pause([DRAFT], "arn:ann", "why")
    clock.advance(9)
    sending.check(DRAFT, within=10)
    clock.advance(1)
    refusal(sending, within=10)


def test_a_client_sees_each_kind_and_what_keeps_it(sending):
    sending.pause([DRAFT], "arn:ann", "why")
    sending.pause([JOURNAL], "arn:ann", "why")
    sending.resume([JOURNAL], "arn:bob", "over")
    item = sending.read()
    sending.write_circuits({REPAYMENT: replace(item.circuits[REPAYMENT], open_until=1_790_000_060.0)}, item.version)
    word = {"reason": "why", "at": "2026-09-21T14:13:20+00:00"}
    assert sending.standing().shown() == {
        "restored": False,
        "says": [
            "loan drafts are paused since 2026-09-21 14:13 UTC by arn:ann: why",
            "the circuit of repayments is open until 2026-09-21 14:14 UTC: Kiva's responses were ambiguous",
        ],
        "kinds": [
            {"kind": DRAFT, "paused": {"by": "arn:ann", **word}},
            {"kind": JOURNAL, "resumed": {"by": "arn:bob", **word, "reason": "over"}},
            {"kind": REPAYMENT, "open_until": "2026-09-21T14:14:20+00:00"},
        ],
    }


# --- a restored table ---------------------------------------------------------------------------------------------


def test_a_fresh_table_is_confirmed_by_itself(sending, there):
    sending.check(DRAFT)
    there.check(JOURNAL)
    assert sending.read().table_id == "first"


def test_after_a_restore_nothing_is_sent_until_a_person_confirms(sending, there, table, clock):
    sending.check(DRAFT)
    table.restore()
    clock.advance(60)
    assert refusal(sending).retry_after == LONGEST_PAUSE
    assert "restored from a backup" in str(refusal(sending, REPAYMENT))
    assert sending.standing().restored
    assert there.confirm("arn:ann", "looked through the logs of the gap") is True
    sending.check(DRAFT)
    assert not sending.standing().restored


def test_a_table_restored_from_a_backup_of_before_the_first_sending_is_no_fresh_one(sending, table):
    table.restore()
    refusal(sending)
    assert sending.standing().restored
    assert sending.read().table_id == ""


def test_a_pause_before_the_first_sending_leaves_the_table_fresh(sending):
    sending.pause([JOURNAL], "arn:ann", "why")
    sending.check(DRAFT)
    assert sending.read().table_id == "first"


def test_of_environments_that_confirm_a_fresh_table_at_once_those_of_another_table_send_nothing(
    sending, there, table, monkeypatch
):
    empty = there.read()
    sending.check(DRAFT)
    read, answers = there.read, iter([empty])
    monkeypatch.setattr(there, "read", lambda **more: next(answers, None) or read(**more))
    there.check(DRAFT)
    table.id, answers = "second", iter([empty])
    there._described = None
    refusal(there)


def test_to_confirm_what_waits_for_no_confirmation_changes_nothing(sending, table):
    assert sending.confirm("arn:ann", "to be sure") is False
    sending.check(DRAFT)
    assert sending.confirm("arn:ann", "to be sure") is False
    table.restore()
    assert sending.confirm("arn:ann", "judged") is True
    assert sending.confirm("arn:ann", "judged") is False


def test_who_confirms_looks_at_the_table_anew(sending, table):
    sending.check(DRAFT)
    table.restore()
    assert sending.confirm("arn:ann", "judged") is True


def test_a_pause_stays_when_the_table_is_confirmed(sending, table):
    sending.pause([DRAFT], "arn:ann", "we restore")
    table.restore()
    sending.confirm("arn:ann", "judged")
    assert "paused" in str(refusal(sending))


def test_a_table_is_described_once_a_minute(sending, table, clock):
    for _ in range(12):
        sending.check(DRAFT)
        clock.advance(10)
    assert table.described == 2


def test_that_the_table_was_restored_is_said_once_and_before_all_else(sending, table):
    sending.pause([DRAFT], "arn:ann", "we restore")
    table.restore()
    (said,) = sending.standing().shown()["says"]
    assert said.startswith("the ledger was restored from a backup")


# --- bodies -------------------------------------------------------------------------------------------------------


def test_a_pause_needs_a_reason_and_may_name_a_kind():
    assert parse_pause('{"reason": "why"}').kinds == list(Kind)
    assert parse_pause('{"reason": "why", "kind": "repayment"}').kinds == [REPAYMENT]


@pytest.mark.parametrize(
    "body", ["{}", '{"reason": ""}', '{"reason": "a\\nb"}', '{"reason": "x", "kind": "y"}', '{"reason": "x", "a": 1}']
)
def test_anything_else_is_refused(body):
    for parse in (parse_pause, parse_resume):
        with pytest.raises(InvalidMessage):
            parse(body)


def test_a_restored_ledger_is_confirmed_as_a_whole():
    assert parse_resume('{"reason": "x", "restored": true}').restored
    with pytest.raises(InvalidMessage):
        parse_resume('{"reason": "x", "restored": true, "kind": "repayment"}')
