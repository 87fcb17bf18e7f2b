"""The one module that builds real things, each on first use and then kept while the execution environment lives.

Handlers read it; nothing else does. Tests replace the environment and call `forget`.
"""

import os
import re
import ssl
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config

from .api import Intake, problem
from .breaker import Breaker
from .catalogue import Catalogues
from .client import KivaClient, Remaining, new_ssl_context, post_form
from .decisions import Decisions
from .dynamodb import write_transactions_whole
from .errors import Misconfigured, WrongTrigger
from .housekeeping import Housekeeping
from .ledger import Ledger
from .messages import Kind
from .pa2 import Review
from .payloads import Payloads
from .queues import Consumer, Queues, come_again
from .relay import Relay
from .sending import Sending
from .settings import Settings
from .telemetry import Telemetry
from .tokens import CredentialsSecret, Lease, ParameterStore, SecretsManagerStore, TokenProvider, TokenStore

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from .health import Health
    from .outcomes import Outcomes
    from .runs import Runs

AWS_CONFIG = Config(
    connect_timeout=3,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 4},
    # What we send is typed and tested; looking through every value of it again costs as much as sending it.
    parameter_validation=False,
)


def consume(kind: Kind, event: Mapping[str, Any], context: "LambdaContext") -> Mapping[str, Any]:
    """What a function behind a queue and a route does with whichever of the two called it."""
    with telemetry().invocation(context):
        expect(event, "aws:sqs", "aws:apigateway")
        records = event.get("Records")
        try:
            if records is not None:
                return consumer(kind).consume(records, seconds_left(context))
            return intake(kind).post(event, seconds_left(context)).as_proxy_result()
        except Misconfigured as error:
            telemetry().refused("this function cannot start", error)
            if records is not None:
                return come_again(record["messageId"] for record in records)
            return problem(error).as_proxy_result()


_TRIGGERS = {
    "aws:sqs": "batches of its SQS queue",
    "aws:apigateway": "requests of API Gateway",
    "aws:dynamodb": "batches of the ledger's stream",
    "aws.scheduler": "its schedule",
}


def expect(event: object, *triggers: str) -> None:
    """Say what a function takes, when it was called by anything else. Raises WrongTrigger.

    It is raised and not answered: an answer would have SNS or S3 count it as delivered, and a stream go on. So it is
    tried again, stays in its stream, and rings the alarm for functions that fail.
    """
    trigger = _trigger(event)
    if trigger not in triggers:
        takes = " and ".join(_TRIGGERS[it] for it in triggers)
        shown = trigger if trigger and re.fullmatch(r"aws:[a-z0-9-]{1,20}", trigger) else "something else"
        error = WrongTrigger(f"this function takes {takes}, and was called by {shown}")
        telemetry().refused("nothing was taken in", error)
        raise error


def _trigger(event: object) -> str | None:
    """What called, by its event; None for what is not known. SNS alone writes `EventSource` with a capital."""
    match event:
        case {"Records": []}:
            return "aws:sqs"
        case {"Records": [{"eventSource": str(source)}, *_]} | {"Records": [{"EventSource": str(source)}, *_]}:
            return source
        case {"httpMethod": _} | {"requestContext": _}:
            return "aws:apigateway"
        case {"detail-type": "Scheduled Event"}:
            return "aws.scheduler"
    return None


def seconds_left(context: "LambdaContext") -> Remaining:
    """The invocation's remaining time, in seconds."""
    return lambda: context.get_remaining_time_in_millis() / 1000


@cache
def settings() -> Settings:
    """The function's settings. Raises Misconfigured."""
    return Settings.from_environment(os.environ)


@cache
def telemetry() -> Telemetry:
    """Logger and metrics."""
    return Telemetry(os.environ)


@cache
def consumer(kind: Kind) -> Consumer:
    """What stands behind the queue of a kind."""
    queues = Queues(aws("sqs"), payloads(), settings().queue_url, settings().dead_letter_queue_url)
    return Consumer(kind, settings(), ledger(), relay(), payloads(), review(), queues, telemetry())


