"""Journal updates: from their queue and from POST /journal-updates to Kiva."""

from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from kiva_partner.messages import Kind
from kiva_partner.runtime import consume


def handler(event: dict[str, Any], context: LambdaContext) -> Mapping[str, Any]:
    """An SQS batch in, a partial batch response out; or a request of API Gateway in, its answer out."""
    return consume(Kind.JOURNAL_UPDATE, event, context)
