"""One stack for the whole session: the real template, deployed, with permissions checked."""

import pytest

from e2e.world import World
from local.stack import running


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    with running(state=tmp_path_factory.mktemp("e2e") / "stack", parameters={"CsvColumns": "3"}) as stack:
        yield World(stack)
