"""What scanners say of the template as CloudFormation gets it. Each exception has its reason, and goes when needless.

None of them needs the network. They see none of what tests/template/rules.py holds; that is why both are here.
"""

import json
import os
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cfnlint.api import ManualArgs, lint

from template.cloudformation import ROOT, Template, read, translate

EXCEPTIONS = {
    "cfn-lint I3042": "SAM writes ARNs with the partition of the region that it translates for",
    "cfn-lint ES1001": "a destination for failures is for streams; a queue has its dead-letter queue",
    "cfn-lint ES6000": "a dead-letter queue is where it ends",
    "cfn-lint WS1004": "it does not follow LoggingConfig to the group; rules.py does",
    "checkov CKV_AWS_115": "MaximumConcurrency limits the queues; a reservation would take from the account's rest",
    "checkov CKV_AWS_116": "a queue has its dead letters, the API its caller, housekeeping its next run",
    "checkov CKV_AWS_117": "Kiva and AWS are public TLS endpoints; a VPC adds a NAT gateway and no barrier",
    "checkov CKV_AWS_120": "answers change by the minute; a cache would show states that are past",
    "checkov CKV_AWS_173": "the variables hold no secret (rules.py); a key would cost every cold start a call",
    "checkov CKV_AWS_18": "it needs a bucket of its own; CloudTrail's data events, the account's, tell the same",
}

ONLY_AT = {"cfn-lint ES6000": "DeadLetterQueue "}
"""Exceptions that hold at some resources only: what their message must say."""


def unexpected(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """What has no reason."""
    left = {
        check: [it for it in where if check not in EXCEPTIONS or ONLY_AT.get(check, "") not in it]
        for check, where in found.items()
    }
    return {check: where for check, where in left.items() if where}


def findings(template: Template) -> dict[str, list[str]]:
    """What all of them find, by scanner and check."""
    found: dict[str, list[str]] = {}
    for check, where in [*cfn_lint(template), *checkov(template)]:
        found.setdefault(check, []).append(where)
    return found


def cfn_lint(template: Template) -> Iterable[tuple[str, str]]:
    """With the rules of cfn-lint-serverless."""
    config = ManualArgs(include_checks=["I"], append_rules=["cfn_lint_serverless.rules"])
    for it in lint(json.dumps(template), config=config):
        yield f"cfn-lint {it.rule.id}", f"{it.message} at {it.path}"


def checkov(template: Template) -> Iterable[tuple[str, str]]:
    command = [
        ROOT / ".venvs" / "checkov" / "bin" / "checkov",
        *("--framework", "cloudformation", "--skip-download", "--compact", "--quiet", "--output", "json", "--file"),
    ]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "template.json"
        file.write_text(json.dumps(template))
        # Otherwise it asks the package index once a day whether it is outdated.
        offline = os.environ | {"CKV_SKIP_PACKAGE_UPDATE_CHECK": "true"}
        ran = subprocess.run([*command, file], env=offline, capture_output=True, text=True, check=False)  # noqa: S603 it is fixed
    report = json.loads(ran.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 100
    for it in report["results"]["failed_checks"]:
        yield f"checkov {it['check_id']}", f"{it['check_name']} at {it['resource']}"


@cache
def of_ours() -> dict[str, list[str]]:
    return findings(translate(read()))


def test_they_find_nothing_but_what_has_a_reason():
    assert unexpected(of_ours()) == {}


@pytest.mark.parametrize("check", EXCEPTIONS)
def test_an_exception_is_needed(check):
    assert check in of_ours()


def test_they_see_what_is_only_visible_in_the_translated_template():
    broken = read()
    resources = broken["Resources"]
    resources["LoanDraftsQueue"]["Properties"]["VisibilityTimeout"] = 200
    resources["RepaymentsQueue"]["Properties"].pop("RedrivePolicy")
    resources["LedgerTable"]["Properties"].pop("SSESpecification")
    resources["PayloadBucket"]["Properties"].pop("PublicAccessBlockConfiguration")
    resources["RelayApi"]["Properties"].pop("AccessLogSetting")
    resources["ConsoleFunction"]["Properties"]["Policies"].append(
        {"Statement": [{"Effect": "Allow", "Action": "secretsmanager:*", "Resource": "*"}]}
    )
    assert unexpected(findings(translate(broken))).keys() >= {
        "cfn-lint E3505",  # a message comes back while the function still has it
        "cfn-lint ES6000",  # a queue without dead letters
        "cfn-lint ES2000",  # no access log
        "cfn-lint WS1003",  # every action
        "checkov CKV_AWS_53",  # a bucket that may become public
        "checkov CKV_AWS_76",  # no access log
        "checkov CKV_AWS_119",  # a table without the stack's key
    }
