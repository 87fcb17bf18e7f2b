"""`GET /check`: whether Kiva takes the stack as it is configured, and the mend where it does not."""

import json

import boto3
import pytest
import responses

from deployment import credentials
from fakes import PARTNER_URL, TOKEN_URL
from kiva_answers import token_answer


@pytest.fixture
def checks(deployed, console):
    """What was looked at, by name; the config list answers unless told otherwise."""

    def look(config=200, themes=({"theme_type_id": 1, "theme_type": "Green"},)):
        deployed.mock.add(responses.GET, f"{PARTNER_URL}/config/themes", json={"themes": list(themes)}, status=config)
        status, body = console("/check")
        assert status == 200
        return {check["name"]: check for check in body["checks"]}

    return look


def answer_token(deployed, status=200, **changes):
    deployed.mock.replace(responses.POST, TOKEN_URL, json={**token_answer("another-token"), **changes}, status=status)


def test_all_is_right(checks):
    found = checks()
    assert all(check["ok"] and "mend" not in check for check in found.values())
    assert found["partner"]["detail"] == "9001"
    assert found["config"]["detail"] == "https://api.kiva.test answers with 1 themes"
    assert {name for name in found if name.startswith("scope ")} == {
        f"scope {scope}" for scope in ("read:loans", "create:loan_draft", "create:journal_update", "create:repayment")
    }


def test_it_asks_for_a_new_token_because_an_old_one_says_nothing_about_new_credentials(deployed, drafts, checks):
    drafts.batch(drafts.message("L-1"))
    stored = json.loads(boto3.client("secretsmanager").get_secret_value(SecretId="token")["SecretString"])
    boto3.client("secretsmanager").put_secret_value(
        SecretId="token", SecretString=json.dumps({**stored, "obtained_at": stored["obtained_at"] - 61})
    )
    assert checks()["token"]["ok"]
    assert deployed.token_requests == 2


def test_asked_twice_in_a_minute_it_looks_at_the_same_token(deployed, checks):
    checks()
    checks()
    assert deployed.token_requests == 1


def test_refused_credentials_are_named_with_the_mend_and_nothing_else_is_claimed(deployed, checks):
    answer_token(deployed, 401)
    found = checks()
    assert list(found) == ["token"]
    assert "refuses the client id" in found["token"]["detail"]
    assert "API Access" in found["token"]["mend"]


def test_credentials_that_were_mistyped_are_told_though_the_ones_before_them_serve(deployed, checks):
    deployed.secrets = ("canary-secret&+=",)
    boto3.client("secretsmanager").put_secret_value(SecretId="credentials", SecretString=credentials("mistyped"))
    found = checks()
    assert found["token"]["ok"]
    assert not found["credentials"]["ok"]


def test_another_partners_credentials_are_told_from_wrong_ones(deployed, checks):
    answer_token(deployed, partnerId="63")
    found = checks()
    assert found["token"]["ok"]
    assert not found["partner"]["ok"]
    assert "KivaPartnerId" in found["partner"]["mend"]


def test_each_scope_that_is_missing_has_its_cross(deployed, checks):
    answer_token(deployed, scope="read:loans create:repayment")
    crosses = [name for name, check in checks().items() if not check["ok"]]
    assert crosses == ["scope create:loan_draft", "scope create:journal_update"]


def test_a_token_service_that_is_down_is_no_reason_to_store_anything_anew(deployed, checks):
    answer_token(deployed, 503)
    assert checks()["token"]["mend"].startswith("try again")


@pytest.mark.parametrize("status", [401, 404, 500])
def test_an_api_that_does_not_take_it_is_the_last_cross(checks, status):
    found = checks(config=status)
    assert [name for name, check in found.items() if not check["ok"]] == ["config"]


def test_no_secret_and_no_token_is_shown(checks, capsys):
    assert "canary" not in str(checks()) + capsys.readouterr().out
