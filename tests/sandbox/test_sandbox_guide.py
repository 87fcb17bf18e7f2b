"""docs/sandbox.md does what it says: its commands, in their order, as they are written there."""

import json
import os
import re
import subprocess
import sys
from shlex import quote

import httpx2
import pytest

from guide import blocks
from kiva_sandbox.__main__ import _greeting
from kiva_sandbox.data import Partner
from kiva_sandbox.switches import Switches, choices
from template.cloudformation import ROOT

GUIDE = ROOT / "docs" / "sandbox.md"
RUN = blocks(GUIDE, "run")
NEXT = "--- the next block ---"


def command(folder):
    """A folder for PATH in which `kiva-sandbox` is, as an installation would have it."""
    script = folder / "bin" / "kiva-sandbox"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nPYTHONPATH={quote(str(ROOT))} exec {quote(sys.executable)} -m kiva_sandbox "$@"\n')
    script.chmod(0o755)
    return script.parent


@pytest.fixture(scope="module")
def kiva(tmp_path_factory):
    """Where the reader's sandbox answers."""
    running = subprocess.Popen(
        [sys.executable, "-m", "kiva_sandbox", "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield running.stdout.readline().split()[-1]
    running.kill()
    running.communicate()


@pytest.fixture(scope="module")
def printed(kiva, tmp_path_factory):
    """What each block printed, by its line: all of them run in one shell, which stops at the first that fails."""
    end_all = "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n"
    folder = tmp_path_factory.mktemp("reader")
    for block in blocks(GUIDE, "file"):
        (folder / block.name).write_text(block.text)
    environment = {
        "PATH": os.pathsep.join([str(command(folder)), os.environ["PATH"]]),
        "HOME": str(folder),
        "KIVA": kiva,
        "NO_PROXY": "127.0.0.1",
    }
    ended = subprocess.run(  # noqa: S603 the guide is ours
        ["/bin/bash", "-euo", "pipefail", "-c", end_all + f"\necho; echo '{NEXT}'\n".join(block.text for block in RUN)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = ended.stdout.split(f"{NEXT}\n")
    assert (ended.returncode, len(said)) == (0, len(RUN)), f"{RUN[len(said) - 1]}: {ended.stderr}"
    return {block.line: text for block, text in zip(RUN, said, strict=True)}


@pytest.fixture
def of(printed):
    """What the block printed whose text holds these words."""

    def of(words):
        (block,) = [block for block in RUN if words in block.text]
        return printed[block.line]

    return of


def test_what_it_greets_with_is_what_the_command_says():
    (greeting,) = [block for block in blocks(GUIDE) if block.role == "greeting"]

    assert greeting.text.rstrip() == _greeting("http://127.0.0.1:8080", "500 loans", Partner()).rstrip()


def test_the_table_of_switches_is_that_of_the_imitation():
    table = "\n".join(
        f"| `{name}` | `{field.default}` | {choices(name)} | {field.description} |"
        for name, field in Switches.model_fields.items()
    )

    assert f"|---|---|---|---|\n{table}\n\n" in GUIDE.read_text()


@pytest.mark.parametrize("block", RUN, ids=lambda block: f"line {block.line}")
def test_every_block_runs_and_says_something(printed, block):
    assert printed[block.line].strip()


def test_what_is_sent_is_taken(of):
    assert json.loads(of("@draft.json | tee"))["code"] == "api.success"
    assert json.loads(of("@journals.json | tee"))["confirm_url"].endswith("/pa2/journals/confirm/48001")
    assert [row["loan_id"] for row in json.loads(of("@repayments.json | tee"))["problems"]] == ["L-00000-9"]


def test_what_is_read_is_there(of):
    assert {loan["status"] for loan in json.loads(of("status=defaulted"))["data"]} == {"defaulted"}
    assert json.loads(of("config/locations"))["locations"]
    drafts, journals, uploads, counters = map(json.loads, of("for what in").split("\n", 3))
    assert (drafts["total"], journals["total"], uploads["total"]) == (1, 2, 1)
    assert "description is missing" in drafts["data"][0]["pa2_messages"]
    assert counters["calls"]["loan_draft"] == 1


def test_what_a_coordinator_does_is_done(of):
    assert '"confirmed":true' in of("/publish")
    assert '"finalised":true' in of("/publish")
    assert [loan["status"] for loan in json.loads(of("query=L-77310-2"))["data"]] == ["fundRaising"]


def test_the_switches_do_what_is_said(of, kiva):
    assert "totalRecords" in json.loads(of("naming=camel"))
    assert "HTTP/1.1 403" in of("Bearer expired")
    switches = httpx2.get(f"{kiva}/_sandbox/switches", trust_env=False).json()
    assert {name for name, told in switches.items() if told["value"] != told["default"]} <= {"fault_on"}


def test_the_faults_are_met(of):
    assert re.search(r"HTTP/1.1 429 .*\nretry-after: 5", of("fault=429"), re.DOTALL | re.IGNORECASE)
    assert re.findall(r"\d{3}$", of('"fault": "expired"'), re.MULTILINE) == ["401", "200"]
    lost, counters = of("fault=lost").split("\n", 1)
    assert lost == "no answer"
    assert json.loads(counters)["calls"]["loan_draft"] == 2
    assert re.findall(r"\d{3}$", of('"fault_times": 2'), re.MULTILINE) == ["503", "503", "200"]


def test_a_state_and_its_tokens_outlive_a_restart(of):
    assert '"theme_type":"General"' in of("--state")
    assert '"total":1' in of("--state")


def test_what_it_links_to_is_there():
    text = GUIDE.read_text()
    headings = {
        re.sub(r"[^a-z0-9 -]", "", it.lower()).replace(" ", "-") for it in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        file, _, anchor = link.partition("#")
        assert not file or (GUIDE.parent / file).exists()
        assert not anchor or anchor in headings
