"""The textbook: what most teams would write to submit repayments and loan drafts from SQS queues to Kiva.

FROZEN. This is the baseline that `make bench` compares kiva-relay with, so it must not get better (or worse) with time:
no faster library, no batching, no shared token, no trimmed package. Change it only where it no longer runs at all, and
then as little as possible. It is written as the handbooks of its libraries show it, with nothing left out on purpose:
Powertools' BatchProcessor, Parser, Idempotency, Parameters, Logger, Metrics and Tracer, pydantic for what comes in, one
`requests` session, a token that is kept in memory until it expires.

A record (one SQS message) is one POST to Kiva and two calls of DynamoDB: claimed before, completed after.
"""

import os
import time
from datetime import date
from typing import Annotated, Any, Literal, Self

import jwt
import requests
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent_function
from aws_lambda_powertools.utilities.parameters import get_secret
from aws_lambda_powertools.utilities.parser.models import SqsRecordModel
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel, ConfigDict, Field, Json, model_validator

TOKEN_URL = os.environ["KIVA_TOKEN_URL"]
AUDIENCE = os.environ["KIVA_AUDIENCE"]
PARTNER_URL = f"{os.environ['KIVA_API_BASE_URL']}/v3/partner/{os.environ['KIVA_PARTNER_ID']}"
CREDENTIALS_SECRET = os.environ["KIVA_CREDENTIALS_SECRET"]
LEDGER_TABLE = os.environ["LEDGER_TABLE"]
TIMEOUT = (
    float(os.environ.get("KIVA_CONNECT_TIMEOUT_SECONDS", "5")),
    float(os.environ.get("KIVA_READ_TIMEOUT_SECONDS", "120")),
)
SCOPES = "create:loan_draft create:journal_update create:repayment read:loans"
TOKEN_MARGIN_SECONDS = 60

logger = Logger()
metrics = Metrics()
tracer = Tracer()
session = requests.Session()


# --- what comes in ----------------------------------------------------------------------------------------------------

Money = Annotated[float, Field(ge=0, multiple_of=0.01)]


class Message(BaseModel):
    """What the body of every message may hold; a field that Kiva does not know is refused."""

    model_config = ConfigDict(extra="forbid")

    reference: str | None = Field(default=None, max_length=100)


class Repayment(BaseModel):
    """One row of a repayment report."""

    model_config = ConfigDict(extra="forbid")

    loan_id: str = Field(min_length=1, max_length=64)
    client_id: str | None = Field(default=None, min_length=1, max_length=64)
    amount: Money
    payment_id: str | None = None


class RepaymentReport(Message):
    """A message of the repayments queue."""

    period: str | None = Field(default=None, pattern=r"^20\d\d-(0[1-9]|1[0-2])$")
    repayments: list[Repayment] = Field(min_length=1)


class Entrep(BaseModel):
    """A borrower of a draft."""

    model_config = ConfigDict(extra="forbid")

    client_id: str = Field(min_length=1, max_length=64)
    loan_id: str = Field(min_length=1, max_length=64)
    first_name: str = Field(min_length=1, max_length=200)
    last_name: str | None = Field(default=None, max_length=200)
    gender: Literal["female", "male", "unknown"]
    amount: Money = Field(gt=0)


class Instalment(BaseModel):
    """An expected repayment of a draft's schedule."""

    model_config = ConfigDict(extra="forbid")

    date: date
    principal: Money
    interest: Money | None = None


class LoanDraft(Message):
    """A message of the loan drafts queue: an individual loan or, with several entreps, a group's."""

    activity_id: int | None = Field(default=None, ge=1)
    theme_type_id: int | None = Field(default=None, ge=1)
    description_language_id: int | None = Field(default=None, ge=1)
    location: str | None = Field(default=None, max_length=200)
    currency: str | None = Field(default=None, pattern=r"^[A-Z]{3}$")
    loanuse: str | None = Field(default=None, max_length=200)
    description: str | None = Field(default=None, max_length=20_000)
    client_waiver_signed: bool | None = None
    disburse_time: date | None = None
    entreps: list[Entrep] = Field(min_length=1)
    schedule: list[Instalment] | None = None
    group_name: str | None = Field(default=None, max_length=200)
    internal_client_id: str | None = Field(default=None, max_length=64)
    internal_loan_id: str | None = Field(default=None, max_length=64)
    not_pictured: list[bool] | None = None
    image_encoded: str | None = None

    @model_validator(mode="after")
    def _group_fields_belong_to_groups(self) -> Self:
        group = len(self.entreps) > 1
        for name in ("group_name", "internal_client_id", "internal_loan_id", "not_pictured"):
            if (getattr(self, name) is not None) != group:
                raise ValueError(f"{name} must be {'given for a group' if group else 'absent for an individual'}")
        return self


class RepaymentRecord(SqsRecordModel):
    """A record of the repayments queue."""

    body: Json[RepaymentReport]


