"""What all tiers share: AWS that costs nothing and reaches nobody, and a partner's settings."""

import os
from contextlib import ExitStack
from copy import replace

import boto3
import pytest

from chromium import not_installed, start_chromium
from deployment import BUCKET, ENVIRONMENT, create_table, credentials, variables
from fakes import Context, FakeClock, Kiva
from handlers import Console, Function
from kiva_partner import runtime
from kiva_partner.messages import Kind
from kiva_partner.sending import Sending
from kiva_partner.settings import Settings
from moto_aws import aws_by_moto
from serving import serving


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
def aws(monkeypatch):
    with aws_by_moto(monkeypatch):
        yield


@pytest.fixture
def table(aws):
    """The ledger table as the template makes it, and a client for it."""
    client = boto3.client("dynamodb")
    create_table(client)
    return client


@pytest.fixture
def sending(table, clock):
    return Sending(lambda: table, "ledger", "stage#9001", clock=clock)


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
    secrets.create_secret(Name="credentials", SecretString=credentials())
    secrets.create_secret(Name="token")
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    for name, value in variables(*queue_urls).items():
        monkeypatch.setenv(name, value)
    runtime.forget()
    yield kiva
    runtime.forget()


@pytest.fixture
def context():
    return Context()


@pytest.fixture
def drafts(deployed, context):
    return Function(Kind.LOAN_DRAFT, context)


@pytest.fixture
def updates(deployed, context):
    return Function(Kind.JOURNAL_UPDATE, context)


@pytest.fixture
def reports(deployed, context):
    return Function(Kind.REPAYMENT, context)


@pytest.fixture
def console(deployed, context):
    return Console(context)


@pytest.fixture(scope="session")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory, downloads):
    """The browser of the whole session. Where there is none these tests are left out, but not where CI says so."""
    if missing := not_installed():
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(f"THE PAGES WERE NOT TRIED: {missing}")
    with start_chromium(tmp_path_factory.mktemp("chromium"), downloads) as browser:
        yield browser


@pytest.fixture
def serve():
    """Serves an application on a port of its own until the test is over; gives its address."""
    with ExitStack() as running:
        yield lambda *app_and_config: running.enter_context(serving(*app_and_config))
