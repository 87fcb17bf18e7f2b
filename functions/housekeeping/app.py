"""Every five minutes: expire claims of dead senders, find what is stuck, prove, send again, renew the token, forget."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from kiva_partner import runtime
from kiva_partner.errors import Misconfigured, NotConfigured, NotSent


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 a schedule has nothing to say
    """Says what was done: how many of each, and of the token whether it was renewed or kept, or why it could not be.

    `catalogue` says whether Kiva's lists were fetched or kept as they were: they are new, or Kiva does not answer;
    `unknown` is how many wait for proof or for a person in the end.
    """
    with runtime.telemetry().invocation(context):
        housekeeping = runtime.housekeeping()
        # Kiva may be slow, so what does not need it comes first.
        done = {
            "claims_expired": housekeeping.expire_claims(),
            "requeued": housekeeping.requeue(),
            "stuck": housekeeping.find_stuck(),
            "token": _renew_token(),
            "proved": housekeeping.prove(runtime.seconds_left(context)),
            "sent_again": housekeeping.send_again(),
            "forgotten": housekeeping.forget_settled(),
            "catalogue": "fetched" if housekeeping.refresh_catalogue(runtime.seconds_left(context)) else "kept",
            "unknown": housekeeping.report(),
        }
        runtime.runs().ended("housekeeping", done)
        return done


def _renew_token() -> str:
    try:
        if not runtime.tokens().renew_early():
            return "kept"
    except (NotSent, Misconfigured) as error:
        # Not raised: an invocation that fails is repeated by Lambda at once, and the next schedule is soon enough.
        _complain("the Kiva token was not renewed", error)
        return str(error)
    if complaint := runtime.tokens().complaint:
        _complain("the credentials stored last do not work, those before them still do", complaint)
    return "renewed"


def _complain(what: str, error: NotSent | Misconfigured) -> None:
    runtime.telemetry().refused(what, error)
    runtime.telemetry().count("TokenRenewalFailed", int(not isinstance(error, NotConfigured)))