class DraftRecord(SqsRecordModel):
    """A record of the loan drafts queue."""

    body: Json[LoanDraft]


repayments_processor = BatchProcessor(event_type=EventType.SQS, model=RepaymentRecord)
drafts_processor = BatchProcessor(event_type=EventType.SQS, model=DraftRecord)

# The same report or loan again within 30 days is answered from the table. `pk` is what the table's key is called.
persistence = DynamoDBPersistenceLayer(table_name=LEDGER_TABLE, key_attr="pk")
repayments_once = IdempotencyConfig(expires_after_seconds=30 * 24 * 3600)
drafts_once = IdempotencyConfig(
    event_key_jmespath="[internal_loan_id, entreps[].loan_id]", expires_after_seconds=30 * 24 * 3600
)


# --- Kiva -------------------------------------------------------------------------------------------------------------


class TokenCache:
    """Kiva's token, in memory, until a minute before it expires."""

    def __init__(self) -> None:
        self._token: str | None = None
        self._expires_at = 0.0

    def get(self) -> str:
        """The token, fetched when there is none that is still good."""
        if self._token is None or time.time() >= self._expires_at - TOKEN_MARGIN_SECONDS:
            self._fetch()
        return self._token

    def discard(self) -> None:
        """Forget a token that Kiva refused."""
        self._token = None

    def _fetch(self) -> None:
        credentials = get_secret(CREDENTIALS_SECRET, transform="json", max_age=300)
        form = {
            "grant_type": "client_credentials",
            "scope": SCOPES,
            "audience": AUDIENCE,
            "client_id": credentials["client_id"],
            "client_secret": credentials["client_secret"],
        }
        response = session.post(TOKEN_URL, data=form, timeout=TIMEOUT)
        response.raise_for_status()
        answer = response.json()
        self._token = answer["access_token"]
        try:
            self._expires_at = jwt.decode(self._token, options={"verify_signature": False})["exp"]
        except (jwt.DecodeError, KeyError):  # not every token is a JWT that says when it ends
            self._expires_at = time.time() + answer["expires_in"]
        logger.info("fetched a token")


tokens = TokenCache()


def post(path: str, content: dict[str, Any]) -> dict[str, Any]:
    """One POST to Kiva, once more with a new token when the old one is refused. Raises for every other status."""
    for attempt in range(2):
        headers = {"Authorization": f"Bearer {tokens.get()}"}
        response = session.post(f"{PARTNER_URL}/{path}", json=content, headers=headers, timeout=TIMEOUT)
        if response.status_code != requests.codes.unauthorized or attempt:
            break
        tokens.discard()
    response.raise_for_status()
    return response.json()


@idempotent_function(data_keyword_argument="report", config=repayments_once, persistence_store=persistence)
def submit_report(report: RepaymentReport) -> dict[str, Any]:
    """Report the repayments of one message; what Kiva answered is kept for the next time."""
    rows = [row.model_dump(mode="json", exclude={"payment_id"}, exclude_none=True) for row in report.repayments]
    return post("repayments", {"repayments": rows})


@idempotent_function(data_keyword_argument="draft", config=drafts_once, persistence_store=persistence)
def submit_draft(draft: LoanDraft) -> dict[str, Any]:
    """Create one draft; what Kiva answered is kept for the next time."""
    return post("loan_draft", draft.model_dump(mode="json", exclude={"reference"}, exclude_none=True))


# --- the two functions ------------------------------------------------------------------------------------------------


@tracer.capture_method
def repayment_record(record: RepaymentRecord) -> None:
    """One record of the repayments queue."""
    answer = submit_report(report=record.body)
    metrics.add_metric(name="RepaymentsSubmitted", unit=MetricUnit.Count, value=len(record.body.repayments))
    logger.info("submitted repayments", message_id=record.messageId, upload_id=answer.get("upload_id"))


@tracer.capture_method
def draft_record(record: DraftRecord) -> None:
    """One record of the loan drafts queue."""
    answer = submit_draft(draft=record.body)
    metrics.add_metric(name="LoanDraftsSubmitted", unit=MetricUnit.Count, value=1)
    logger.info("submitted a loan draft", message_id=record.messageId, draft=answer.get("loan_draft_uuid"))


@logger.inject_lambda_context
@tracer.capture_lambda_handler
@metrics.log_metrics(capture_cold_start_metric=True)
def repayments_handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """An SQS batch of repayment reports in, a partial batch response out."""
    repayments_once.register_lambda_context(context)
    return process_partial_response(event, repayment_record, repayments_processor, context)


@logger.inject_lambda_context
@tracer.capture_lambda_handler
@metrics.log_metrics(capture_cold_start_metric=True)
def drafts_handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """An SQS batch of loan drafts in, a partial batch response out."""
    drafts_once.register_lambda_context(context)
    return process_partial_response(event, draft_record, drafts_processor, context)
