"""The relay command as an operator runs it: a process of its own, in a folder with samconfig.toml."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.world import NAME
from images import png

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    """What `make up` leaves in a checkout, about the session's stack."""
    made = tmp_path_factory.mktemp("operator")
    shutil.copy(ROOT / "samconfig.toml", made)
    (made / ".local" / "stack").mkdir(parents=True)
    (made / ".local" / "stack" / "stack.json").write_text(world.state_file("stack.json"))
    return made


@pytest.fixture
def relay(folder):
    """Run the command; gives what it exits with, its JSON, and its standard error."""

    def run(*arguments):
        path = os.pathsep.join(map(str, (ROOT, ROOT / "layers" / "kiva_partner")))
        command = [sys.executable, "-m", "cli", *map(str, arguments), "--json"]
        # Nothing of a person's account, which the stack on this machine does not need: a profile that is not there.
        nobody = {"HOME": str(folder), "AWS_PROFILE": "nope", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
        environment = {"PATH": os.defpath, "PYTHONPATH": path, **nobody}
        ran = subprocess.run(  # noqa: S603 it is our own
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert NAME not in ran.stdout + ran.stderr
        return ran.returncode, json.loads(ran.stdout) if ran.stdout else None, ran.stderr

    return run


def csv(message):
    rows = [f"{row['loan_id']},{row['client_id']},{row['amount']}" for row in message["repayments"]]
    return "\n".join(["loan_id,client_id,amount", *rows])


def test_a_report_is_submitted_and_followed_to_its_end_and_the_loan_is_missing_no_more(world, relay, folder):
    message = world.repayments(3)
    (folder / "report.csv").write_text(csv(message) + "\nE2E-stranger,C-1,5.00\n")
    loans = [row["loan_id"] for row in message["repayments"]]
    _, before, _ = relay("missing", "--period", "2026-08")

    code, told, _ = relay("submit", "report.csv", "--period", "2026-08", "--yes", "--wait")

    assert code == 1
    assert told["totals"] == {"ACCEPTED": 3, "REJECTED": 1}
    assert all(len(world.at_kiva("repayment", loan)) == 1 for loan in loans)
    first = told["submissions"][0]["reference"]
    assert relay("status", first)[1]["kiva"]["upload_id"]
    code, listed, _ = relay("list", "--loan", loans[0])
    assert [each["reference"] for each in listed["submissions"]] == [first]
    code, refused, _ = relay("list", "--state", "REJECTED", "--kind", "repayment")
    assert "E2E-stranger" in {each["loan_id"] for each in refused["submissions"]}
    code, after, _ = relay("missing", "--period", "2026-08")
    assert code == 1
    gone = {it["internal_loan_id"] for it in before["missing"]} - {it["internal_loan_id"] for it in after["missing"]}
    assert gone == set(loans)


def test_a_draft_goes_with_the_photo_beside_it(world, relay, folder):
    draft = world.draft(photo={"file": "photo.jpg"})
    content = png(rest=bytes(2_000_000))
    (folder / "photo.jpg").write_bytes(content)
    (folder / "draft.json").write_text(json.dumps(draft))

    code, told, _ = relay("submit", "draft.json", "--wait")

    assert (code, told["totals"]) == (0, {"ACCEPTED": 1})
    (sent,) = world.at_kiva("loan_draft", draft["entreps"][0]["loan_id"])
    assert sent["image_encoded"].startswith("data:image/png;base64,")


def test_a_bad_line_is_named_and_nothing_is_sent(world, relay, folder):
    message = world.repayments(1)
    (folder / "bad.csv").write_text(csv(message) + "\nL-1,C-1,canary\n")

    code, told, said = relay("submit", "bad.csv", "--period", "2026-08")

    assert code == 2
    assert told["messages"] == []
    assert said.startswith("bad.csv, line 3: amount must be")
    assert world.at_kiva("repayment", message["repayments"][0]["loan_id"]) == []


def test_a_decision_is_made_for_all_of_a_call(world, relay):
    message = world.repayments(2)
    references = world.die_before_sending("repayment", message)
    world.put("repayment", message)
    world.until(lambda: len(world.kept()) == 2, "the message to be received and kept")

    code, decided, _ = relay("decide", references[0], "abandon", "--reason", "a test", "--yes")

    assert code == 0
    assert {each["state"] for each in decided["submissions"]} == {"ABANDONED"}
    world.housekeeping()


def test_everything_works_together(world, relay):
    before = world.sandbox("counters")["token_requests"]
    code, told, _ = relay("check")
    world.tokens_of_checks += world.sandbox("counters")["token_requests"] - before

    assert (code, [each["ok"] for each in told["checks"]]) == (0, [True] * len(told["checks"]))
    assert relay("config", "themes")[1]["themes"]
    code, found, _ = relay("loans", "--status", "payingBack", "--limit", "301")
    assert len(found["loans"]) == 301


def test_another_stage_cannot_be_reached_from_here(relay):
    code, told, said = relay("status", "R7", "--stage", "stage")

    assert code == 3
    assert told is None
    assert "Traceback" not in said
