"""What people copy from the README and the producer guide is what the relay takes."""

import json
import re

import pytest

from guide import GUIDE, blocks
from images import data_uri, png
from kiva_partner.decisions import parse_decision
from kiva_partner.messages import MAX_MESSAGE_BYTES, MAX_ROWS, Kind, parse
from template.cloudformation import ROOT

KINDS = {"entreps": Kind.LOAN_DRAFT, "journals": Kind.JOURNAL_UPDATE, "repayments": Kind.REPAYMENT}
SHOWN = [
    pytest.param(block.text, id=f"{document.name}, line {block.line}")
    for document in (ROOT / "README.md", GUIDE)
    for block in blocks(document)
    if block.language == "json" and block.role != "policy"
]


@pytest.mark.parametrize("columns", ["rules", "two_columns"])
@pytest.mark.parametrize("text", SHOWN)
def test_every_message_and_decision_that_is_shown_would_be_taken(text, columns, request):
    whole = text.replace("data:image/png;base64,…", data_uri(png()))
    kinds = [kind for name, kind in KINDS.items() if name in json.loads(whole)]

    if kinds:
        assert parse(*kinds, whole, request.getfixturevalue(columns)).submissions
    else:
        assert parse_decision(whole)


def test_the_guide_shows_a_message_of_every_kind():
    shown = {name for block in blocks(GUIDE, "file") for name in json.loads(block.text)}

    assert set(KINDS) <= shown


def test_every_file_that_a_command_of_the_guide_takes_is_shown_in_it():
    named = {name for block in blocks(GUIDE, "run") for name in re.findall(r"(?:file://|@)(\S+\.json)", block.text)}

    assert named == {block.name for block in blocks(GUIDE, "file")}


def test_every_producer_of_the_guide_has_a_policy_and_every_policy_a_producer():
    users = {block.name for block in blocks(GUIDE, "run")} - {"operator"}

    assert users == {block.name for block in blocks(GUIDE, "policy")}


def test_the_guides_limits_are_those_that_are_checked():
    limits = GUIDE.read_text().partition("## 8. Limits")[2]

    assert f"| Message | {MAX_MESSAGE_BYTES:,} bytes" in limits
    assert f"| Rows | {MAX_ROWS:,} journals or repayments" in limits


def test_what_the_guide_links_to_is_there():
    links = re.findall(r"\]\((?!https:)([^)#]+)", GUIDE.read_text())

    assert links
    assert [link for link in links if not (GUIDE.parent / link).exists()] == []
