"""Configurations in which two things contradict each other: the log says which, and nobody was contacted."""

import json
import socket

import boto3
import pytest

from deployment import AT_KIVA, ENVIRONMENT, credentials
from kiva_partner import runtime

TEST, PRODUCTION = AT_KIVA["stage"], AT_KIVA["production"]
SANDBOX = {name: ENVIRONMENT[name] for name in TEST}


def only(name, stage):
    return {name: stage[name]}


MIXED = {
    "production without a confirmation": (
        PRODUCTION | {"KIVA_PRODUCTION_CONFIRMED": "no"},
        "KIVA_ENVIRONMENT is production but KIVA_PRODUCTION_CONFIRMED is not yes",
    ),
    "a test host with production's audience": (
        TEST | only("KIVA_AUDIENCE", PRODUCTION),
        "KIVA_AUDIENCE is a production host of Kiva but KIVA_ENVIRONMENT is stage",
    ),
    "a test audience with production's host": (
        TEST | only("KIVA_API_BASE_URL", PRODUCTION),
        "KIVA_API_BASE_URL is a production host of Kiva but KIVA_ENVIRONMENT is stage",
    ),
    "a test stack asking production for its token": (
        TEST | only("KIVA_TOKEN_URL", PRODUCTION),
        "KIVA_TOKEN_URL is a production host of Kiva but KIVA_ENVIRONMENT is stage",
    ),
    "production's events at the test host": (
        PRODUCTION | only("KIVA_API_BASE_URL", TEST),
        "KIVA_API_BASE_URL is a test host of Kiva but KIVA_ENVIRONMENT is production",
    ),
    "production with a test audience": (
        PRODUCTION | only("KIVA_AUDIENCE", TEST),
        "KIVA_AUDIENCE is a test host of Kiva but KIVA_ENVIRONMENT is production",
    ),
    "production's secret sent to the test token service": (
        PRODUCTION | only("KIVA_TOKEN_URL", TEST),
        "KIVA_TOKEN_URL is a test host of Kiva but KIVA_ENVIRONMENT is production",
    ),
    "production all over, called stage": (
        PRODUCTION | {"KIVA_ENVIRONMENT": "stage"},
        "KIVA_API_BASE_URL is a production host of Kiva but KIVA_ENVIRONMENT is stage",
    ),
    "the sandbox's stack at Kiva": (
        SANDBOX | only("KIVA_API_BASE_URL", TEST),
        "KIVA_API_BASE_URL is a test host of Kiva but KIVA_ENVIRONMENT is sandbox",
    ),
    "a stage at the sandbox": (
        TEST | only("KIVA_API_BASE_URL", SANDBOX),
        "KIVA_API_BASE_URL is no host of Kiva but KIVA_ENVIRONMENT is stage",
    ),
    "production without TLS": (
        PRODUCTION | {"KIVA_TOKEN_URL": "http://auth.k1.kiva.org/oauth/token"},
        "KIVA_TOKEN_URL is not https but KIVA_ENVIRONMENT is production",
    ),
    "a stage on an imitation of AWS": (
        TEST | {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"},
        "AWS_ENDPOINT_URL leads to an imitation of AWS but KIVA_ENVIRONMENT is stage",
    ),
    "an instalment that would be sent twice": (
        TEST | {"REPAYMENT_UNKNOWN_POLICY": "resend", "REPAYMENT_AMOUNT_MODE": "instalment"},
        "REPAYMENT_UNKNOWN_POLICY is resend but REPAYMENT_AMOUNT_MODE is instalment",
    ),
}
OTHERS_SECRETS = {
    "the secret of another stage": (
        {"environment": "production"},
        "the credentials secret was stored for another KIVA_ENVIRONMENT than sandbox",
    ),
    "the secret of another partner": (
        {"partner_id": "63"},
        "the credentials secret was stored for another KIVA_PARTNER_ID than 9001",
    ),
}


@pytest.fixture
def contacted(monkeypatch):
    """Whoever a socket was opened to, or would have been if this were not a test."""
    found = []

    def connect(_, address):
        found.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    return found


def nothing_happens_but_an_alarm(function, deployed, contacted, said, capsys):
    assert function.batch(function.message("L-1")) == ["m0"]
    assert (deployed.sent, deployed.token_requests, contacted) == ([], 0, [])
    out = capsys.readouterr().out
    assert said in out
    assert '"Misconfigured":[1.0]' in out


@pytest.mark.parametrize(("environment", "said"), MIXED.values(), ids=MIXED)
def test_a_mixed_configuration_is_refused_before_any_socket_opens(
    environment, said, function, deployed, contacted, monkeypatch, capsys
):
    def no_client(_):
        raise AssertionError

    monkeypatch.setattr(runtime, "_aws_client", no_client)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    runtime.forget()
    nothing_happens_but_an_alarm(function, deployed, contacted, said, capsys)
    status, body, _ = function.post(function.message("L-1"), Prefer="wait")
    assert (status, body["type"]) == (502, "urn:kiva-relay:problem:misconfigured")
    assert said not in json.dumps(body)  # it is the operator's to know


@pytest.mark.parametrize(("changes", "said"), OTHERS_SECRETS.values(), ids=OTHERS_SECRETS)
def test_credentials_of_another_stack_never_reach_kiva(changes, said, function, deployed, contacted, capsys):
    boto3.client("secretsmanager").update_secret(SecretId="credentials", SecretString=credentials(**changes))
    nothing_happens_but_an_alarm(function, deployed, contacted, said, capsys)


@pytest.mark.parametrize("environment", [TEST, PRODUCTION, SANDBOX], ids=["stage", "production", "sandbox"])
def test_what_is_of_one_piece_is_taken(environment, deployed, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    runtime.forget()
    assert runtime.settings().environment == environment["KIVA_ENVIRONMENT"]
