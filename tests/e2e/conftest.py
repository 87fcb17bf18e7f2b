"""One stack for the whole session: the real template, deployed, with permissions checked."""

import pytest

from e2e.world import World
from local.cases import schedule
from local.stack import running


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    with running(state=tmp_path_factory.mktemp("e2e") / "stack", parameters={"CsvColumns": "3"}) as stack:
        schedule(stack, "DISABLED")  # tests call housekeeping; a tick just before would have done its work
        yield World(stack)
