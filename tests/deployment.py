"""What template.yaml makes: the functions behind the queues, their variables, and the ledger table."""

import json
from uuid import uuid4

from fakes import API_BASE_URL, AUDIENCE, TOKEN_URL
from kiva_partner.messages import Kind

AT_KIVA = {
    "stage": {
        "KIVA_ENVIRONMENT": "stage",
        "KIVA_TOKEN_URL": "https://auth.staging.kiva.org/oauth/token",
        "KIVA_AUDIENCE": "https://partner-api-stage.dk1.kiva.org",
        "KIVA_API_BASE_URL": "https://partnerapi.staging.kiva.org",
    },
    "production": {
        "KIVA_ENVIRONMENT": "production",
        "KIVA_PRODUCTION_CONFIRMED": "yes",
        "KIVA_TOKEN_URL": "https://auth.k1.kiva.org/oauth/token",
        "KIVA_AUDIENCE": "https://partner-api.k1.kiva.org",
        "KIVA_API_BASE_URL": "https://partner-api.k1.kiva.org",
    },
}
"""What a stack that talks to Kiva itself differs by."""

TABLE = "ledger"
BUCKET = "payloads"

FUNCTIONS = {Kind.LOAN_DRAFT: "loan_drafts", Kind.JOURNAL_UPDATE: "journal_updates", Kind.REPAYMENT: "repayments"}
"""The folder of the function for each kind."""

ENVIRONMENT = {
    "KIVA_ENVIRONMENT": "sandbox",
    "KIVA_PRODUCTION_CONFIRMED": "no",
    "KIVA_TOKEN_URL": TOKEN_URL,
    "KIVA_AUDIENCE": AUDIENCE,
    "KIVA_API_BASE_URL": API_BASE_URL,
    "KIVA_PARTNER_ID": "9001",
    "KIVA_CREDENTIALS_SECRET": "credentials",
    "TOKEN_STORE": "secrets-manager",
    "TOKEN_STORE_NAME": "token",
    "ENCRYPTION_KEY": "alias/tests",
    "LEDGER_TABLE": TABLE,
    "PAYLOAD_BUCKET": BUCKET,
    "CSV_COLUMNS": "3",
    "REPAYMENT_AMOUNT_MODE": "cumulative_principal",
    "KIVA_CONNECT_TIMEOUT_SECONDS": "5",
    "KIVA_READ_TIMEOUT_SECONDS": "120",
    "REPAYMENTS_PER_CALL": "200",
    "JOURNALS_PER_CALL": "50",
    "PARALLEL_CALLS": "4",
    "MAX_IMAGE_BYTES": "5242880",
    "POWERTOOLS_SERVICE_NAME": "tests",
    "POWERTOOLS_METRICS_NAMESPACE": "KivaRelay",
}


def variables(queue_url, dead_letter_queue_url):
    """What a function finds that stands behind these two, and housekeeping when all kinds share them."""
    return {
        **ENVIRONMENT,
        "QUEUE_URL": queue_url,
        "DEAD_LETTER_QUEUE_URL": dead_letter_queue_url,
        **{f"{kind.upper()}_QUEUE_URL": queue_url for kind in Kind},
        **{f"{name.upper()}_DEAD_LETTER_QUEUE_URL": dead_letter_queue_url for name in (*Kind, "outcomes")},
        # Powertools keeps a logger for each name, and with it the stdout of the test that made it.
        "POWERTOOLS_SERVICE_NAME": f"tests-{uuid4()}",
    }


def credentials(secret="canary-secret&+=", **changes):
    """What `make credentials` stores."""
    belongs_to = {"environment": ENVIRONMENT["KIVA_ENVIRONMENT"], "partner_id": ENVIRONMENT["KIVA_PARTNER_ID"]}
    return json.dumps({"client_id": "a-client", "client_secret": secret, **belongs_to, **changes})


def create_table(dynamodb):
    """Make the ledger table as the template makes it."""
    names = ("pk", "kind_state", "loan_id", "created_at", "updated_at")
    dynamodb.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": index,
                "KeySchema": [
                    {"AttributeName": name, "KeyType": "HASH"},
                    {"AttributeName": time, "KeyType": "RANGE"},
                ],
                "Projection": projection,
            }
            for index, name, time, projection in (
                ("by_state", "kind_state", "updated_at", {"ProjectionType": "ALL"}),
                (
                    "by_loan",
                    "loan_id",
                    "created_at",
                    {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["period"]},
                ),
            )
        ],
    )
