"""A fresh stack has no credentials yet: that is said, nothing is sent, nothing is lost, and no alarm rings."""

import re
from importlib import import_module

import boto3
import pytest

from deployment import credentials
from kiva_partner.ledger import State
from template.cloudformation import of_type, read

NOT_YET = "not configured yet: store Kiva's credentials"
WATCHED = {
    metric["MetricName"]
    for alarm in of_type(read(), "AWS::CloudWatch::Alarm").values()
    for metric in [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", []) if "MetricStat" in each] or [alarm]
    if metric["Namespace"] == "KivaRelay"
}
"""The metrics of ours that an alarm watches."""


@pytest.fixture
def fresh(deployed):
    """What `sam deploy` leaves: the secret is there, without a value."""
    secrets = boto3.client("secretsmanager")
    secrets.delete_secret(SecretId="credentials", ForceDeleteWithoutRecovery=True)  # pragma: allowlist secret
    secrets.create_secret(Name="credentials")
    return secrets


@pytest.fixture
def housekeeping(deployed, context):
    return lambda: import_module("housekeeping.app").handler({"detail-type": "Scheduled Event"}, context)


def test_housekeeping_and_messages_ring_no_alarm_and_say_what_is_missing(fresh, housekeeping, function, capsys):
    assert housekeeping()["token"].startswith(NOT_YET)
    assert function.batch(function.message("L-1")) == ["m0"]
    out = capsys.readouterr().out
    assert f"nothing could be submitted, all messages come again: {NOT_YET}" in out
    told = {name for name, value in re.findall(r'"(\w+)":\[([\d.]+)\]', out) if float(value)}
    assert told.isdisjoint(WATCHED)
    assert "Misconfigured" in WATCHED


def test_messages_wait_and_go_once_when_the_credentials_are_stored(fresh, function, deployed, console, time_passes):
    assert function.batch(function.message("L-1")) == ["m0"]
    assert deployed.token_requests == 0
    for state in State:
        assert console("/submissions", kind=function.kind.value, state=state.value)[1]["submissions"] == []
    fresh.put_secret_value(SecretId="credentials", SecretString=credentials())
    time_passes(61)
    assert function.batch(function.message("L-1")) == []
    assert len(deployed.sent) == 1


def test_a_post_that_would_wait_for_the_outcome_is_queued(fresh, function, deployed, waiting):
    status, body, _ = function.post(function.message("L-1"), Prefer="wait")
    assert (status, body["state"]) == (202, "QUEUED")
    assert len(waiting()) == 1


def test_the_check_has_one_cross_which_says_what_to_store(fresh, console):
    status, body = console("/check")
    (found,) = body["checks"]
    assert (status, found["name"], found["ok"]) == (200, "token", False)
    assert found["detail"].startswith(NOT_YET)
    assert "PA2 > Account > API Access" in found["mend"]


def test_what_is_read_from_kiva_is_answered_with_what_is_missing(fresh, console, capsys):
    status, body = console("/loans")
    assert (status, body["type"]) == (503, "urn:kiva-relay:problem:not-configured")
    assert body["detail"].startswith(NOT_YET)
    assert '"Misconfigured"' not in capsys.readouterr().out


def test_a_secret_that_is_gone_from_a_stack_that_had_a_token_rings(deployed, housekeeping, time_passes, capsys):
    housekeeping()
    secrets = boto3.client("secretsmanager")
    secrets.delete_secret(SecretId="credentials", ForceDeleteWithoutRecovery=True)  # pragma: allowlist secret
    time_passes(24 * 3600)
    assert "has lost its value" in housekeeping()["token"]
    assert '"Misconfigured":[1.0]' in capsys.readouterr().out


def test_credentials_that_are_there_and_wrong_still_ring(deployed, housekeeping, capsys):
    boto3.client("secretsmanager").put_secret_value(SecretId="credentials", SecretString=credentials(partner_id="63"))
    housekeeping()
    out = capsys.readouterr().out
    assert '"Misconfigured":[1.0]' in out
    assert '"TokenRenewalFailed":[1.0]' in out
