"""Outcomes: from the ledger's stream to the event bus, and each morning what waits for a person."""

from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from kiva_partner import runtime
from kiva_partner.queues import come_again


def handler(event: dict[str, Any], context: LambdaContext) -> Mapping[str, Any]:
    """A batch of the stream in, a partial batch response out; or the clock's tick in, the digest's text out."""
    with runtime.telemetry().invocation(context):
        runtime.expect(event, "aws:dynamodb", "aws.scheduler")
        if "Records" in event:
            return come_again(runtime.outcomes().publish(event["Records"]))
        return {"digest": runtime.outcomes().publish_digest()}
