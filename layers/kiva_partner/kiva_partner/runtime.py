"""The one module that builds real things, each on first use and then kept while the execution environment lives.

Handlers read it; nothing else does. Tests replace the environment and call `forget`.
"""

import json
import os
import ssl
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config

from .api import Intake, problem
from .client import KivaClient, Remaining, new_ssl_context, post_form
from .errors import InvalidMessage, Misconfigured, Violation
from .ledger import Ledger
from .messages import Kind, Photo
from .photos import Image, sniff_image
from .queues import Consumer, DeadLetters, come_again
from .relay import Relay
from .settings import Settings
from .telemetry import Telemetry
from .tokens import Credentials, Lease, ParameterStore, SecretsManagerStore, TokenProvider, TokenStore

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

AWS_CONFIG = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 4})


def consume(kind: Kind, event: Mapping[str, Any], context: "LambdaContext") -> Mapping[str, Any]:
    """What a function behind a queue and a route does with whichever of the two called it."""
    with telemetry().invocation(context):
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
    dead_letters = DeadLetters(aws("sqs"), aws("s3"), settings().dead_letter_queue_url, settings().payload_bucket)
    return Consumer(kind, settings(), relay(), dead_letters, telemetry())


@cache
def intake(kind: Kind) -> Intake:
    """What stands behind the API route of a kind."""
    return Intake(kind, settings(), ledger(), relay(), aws("sqs"), _store_photo, telemetry())


@cache
def relay() -> Relay:
    """The way through."""
    return Relay(settings(), ledger(), client(), _load_photo)


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
    return TokenProvider(settings(), _token_store(), lease, _credentials, partial(post_form, settings(), _tls))


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
    return botocore.session.get_session()


@cache
def _aws_client(service: str) -> Any:
    return _aws_session().create_client(service, config=AWS_CONFIG)


def _token_store() -> TokenStore:
    name = settings().token_store_name
    if settings().token_store == "ssm":  # noqa: S105 the kind of store
        return ParameterStore(aws("ssm"), name)
    return SecretsManagerStore(aws("secretsmanager"), name)


def _credentials() -> Credentials:
    """Read for each token request, a few times a day, so that a rotated secret is used at once."""
    secret_id = settings().credentials_secret
    secrets = aws("secretsmanager")()
    try:
        stored = json.loads(secrets.get_secret_value(SecretId=secret_id)["SecretString"])
        return Credentials(str(stored["client_id"]), str(stored["client_secret"]))
    except secrets.exceptions.ResourceNotFoundException:
        raise Misconfigured("the credentials secret has no value yet; see README, «Put the credentials in»") from None
    except (ValueError, KeyError, TypeError):
        raise Misconfigured("the credentials secret must be JSON with client_id and client_secret") from None


def _store_photo(image: Image) -> None:
    aws("s3")().put_object(
        Bucket=settings().payload_bucket, Key=image.s3_key, Body=image.content, ContentType=image.media_type
    )


def _load_photo(photo: Photo) -> str:
    s3 = aws("s3")()
    try:
        stored = s3.get_object(Bucket=settings().payload_bucket, Key=photo.s3_key)
    except s3.exceptions.NoSuchKey:
        raise InvalidMessage(Violation("$.photo.s3_key", "names no object of the payload bucket")) from None
    limit = settings().rules.max_image_bytes
    image, broken = sniff_image(stored["Body"].read(limit + 1), limit)
    if image is None:
        raise InvalidMessage(*(Violation("$.photo", rule) for rule in broken))
    return image.data_uri
