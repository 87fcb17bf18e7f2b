"""Every fault, at every point, with every kind: what becomes of the message at once, and whether the books balance."""

import time
from itertools import product

import pytest

from faults.extent import WHOLE
from faults.faults import FAULTS, Fate, reset_before_the_status
from faults.kiva_stub import GET, IMAGE, POINTS, POST, TOKEN
from faults.stand import HOUR, a_token_an_hour_old, unknown
from kiva_partner.ledger import State
from kiva_partner.messages import Kind

SEARCH = "search"
"""A fifth point, for drafts alone: housekeeping's search for one whose outcome is unknown."""


def case(point, fault, kind):
    return pytest.param(point, fault, kind, id=f"{point}-{fault}-{kind}")


CASES = [
    case(point, fault, kind)
    for number, (point, fault) in enumerate(product(POINTS, FAULTS))
    for kind in (Kind if WHOLE else [list(Kind)[number % 3]])
]
"""All of them; in the short form each fault at each point, with the kinds in turn."""


@pytest.mark.parametrize(("point", "fault", "kind"), CASES)
def test_a_fault_loses_nothing_doubles_nothing_and_is_told_as_it_is(point, fault, kind, world, books, tally):
    with tally("Fault matrix") as line:
        world.send()
        world.prepare(point)
        before, since = world.row() and world.row().state, time.time()
        with world.fault(point, fault):
            world.deliver()
        bucket = fault.photo if kind is Kind.LOAN_DRAFT else fault.kept
        fate = {TOKEN: fault.token, POST: fault.post, GET: fault.probe, IMAGE: bucket}[point]
        books.check_at_once(fate, before)
        books.check_wait(fault.wait if point == POST else 1, since)
        books.check_arrivals(2 if point == POST and fault.unauthorised else 1)
        world.dead_letters.redrive(world.queue)
        for _ in range(3):
            world.clock.shift(2 * HOUR)
            world.deliver()
            books.check_arrivals(1)
        books.check_when_quiet(fate)
        books.close(line)


@pytest.mark.parametrize(("point", "fault", "kind"), [case(SEARCH, fault, Kind.LOAN_DRAFT) for fault in FAULTS])
def test_a_search_that_fails_proves_nothing_about_a_draft_and_the_next_one_proves_it(
    point, fault, kind, world, books, tally
):
    with tally("Fault matrix") as line:
        world.send()
        a_token_an_hour_old(world)
        unknown(world, reset_before_the_status)
        with world.fault(GET, fault):
            world.keep_house()
        books.check_at_once(fault.search, State.UNKNOWN)
        world.clock.shift(HOUR / 2)
        world.keep_house()
        books.check_when_quiet(Fate.ACCEPTED)
        books.close(line)
