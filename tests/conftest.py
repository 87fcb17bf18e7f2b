"""What all tiers share: AWS that costs nothing and reaches nobody, and a partner's settings."""

import os
from dataclasses import replace
from uuid import uuid4

import boto3
import pytest
from moto import mock_aws

from fakes import API_BASE_URL, AUDIENCE, TOKEN_URL, FakeClock, Kiva
from kiva_partner import runtime
from kiva_partner.settings import Settings

TABLE = "ledger"
BUCKET = "payloads"

ENVIRONMENT = {
    "KIVA_ENVIRONMENT": "stage",
    "KIVA_PRODUCTION_CONFIRMED": "no",
    "KIVA_TOKEN_URL": TOKEN_URL,
    "KIVA_AUDIENCE": AUDIENCE,
    "KIVA_API_BASE_URL": API_BASE_URL,
    "KIVA_PARTNER_ID": "9001",
    "KIVA_CREDENTIALS_SECRET": "credentials",
    "TOKEN_STORE": "secrets-manager",
    "TOKEN_STORE_NAME": "token",
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


@pytest.fixture(autouse=True)
def _no_real_aws(monkeypatch):
    """No test may find a person's credentials, or an endpoint that is not ours."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.endswith("_CA_BUNDLE"):
            monkeypatch.delenv(name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def settings():
    return Settings.from_environment(ENVIRONMENT)


@pytest.fixture
def rules(settings):
    return settings.rules


@pytest.fixture
def two_columns(rules):
    return replace(rules, needs_client_id=False)


@pytest.fixture
def aws():
    with mock_aws():
        yield


@pytest.fixture
def table(aws):
    """The ledger table as the template makes it, and a client for it."""
    client = boto3.client("dynamodb")
    names = ("pk", "kind_state", "loan_id", "updated_at")
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": index,
                "KeySchema": [
                    {"AttributeName": name, "KeyType": "HASH"},
                    {"AttributeName": "updated_at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
            for index, name in (("by_state", "kind_state"), ("by_loan", "loan_id"))
        ],
    )
    return client


@pytest.fixture
def kiva():
    with Kiva() as kiva:
        yield kiva


@pytest.fixture
def queue_urls(aws):
    sqs = boto3.client("sqs")
    return [sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("queue", "dead-letters")]


@pytest.fixture
def deployed(table, queue_urls, kiva, monkeypatch):
    """Everything a function finds around it: settings, table, queues, bucket, secrets, and Kiva."""
    secrets = boto3.client("secretsmanager")
    secrets.create_secret(
        Name="credentials", SecretString='{"client_id": "a-client", "client_secret": "canary-secret&+="}'
    )
    secrets.create_secret(Name="token")
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    for name, value in {
        **ENVIRONMENT,
        "QUEUE_URL": queue_urls[0],
        "DEAD_LETTER_QUEUE_URL": queue_urls[1],
        # Powertools keeps a logger for each name, and with it the stdout of the test that made it.
        "POWERTOOLS_SERVICE_NAME": f"tests-{uuid4()}",
    }.items():
        monkeypatch.setenv(name, value)
    runtime.forget()
    yield kiva
    runtime.forget()
