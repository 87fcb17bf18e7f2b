"""One stack that containers reach, for the whole session; and a table of what they answered."""

import os

import pytest

from local.containers import address
from local.stack import running
from sam_local.sam import SamLocal, missing

ROWS = pytest.StashKey[list[tuple[str, str, str, float]]]()


@pytest.fixture(scope="session")
def sam(tmp_path_factory):
    """Where no container can be run these tests are left out, but not where somebody asked for them."""
    if why := missing():
        if os.environ.get("CONTAINERS") == "needed":
            pytest.exit(why, returncode=1)
        pytest.skip(f"SAM LOCAL WAS NOT TRIED: {why} Once `docker version` shows a server: make sam-local")
    with running(state=tmp_path_factory.mktemp("sam-local") / "stack", host=address()) as stack:
        yield SamLocal(stack, tmp_path_factory.mktemp("sam-local-logs"))


@pytest.fixture
def tell(request):
    """`tell(who, what, answer, seconds)` adds a row to the table that is printed in the end."""
    rows = request.config.stash.setdefault(ROWS, [])
    return lambda *row: rows.append(row)


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    terminalreporter.section("sam local: what was answered")
    terminalreporter.write_line(f"{'Function':<24}{'Event or request':<50}{'Answer':<37}{'Seconds':>9}")
    for function, event, answer, seconds in rows:
        terminalreporter.write_line(f"{function:<24}{_cut(event, 48):<50}{_cut(answer, 35):<37}{seconds:>9.1f}")


def _cut(text, length):
    return text if len(text) <= length else f"{text[: length - 1]}…"
