import jwt
import pytest

from kiva_sandbox.data import Partner
from kiva_sandbox.tokens import Tokens, new_signing_key

AUDIENCE = "https://partner-api-stage.dk1.kiva.org"
ALL_SCOPES = {"read:loans", "create:loan_draft", "create:journal_update", "create:repayment"}


def test_a_token_comes_with_the_keys_and_in_the_order_of_2026(http, form):
    answer = http.post("/oauth/token", data=form)
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == ["access_token", "scope", "iss", "partnerId", "token_type", "expires_in", "jti"]
    assert (body["token_type"], body["expires_in"], body["partnerId"]) == ("bearer", 43199, "9001")


def test_the_token_is_an_rs256_jwt_with_kivas_claims_and_no_others(http, form, signing_key, clock):
    body = http.post("/oauth/token", data={**form, "scope": "read:loans"}).json()
    header = jwt.get_unverified_header(body["access_token"])
    assert header["alg"] == "RS256"
    assert header["typ"] == "JWT"
    assert len(header["kid"]) == 8
    claims = jwt.decode(
        body["access_token"],
        signing_key.public_key(),
        algorithms=["RS256"],
        audience=AUDIENCE,
        options={"verify_exp": False},
    )
    assert claims == {
        "aud": [AUDIENCE],
        "scope": ["read:loans"],
        "iss": "https://auth-stage.dk1.kiva.org/",
        "partnerId": "9001",
        "exp": int(clock().timestamp()) + 43199,
        "jti": body["jti"],
        "client_id": "sandbox-client",
    }


def test_the_scope_granted_is_what_was_asked_for_in_another_order(http, form):
    asked = "create:loan_draft read:loans create:nothing create:repayment"
    granted = http.post("/oauth/token", data={**form, "scope": asked}).json()["scope"].split()
    assert set(granted) == {"create:loan_draft", "read:loans", "create:repayment"}
    assert granted != ["create:loan_draft", "read:loans", "create:repayment"]


@pytest.mark.parametrize("scope", [{}, {"scope": ""}], ids=["no scope", "an empty scope"])
def test_without_a_scope_all_scopes_are_granted(http, form, scope):
    granted = http.post("/oauth/token", data={**form, **scope}).json()["scope"]
    assert set(granted.split()) == ALL_SCOPES


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "somebody"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": None}, 400, "unsupported_grant_type"),
        ({"audience": "https://partner-api.k1.kiva.org"}, 400, "invalid_request"),
        ({"audience": AUDIENCE + "/"}, 400, "invalid_request"),
        ({"audience": None}, 400, "invalid_request"),
        ({"scope": "create:journals"}, 400, "invalid_scope"),
    ],
)
def test_a_wrong_token_request_is_refused_in_oauths_form(http, form, change, status, error):
    fields = {name: value for name, value in {**form, **change}.items() if value is not None}
    answer = http.post("/oauth/token", data=fields)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.json()["error_description"]


def test_a_secret_that_was_not_encoded_is_a_wrong_secret(http, form):
    body = "&".join(f"{name}={value}" for name, value in form.items())
    answer = http.post("/oauth/token", content=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.json()["error"] == "invalid_client"


def test_credentials_count_only_in_the_form(http, form):
    in_the_query = http.post("/oauth/token", params=form)
    as_json = http.post("/oauth/token", json=form)
    basic = http.post(
        "/oauth/token",
        data={"grant_type": "client_credentials", "audience": AUDIENCE},
        auth=(form["client_id"], form["client_secret"]),
    )
    assert [answer.status_code for answer in (in_the_query, as_json, basic)] == [401, 401, 401]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer not.a.token"},
        {"Authorization": "Basic c2FuZGJveA=="},
    ],
)
def test_a_call_without_a_readable_token_is_401(http, headers):
    answer = http.get("/v3/partner/9001/loans", headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")


def test_a_token_of_another_signer_is_401(http, form, kiva, clock):
    forged = Tokens(Partner(), new_signing_key(), clock).issue(form)["access_token"]
    assert http.get("/v3/partner/9001/loans", headers=kiva.headers).status_code == 200
    assert http.get("/v3/partner/9001/loans", headers={"Authorization": f"Bearer {forged}"}).status_code == 401


def test_a_token_is_good_until_its_last_second_and_expired_after_it(kiva, clock):
    clock.advance(43198)
    assert kiva.get("loans").status_code == 200
    clock.advance(1)
    refused = kiva.get("loans")
    assert refused.status_code == 401
    assert refused.json() == {"error": "invalid_token", "error_description": "Access token expired"}


ENDPOINTS = [
    ("POST", "loan_draft", "create:loan_draft"),
    ("POST", "journals", "create:journal_update"),
    ("POST", "repayments", "create:repayment"),
    ("GET", "loans", "read:loans"),
]


@pytest.mark.parametrize(("method", "path", "scope"), ENDPOINTS)
def test_each_endpoint_asks_for_its_own_scope(bearer, method, path, scope):
    others = bearer(" ".join(ALL_SCOPES - {scope}))
    refused = others.http.request(method, f"{others.base}/{path}", headers=others.headers)
    assert refused.status_code == 403
    assert refused.json()["error"] == "insufficient_scope"
    assert refused.json()["scope"] == scope
    owner = bearer(scope)
    assert owner.http.request(method, f"{owner.base}/{path}", headers=owner.headers).status_code not in {401, 403}


@pytest.mark.parametrize("name", ["activities", "locales", "themes", "locations"])
def test_config_is_open_to_any_valid_token(bearer, http, name):
    assert bearer("create:repayment").get(f"config/{name}").status_code == 200
    assert http.get(f"/v3/partner/9001/config/{name}").status_code == 401


@pytest.mark.parametrize(("method", "path"), [*((m, p) for m, p, _ in ENDPOINTS), ("GET", "config/themes")])
def test_a_token_opens_no_other_partners_endpoints(bearer, method, path):
    stranger = bearer(partner_id="9002")
    assert stranger.http.request(method, f"{stranger.base}/{path}", headers=stranger.headers).status_code == 403