@cache
def intake(kind: Kind) -> Intake:
    """What stands behind the API route of a kind."""
    return Intake(kind, settings(), ledger(), relay(), aws("sqs"), payloads(), review(), telemetry())


@cache
def review() -> Review:
    """What PA2 would find in drafts."""
    return Review(catalogues().current)


@cache
def catalogues() -> Catalogues:
    """Kiva's lists for this partner."""
    return Catalogues(aws("dynamodb"), settings().ledger_table, settings().ledger_scope)


@cache
def relay() -> Relay:
    """The way through."""
    return Relay(settings(), ledger(), client(), payloads(), sending(), breaker())


@cache
def sending() -> Sending:
    """Whether a kind may be sent, by what people said."""
    return Sending(aws("dynamodb"), settings().ledger_table, settings().ledger_scope)


@cache
def breaker() -> Breaker:
    """Whether Kiva's answers let a kind be sent."""
    return Breaker(sending())


@cache
def decisions() -> Decisions:
    """What people decide."""
    return Decisions(ledger())


@cache
def housekeeping() -> Housekeeping:
    """What nobody should have to remember."""
    return Housekeeping(
        settings(), ledger(), client(), payloads(), decisions(), catalogues(), sending(), aws("sqs"), telemetry()
    )


@cache
def outcomes() -> "Outcomes":
    """What is told to others."""
    from .outcomes import Outcomes  # noqa: PLC0415 one function needs it, and five start without

    return Outcomes(settings(), ledger(), sending(), runs(), aws("events"), aws("sqs"), aws("sns"), telemetry())


@cache
def health() -> "Health":
    """How the stack stands."""
    from .health import Health  # noqa: PLC0415 the console alone needs it

    return Health(settings(), ledger(), tokens(), sending(), runs(), time.time)


@cache
def runs() -> "Runs":
    """When housekeeping and the digest last ended well."""
    from .runs import Runs  # noqa: PLC0415 the functions that submit start without

    return Runs(aws("dynamodb"), settings().ledger_table, settings().ledger_scope)


@cache
def payloads() -> Payloads:
    """The payload bucket."""
    return Payloads(aws("s3"), settings().payload_bucket, settings().rules.max_image_bytes)


@cache
def ledger() -> Ledger:
    """The ledger of this stage and partner."""
    return Ledger(aws("dynamodb"), settings().ledger_table, settings().ledger_scope)


@cache
def client() -> KivaClient:
    """Kiva's Partner API."""
    return KivaClient(settings(), tokens(), _tls)


@cache
def tokens() -> TokenProvider:
    """Kiva's token."""
    lease = Lease(aws("dynamodb"), settings().ledger_table, f"{settings().ledger_scope}#lease#token", time.time)
    credentials = CredentialsSecret(aws("secretsmanager"), settings())
    ask = partial(post_form, settings(), _tls)
    return TokenProvider(settings(), _token_store(), lease, credentials.versions, ask)


def aws(service: str) -> Callable[[], Any]:
    """A way to the client of an AWS service; the client is made when it is first called."""
    return partial(_aws_client, service)


def forget() -> None:
    """Forget everything built so far (for tests, which change the environment)."""
    for built in globals().values():
        if hasattr(built, "cache_clear"):
            built.cache_clear()


@cache
def _tls() -> ssl.SSLContext:
    return new_ssl_context()


@cache
def _aws_session() -> botocore.session.Session:
    session = botocore.session.get_session()
    write_transactions_whole(session)
    return session


@cache
def _aws_client(service: str) -> Any:
    return _aws_session().create_client(service, config=AWS_CONFIG)


def _token_store() -> TokenStore:
    name = settings().token_store_name
    if settings().token_store == "ssm":  # noqa: S105 the kind of store
        return ParameterStore(aws("ssm"), name, settings().encryption_key)
    return SecretsManagerStore(aws("secretsmanager"), name)
