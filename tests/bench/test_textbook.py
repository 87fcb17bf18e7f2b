"""That the textbook is a fair baseline: it does the same job, and costs by the record what the handbooks' way costs.

Its source runs here, with the packages of the tests; what `sam build` makes of it is for the benchmark.
"""

import json
import subprocess
import sysconfig
from copy import replace
from pathlib import Path

import pytest

from bench import environment, stubs
from bench.environment import INTERPRETER, ROOT, Stage
from sockets import certificate

BENCH = Path(__file__).parent
PATHS = (BENCH / "textbook", Path(sysconfig.get_path("purelib")), BENCH)
POSTS = {"repayment": "repayments", "loan_draft": "loan_draft"}
"""What Kiva's stub calls the submissions of each kind."""

# The last line that it prints is its answer; the others are the log.
INVOKE = """
import json, sys
from importlib import import_module
from worker import Context
module, _, name = sys.argv[1].rpartition(".")
print(json.dumps(getattr(import_module(module), name)(json.load(sys.stdin), Context())))
"""


@pytest.fixture(scope="module")
def on(tmp_path_factory):
    folder = tmp_path_factory.mktemp("textbook")
    trusted, _ = certificate(folder / "kiva.pem", "localhost")
    with stubs.kiva(trusted) as kiva, stubs.aws() as aws:
        kiva.set(token_latency=0)
        # Compiled here, unlike what `sam build` packs: this is not what is timed.
        ours = {"REQUESTS_CA_BUNDLE": str(trusted), "PYTHONDONTWRITEBYTECODE": ""}
        stack = environment._stack(kiva.url, aws.url) | ours
        textbook = replace(environment._textbook(BENCH, stack), paths=dict.fromkeys(POSTS, PATHS), home=folder)
        yield Stage(kiva, aws, textbook, textbook)


@pytest.fixture
def handle(on):
    """Invoke it in an environment of its own with a file of `events/sqs`: what failed, and what the stubs saw of it."""
    on.kiva.reset()
    on.aws.reset()

    def handled(kind, name):
        event = json.loads((ROOT / "events" / "sqs" / f"{name}.json").read_text())
        before = on.kiva.counts()
        ended = subprocess.run(  # noqa: S603 our own command
            [INTERPRETER, "-c", INVOKE, on.textbook.handlers[kind]],
            env=on.textbook.environment(kind),
            input=json.dumps(event),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        failures = json.loads(ended.stdout.splitlines()[-1])["batchItemFailures"]
        places = {record["messageId"]: index for index, record in enumerate(event["Records"])}
        sent = on.kiva.counts()[POSTS[kind]] - before.get(POSTS[kind], 0)
        return [places[each["itemIdentifier"]] for each in failures], sent

    return handled


@pytest.mark.parametrize("kind", POSTS)
def test_a_record_costs_one_call_of_kiva_and_two_of_dynamodb(on, kind):
    with on.worker(on.textbook, kind) as worker:
        first = worker.invoke(1, 5)
        later = worker.invoke(2, 5)
    assert (first.kiva["token"], first.kiva["connections"]) == (1, 1)
    assert (later.kiva["token"], later.kiva["connections"]) == (0, 0)
    assert first.aws["SecretsManager.GetSecretValue"] == 1
    assert later.kiva[POSTS[kind]] == 10
    assert later.aws["DynamoDB.PutItem"] == later.aws["DynamoDB.UpdateItem"] == 10
    assert later.aws["calls"] == 20
    assert later.aws["wru"] == 20


def test_what_comes_again_is_not_sent_again(handle):
    assert handle("repayment", "repayments") == ([], 2)
    assert handle("repayment", "repayments") == ([], 0)


def test_what_is_invalid_fails_alone(handle):
    assert handle("repayment", "repayments_invalid") == ([0], 1)
    assert handle("loan_draft", "loan_draft_invalid") == ([0], 1)


def test_a_group_with_its_photo_is_taken(handle):
    assert handle("loan_draft", "loan_draft_group") == ([], 1)
