"""Every five minutes: keep the token fresh, and give up claims whose sender ended without a word."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from kiva_partner import runtime
from kiva_partner.errors import Misconfigured, NotSent


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 a schedule has nothing to say
    """Says what was done: `token` (renewed, kept, or why it failed) and `claims_expired`."""
    with runtime.telemetry().invocation(context):
        return {"claims_expired": _expire_claims(), "token": _renew_token()}


def _expire_claims() -> int:
    """First, because it must not wait for Kiva."""
    ledger = runtime.ledger()
    expired = [ledger.expire_claim(row) for row in ledger.expired_claims()]
    runtime.telemetry().expired(expired)
    return len(expired)


def _renew_token() -> str:
    try:
        return "renewed" if runtime.tokens().renew_early() else "kept"
    except (NotSent, Misconfigured) as error:
        # Not raised: an invocation that fails is repeated by Lambda at once, and the next schedule is soon enough.
        runtime.telemetry().refused("the Kiva token was not renewed", error)
        return str(error)
