"""The runbook, rehearsed: each case that `make case` makes is named by `relay health`, and is over when it is ended."""

import re
import time
from datetime import UTC, datetime

import pytest

from cli.health import Health
from cli.stacks import local_stack
from local import cases
from local.cases import CASES
from local.stack import REGION, running

NAMED = {
    "dead-letters": [("dead letters", "loan drafts: 1")],
    "stuck": [("stuck", "loan drafts: 1 that Kiva has not")],
    "messages-wait": [("waiting", "loan drafts: 1 QUEUED, the oldest for 2 h")],
    "kiva-down": [("waiting", "loan drafts: 1 RETRY, .*HTTP 429")],
    "circuit-open": [("circuits", "Kiva leaves doubts: no loan drafts"), ("unknown", "loan drafts: 3 calls")],
    "unknown": [("unknown", r"loan drafts: 1 call \(1 submission\), for .*")],
    "refused-many": [("refused", "loan drafts: 12 within the hour")],
    "misconfigured": [("token", "the last one ended .*refuses the client id, secret or audience")],
    "token": [("token", "lasts until .*, and is not renewed: .*503")],
    "housekeeping": [("housekeeping", "ended its last run 2 h ago")],
    "outcomes": [("dead letters", "outcomes: 1")],
    "paused": [("pauses", "repayments are paused since .*: a rehearsal")],
    "restored": [("restored", "the ledger was restored from a backup")],
}
"""The lines of `relay health`, besides the alarm's."""

SECONDS = 30
"""For the last of what was sent to leave its queue."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A stack of its own, at which nothing is wrong: the cases and other tests would be in each other's way."""
    with running(state=tmp_path_factory.mktemp("cases") / "stack") as stack:
        cases.keep_house(stack)
        yield stack


def problems(stack):
    """What `relay health` finds, as (name, detail)."""
    looked_at = local_stack(stack.name, stack.endpoint, stack.api, REGION)
    lines = Health(looked_at, "local", datetime.now(UTC)).lines()
    return [(line.name, line.detail) for line in lines if line.verdict != "ok"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_health_names_a_case_and_nothing_is_left_of_it_when_it_is_ended(stack, case):
    assert problems(stack) == []
    rings = any(cases.alarms_of(stack, case.heading))
    cases.make(stack, case)
    try:
        found = problems(stack)
    finally:
        cases.end(stack, case)
    for name, detail in [*NAMED.get(case.name, []), *([("alarm", "")] if rings else [])]:
        assert [said for of, said in found if of == name and re.match(detail, said)], found
    deadline = time.monotonic() + SECONDS
    while (left := problems(stack)) and time.monotonic() < deadline:
        time.sleep(1)
    assert left == []
    assert rings or case.name in NAMED
