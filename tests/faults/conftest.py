"""The one table of this tier: what was tried, and what it did to the promise."""

import time
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import time_machine

from faults import aws
from faults.bookkeeping_kiva import BookkeepingKiva
from faults.environment import Environment
from faults.extent import WHOLE
from faults.plain_kiva import PlainKiva
from faults.stage import Stage


@dataclass
class Line:
    """One line of the table, counting submissions; `wrong` are those in another state than they should be in."""

    cases: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    seconds: float = 0.0

    def add(self, cases=1, *, lost=0, doubled=0, wrong=0):
        self.cases += cases
        self.lost += lost
        self.doubled += doubled
        self.wrong += wrong


LINES = pytest.StashKey[dict[str, Line]]()


@pytest.fixture
def tally(request):
    """`with tally("Kills") as line: line.add(lost=…)` counts into the table; tests of one name share a line."""
    lines = request.config.stash.setdefault(LINES, {})

    @contextmanager
    def count(name):
        line = lines.setdefault(name, Line())
        started = time.perf_counter()
        try:
            yield line
        finally:
            line.seconds += time.perf_counter() - started

    return count


def pytest_terminal_summary(terminalreporter, config):
    lines = config.stash.get(LINES, {})
    if not lines:
        return
    total = Line()
    for line in lines.values():
        total.add(line.cases, lost=line.lost, doubled=line.doubled, wrong=line.wrong)
        total.seconds += line.seconds
    terminalreporter.section("faults: " + ("whole" if WHOLE else "short form; all of it: make faults"))
    width = max(map(len, lines)) + 2
    row = f"{{:<{width}}}{{:>8}}{{:>6}}{{:>9}}{{:>13}}{{:>9}}"
    terminalreporter.write_line(row.format("", "Cases", "Lost", "Doubled", "Wrong state", "Seconds"))
    for name, line in [*lines.items(), ("All", total)]:
        terminalreporter.write_line(
            row.format(name, line.cases, line.lost, line.doubled, line.wrong, f"{line.seconds:.0f}")
        )


# --- for the tests that need processes and a DynamoDB that is atomic under a race -----------------------------------


@pytest.fixture(scope="session")
def ministack(tmp_path_factory):
    with aws.running(tmp_path_factory.mktemp("ministack")) as running:
        yield running


@pytest.fixture(scope="session")
def live_kiva():
    with PlainKiva() as kiva:
        yield kiva


@pytest.fixture(scope="session")
def environment(ministack, tmp_path_factory):
    with Environment(ministack.endpoint, tmp_path_factory.mktemp("environment") / "log") as environment:
        yield environment


# --- for the tests that let simulated days pass, in one process -----------------------------------------------------


@pytest.fixture
def stage(monkeypatch):
    with time_machine.travel(1_790_000_000.0, tick=False) as now, BookkeepingKiva() as kiva:
        yield Stage(kiva, now.shift, monkeypatch)
