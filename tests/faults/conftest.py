"""The one table of this tier: what was tried, and what it did to the promise."""

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass

import botocore.session
import certifi
import pytest
import time_machine

from faults import aws
from faults.bookkeeping_kiva import BookkeepingKiva
from faults.canaries import CANARIES, PHOTO, PHOTO_KEY, planted
from faults.environment import Environment
from faults.extent import WHOLE
from faults.kiva_stub import BUCKET_URL, Certificates, KivaStub
from faults.plain_kiva import PlainKiva
from faults.stage import Stage
from faults.stand import Books, Search, World
from kiva_partner import runtime


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
SEARCH = pytest.StashKey[Search]()


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
    if search := config.stash.get(SEARCH, None):
        terminalreporter.write_line(f"\nCanaries: {len(CANARIES)} values, looked for plain, encoded and in part")
        row = f"{{:<{width}}}{{:>8}}{{:>8}}{{:>8}}"
        terminalreporter.write_line(row.format("", "Values", "Cases", "Seen in"))
        for kind, cases in sorted(search.cases.items()):
            terminalreporter.write_line(row.format(kind, len(planted(kind)), cases, search.seen[kind]))
        searched = (f"{count} of {surface}" for surface, count in sorted(search.texts.items()))
        terminalreporter.write_line(f"Texts that were searched: {', '.join(searched)}.")


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


# --- for the tests of one function with something at fault around it -------------------------------------------------


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def aws_session():
    """One for all cases: it takes 80 ms to read what AWS's services are like."""
    return botocore.session.get_session()


@pytest.fixture
def world(request, certificates, aws_session, monkeypatch):
    """Of the `kind` that the test asks for."""
    monkeypatch.setattr(certifi, "where", lambda: str(certificates.trusted))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificates.trusted))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", BUCKET_URL)
    with time_machine.travel(time.time(), tick=True) as clock, KivaStub(certificates) as kiva:
        kiva.objects[PHOTO_KEY] = PHOTO
        yield World(request.getfixturevalue("kind"), kiva, clock, aws_session, monkeypatch)
        runtime.forget()


@pytest.fixture
def books(request, world, capsys, caplog):
    """What a Lambda function logs is what is INFO or more."""
    caplog.set_level(logging.INFO)
    return Books(world, capsys, caplog, request.config.stash.setdefault(SEARCH, Search()))


# --- for the tests that let simulated days pass, in one process -----------------------------------------------------


@pytest.fixture
def stage(monkeypatch):
    with time_machine.travel(1_790_000_000.0, tick=False) as now, BookkeepingKiva() as kiva:
        yield Stage(kiva, now.shift, monkeypatch)
