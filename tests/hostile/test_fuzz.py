"""`make fuzz` in short: the same bodies at every run, so that it fails for a reason and not by chance."""

import pytest

from hostile.batch import Batches
from hostile.fuzz import run
from hostile.mutator import Mutator, real_messages
from hostile.oracle import Oracle
from kiva_partner.messages import Kind
from kiva_partner.queues import Consumer

SEED = 5


def test_every_body_gets_one_verdict_by_the_queue_and_by_the_api():
    result = run(SEED, range(3000))
    assert not result.failure, result.failure
    assert sum(result.parsed.values()) == 3000
    accepted = sum(count for (_, valid), count in result.parsed.items() if valid)
    assert 300 < accepted < 2000, "one of the verdicts is hardly tried"
    assert set(result.answers) >= {202, 400}
    assert result.batches > 200


def test_a_number_makes_the_same_body_in_every_run():
    bodies = [Mutator(SEED).body(number) for number in range(50)]
    again = Mutator(SEED)
    assert [again.body(number) for number in reversed(range(50))] == bodies[::-1]


def test_a_body_that_is_dealt_with_wrongly_ends_the_run_and_is_shown_small(monkeypatch):
    def fail(self, kind, body, **_):
        if b"currency" in body:
            raise ZeroDivisionError

    monkeypatch.setattr(Oracle, "by_queue", fail)
    monkeypatch.setattr(Oracle, "by_api", lambda *_, **__: 202)
    result = run(SEED, range(100))
    assert "ZeroDivisionError" in result.failure
    assert "b'currency'" in result.failure
    assert f"FUZZ_SEED={SEED} FUZZ_ONLY={result.bodies - 1} make fuzz" in result.failure


def test_real_messages_of_each_kind_are_where_it_begins():
    assert {kind for kind, _ in real_messages()} == {"loan_draft", "journal_update", "repayment"}


def test_a_body_that_takes_its_neighbours_with_it_is_found(monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    with Batches() as batches:
        assert batches.deliver(Kind.REPAYMENT, b"{}")
        monkeypatch.setattr(Consumer, "_submit", fail)
        with pytest.raises(AssertionError, match="comes again"):
            batches.deliver(Kind.REPAYMENT, b"{}")


def test_a_body_that_no_queue_carries_is_not_delivered():
    bodies = [b"", b"\0", b"\xff", "\uffff".encode(), b" " * (2**20 + 1)]
    with Batches() as batches:
        assert not any(batches.deliver(Kind.REPAYMENT, body) for body in bodies)
