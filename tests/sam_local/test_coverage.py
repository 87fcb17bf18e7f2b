"""Nothing is left out, and nothing is run otherwise than it is documented. This needs no container."""

import shlex

import pytest

from sam_local.sam import (
    DOCUMENTED,
    ENDS,
    EVENTS,
    FED_BY,
    FILES,
    INVOKE,
    START_API,
    feeds,
    functions,
    routes,
    shape,
    sources,
)
from sam_local.test_start_api import BAD, GOOD, POSTS
from template.cloudformation import ROOT


@pytest.mark.parametrize("line", DOCUMENTED)
def test_what_is_documented_is_what_these_tests_run(line):
    assert shape(line) in (INVOKE, START_API)


@pytest.mark.parametrize("line", [line for line in DOCUMENTED if shape(line) == INVOKE])
def test_a_documented_line_hands_a_file_to_the_function_that_it_is_for(line):
    words = shlex.split(line)

    assert words[3] == FED_BY[feeds(ROOT / words[words.index("--event") + 1])]


def test_every_file_feeds_a_function_and_its_end_is_told():
    assert {file.relative_to(EVENTS).as_posix() for file in FILES} == ENDS.keys()
    assert {feeds(file) for file in FILES} <= FED_BY.keys()


def test_every_function_has_a_file_and_so_has_every_queue_schedule_and_stream():
    fed = {feeds(file) for file in FILES}

    assert {FED_BY[source] for source in fed} == functions().keys()
    assert sources().keys() <= fed


def test_every_route_is_asked_for_something_good_and_where_it_reads_any_for_something_bad():
    reads_nothing = {"GET /check", "GET /health", "GET /openapi.json"}

    assert {request.route for request in GOOD} | POSTS.keys() == routes().keys()
    assert {request.route for request in BAD} == routes().keys() - reads_nothing
