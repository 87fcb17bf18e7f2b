"""The sandbox under what Schemathesis makes of its OpenAPI document, right and wrong: it answers, and as described."""

from datetime import UTC, datetime

import schemathesis
from hypothesis import settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from kiva_sandbox.app import create_app
from kiva_sandbox.data import Partner, portfolio
from kiva_sandbox.state import State
from kiva_sandbox.tokens import AUDIENCES, Tokens, new_signing_key

PARTNER = Partner()
CREDENTIALS = {
    "grant_type": "client_credentials",
    "client_id": PARTNER.client_id,
    "client_secret": PARTNER.client_secret,
    "audience": AUDIENCES[0],
}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
BOUNDED = settings(max_examples=20, derandomize=True, deadline=None, database=None)


def now():
    return datetime(2026, 11, 25, 8, tzinfo=UTC)


TOKENS = Tokens(PARTNER, new_signing_key(), now)


def described(**parameters):
    """The document of a sandbox of its own; `parameters` have one value wherever a request holds them."""
    app = create_app(State(portfolio(20), now), TOKENS)
    config = schemathesis.Config.from_dict(
        {"parameters": parameters, "generation": {"with-security-parameters": False}}
    )
    # Its switches change what is answered, and can make it a fault: they have tests of their own.
    return schemathesis.openapi.from_asgi("/v3/api-docs", app, config=config).exclude(
        path="/_sandbox/switches", method="PATCH"
    )


stranger = described()
partner = described(partner_id=PARTNER.id, **{"Kiva-Sandbox": ""})


@partner.auth()
class OfThePartner:
    def get(self, case, context):
        return TOKENS.issue(CREDENTIALS)["access_token"]

    def set(self, case, token, context):
        case.headers["Authorization"] = f"Bearer {token}"


@partner.parametrize()
@BOUNDED
def test_with_a_token_every_answer_is_as_described(case):
    case.call_and_validate(checks=CHECKS)


@stranger.parametrize()
@BOUNDED
def test_without_a_token_every_answer_is_as_described(case):
    case.call_and_validate(checks=CHECKS)
