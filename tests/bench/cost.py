"""What a million repayments cost by AWS's list prices of us-east-1: counted by the stubs, timed here, priced there.

Left out, because both pay the same: logs (one line each), data transfer, the API in front of the queue.
Sources: the price lists of AWS Lambda, Amazon DynamoDB (on demand) and Amazon SQS as of November 2026.
"""

from collections.abc import Mapping

LAMBDA_GB_SECOND, LAMBDA_MILLION_REQUESTS = 0.0000133334, 0.20
DYNAMODB_MILLION_WRU, DYNAMODB_MILLION_RRU = 0.625, 0.125
SQS_MILLION_REQUESTS = 0.40

MEMORY_MB, FULL_CORE_MB = 512, 1769
"""A function of template.yaml, and the size at which Lambda gives it a whole core: CPU takes longer by their ratio."""
KIVA_SECONDS, AWS_SECONDS = 0.2, 0.005

OURS = {"batch": 1000, "parallel": 4}
"""As template.yaml sets the queue and the function of repayments."""
TEXTBOOK = {"batch": 10, "parallel": 1}
"""SQS's default, and one call after the other."""

SQS_REQUESTS = 3 / 10
"""Of one message: sent, received and deleted, by tens."""


def usd_per_million(point: Mapping[str, float], *, batch: int, parallel: int) -> dict[str, float]:
    """Price of a million records that each cost what `point` says.

    Args:
        point: CPU milliseconds, calls and units of one record, as scale.py measures them.
        batch: Records of one invocation.
        parallel: Calls to Kiva at once. Those to AWS come one after the other.
    """
    computing = point["cpu_ms"] / 1000 * FULL_CORE_MB / MEMORY_MB
    waiting = point["kiva_calls"] * KIVA_SECONDS / parallel + point["aws_calls"] * AWS_SECONDS
    return {
        "Lambda": (computing + waiting) * MEMORY_MB / 1024 * LAMBDA_GB_SECOND * 1e6 + LAMBDA_MILLION_REQUESTS / batch,
        "DynamoDB": point["wru"] * DYNAMODB_MILLION_WRU + point["rru"] * DYNAMODB_MILLION_RRU,
        "SQS": SQS_REQUESTS * SQS_MILLION_REQUESTS,
    }
