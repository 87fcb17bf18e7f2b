"""`GET /check`: whether Kiva takes the stack as it is configured, and the mend where it does not."""

import json
import time

import boto3
import pytest
import responses
import time_machine

from deployment import credentials
from fakes import PARTNER_URL, TOKEN_URL
from kiva_answers import token_answer
from kiva_partner import runtime


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


def test_a_refusal_is_named_by_its_code(deployed, checks):
    answer_token(deployed, 400, error="invalid_grant", error_description="canary")
    assert checks()["token"]["detail"].endswith("HTTP 400, invalid_grant")


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


SCOPES = {"read:loans", "create:loan_draft", "create:journal_update", "create:repayment"}


@pytest.mark.parametrize("missing", sorted(SCOPES))
def test_a_scope_that_makes_the_token_service_refuse_the_request_is_named(deployed, checks, missing):
    deployed.scopes = SCOPES - {missing}
    found = checks()
    crosses = {name: check["mend"] for name, check in found.items() if not check["ok"]}
    also = {"config"} if missing == "read:loans" else set()
    assert crosses.keys() == {f"scope {missing}", *also}
    assert all("coordinator" in mend for mend in crosses.values())


def test_credentials_without_any_scope_are_not_told_to_be_stored_anew(deployed, checks):
    deployed.scopes = set()
    found = checks()
    assert list(found) == ["token"]
    assert "none of read:loans" in found["token"]["detail"]
    assert "coordinator" in found["token"]["mend"]


def test_a_scope_that_was_granted_is_found_by_looking_and_what_waits_for_it_goes_on(deployed, checks, drafts):
    deployed.scopes = SCOPES - {"create:loan_draft"}
    with time_machine.travel(time.time()) as now:
        assert drafts.batch(drafts.message("L-1")) == ["m0"]
        now.shift(61)
        deployed.scopes = SCOPES
        assert all(check["ok"] for check in checks().values())
        assert drafts.batch(drafts.message("L-1")) == []


@pytest.mark.parametrize("field", ["access_token", "token_type", "expires_in", "partnerId"])
def test_an_answer_that_cannot_be_read_is_told_by_field_and_is_no_fault_of_the_credentials(deployed, checks, field):
    answer_token(deployed, **{field: ["canary"]})
    found = checks()
    assert list(found) == ["token"]
    assert field in found["token"]["detail"]
    assert "not at fault" in found["token"]["mend"]


def test_a_token_that_cannot_be_shared_is_told(deployed, checks):
    secrets = boto3.client("secretsmanager")
    secrets.delete_secret(SecretId="token", ForceDeleteWithoutRecovery=True)  # pragma: allowlist secret
    found = checks()
    assert "cannot be shared: ResourceNotFoundException" in found["token store"]["detail"]
    assert found["config"]["ok"]


KIVAS_TROUBLE = "the trouble is Kiva's"


@pytest.mark.parametrize(
    ("status", "mend"), [(503, KIVAS_TROUBLE), (429, KIVAS_TROUBLE), (404, "KivaTokenUrl"), (302, "KivaTokenUrl")]
)
def test_a_token_service_in_trouble_is_told_from_a_wrong_address(deployed, checks, status, mend):
    answer_token(deployed, status)
    found = checks()["token"]
    assert f"HTTP {status}" in found["detail"]
    assert mend in found["mend"]
    assert ("Url" in found["mend"]) == (mend == "KivaTokenUrl")


def test_a_page_in_place_of_the_token_service_is_a_wrong_address(deployed, checks):
    deployed.mock.replace(responses.POST, TOKEN_URL, body="<html>sign in</html>")
    assert "KivaTokenUrl" in checks()["token"]["mend"]


def test_a_token_that_another_function_asks_for_is_neithers_fault(deployed, checks):
    assert runtime.tokens()._lease.acquire()
    runtime.forget()
    found = checks()["token"]
    assert (found["ok"], found["mend"]) == (False, "try again in a minute")


@pytest.mark.parametrize(
    ("status", "mend"),
    [(500, KIVAS_TROUBLE), (503, KIVAS_TROUBLE), (429, KIVAS_TROUBLE), (401, "KivaAudience"), (404, "KivaApiBaseUrl")],
)
def test_an_api_that_does_not_take_it_is_the_last_cross_and_kivas_own_trouble_asks_for_no_change(checks, status, mend):
    found = checks(config=status)
    assert [name for name, check in found.items() if not check["ok"]] == ["config"]
    assert mend in found["config"]["mend"]
    assert ("KivaApiBaseUrl" in found["config"]["mend"]) == (mend != KIVAS_TROUBLE)


def test_an_api_that_answers_with_a_page_is_another_ones(deployed, checks):
    deployed.mock.add(responses.GET, f"{PARTNER_URL}/config/themes", body="<html>welcome</html>")
    assert "KivaApiBaseUrl" in checks()["config"]["mend"]


def test_no_secret_and_no_token_is_shown(checks, capsys):
    assert "canary" not in str(checks()) + capsys.readouterr().out
