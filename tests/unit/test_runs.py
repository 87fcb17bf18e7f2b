"""When the clock's ticks last ended well, as anybody reads it."""

import pytest

from kiva_partner.runs import Run, Runs


@pytest.fixture
def runs(table, clock):
    """A new execution environment."""
    return lambda: Runs(lambda: table, "ledger", "stage#9001", clock=clock)


def test_before_the_first_run_there_is_none(runs):
    assert runs().last("housekeeping") is None


def test_the_last_run_is_read_with_its_time_and_its_result_by_everybody(runs, clock):
    clock.now = 1_795_860_000.0
    runs().ended("housekeeping", {"stuck": 1, "token": "kept"})
    runs().ended("digest", {"drafts": 2})
    assert runs().last("housekeeping") == Run("2026-11-28T10:00:00+00:00", {"stuck": 1, "token": "kept"})
    assert runs().last("digest").result == {"drafts": 2}


def test_the_run_before_is_forgotten(runs, clock):
    runs().ended("digest", {"drafts": 2})
    clock.advance(86_400)
    runs().ended("digest", {})
    assert runs().last("digest").result == {}


def test_a_run_is_kept_under_a_key_that_its_function_may_write_and_no_other(runs, table):
    runs().ended("digest", {})
    assert table.scan(TableName="ledger")["Items"][0]["pk"] == {"S": "stage#9001#run#digest"}
