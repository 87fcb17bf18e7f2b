"""Kiva's access token: from memory, else from the store that all functions of a stage share, else from Kiva.

A token lives about twelve hours and serves everybody. It counts as fresh until 15 minutes before its end; then one
execution environment renews it under a short lease while the others go on with the old one; in its last 10 minutes
they all wait briefly for the new one. Kiva is asked for a token two or three times a day, however many run.

Sources: Kiva partner portal, "Authentication"; RFC 6749 §4.4 and §5; RFC 6750 §3.1; the windows are botocore's.
"""

import json
import logging
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import Struct

from .errors import Misconfigured, NotSent
from .settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_ssm import SSMClient

SCOPES = ("read:loans", "create:loan_draft", "create:journal_update", "create:repayment")

ADVISORY_WINDOW = 15 * 60
MANDATORY_WINDOW = 10 * 60
EARLY_WINDOW = 60 * 60
"""Housekeeping renews in the last hour, so that no submission ever meets the two windows above."""

LEASE_SECONDS = 20
ANSWER_SECONDS = LEASE_SECONDS - 5
"""How long to wait for the token service: not past the lease, or another one would ask as well."""

FORCED_RENEWAL_INTERVAL = 60
FAILED_RENEWAL_INTERVAL = 60
"""One attempt a minute: a token service in trouble is not helped by more, and each may take ANSWER_SECONDS."""

WAIT_SECONDS = LEASE_SECONDS + 5
POLL_SECONDS = 0.25

SHORTEST_LIFE = 300
LONGEST_LIFE = 86_400

ANOTHER_PARTNER = "the token is for another partner than KIVA_PARTNER_ID"

_TOKEN_SYNTAX = re.compile(r"[-A-Za-z0-9._~+/]{1,8192}={0,2}")
"""RFC 6750 §2.1; keeps CR and LF out of our request header. Kiva's tokens have about 1,000 characters."""

_log = logging.getLogger(__name__)


class Token(Struct, frozen=True):
    """An access token; `repr` hides it. Times are epoch seconds."""

    value: str
    scopes: frozenset[str]
    obtained_at: float
    expires_at: float

    def __repr__(self) -> str:
        return f"Token(scopes={sorted(self.scopes)}, obtained_at={self.obtained_at}, expires_at={self.expires_at})"

    def lasts(self, window: float, now: float) -> bool:
        """Whether more than `window` seconds are left."""
        return self.expires_at - now > window


class Credentials(Struct, frozen=True):
    """What PA2 > Account > API Access shows; `repr` hides the secret."""

    client_id: str
    client_secret: str

    def __repr__(self) -> str:
        return f"Credentials(client_id={self.client_id!r})"


class CredentialsSecret:
    """What people stored with `make credentials`. Read for each token request, so that a new value is used at once."""

    def __init__(self, client: Callable[[], "SecretsManagerClient"], settings: Settings) -> None:
        self._client = client
        self._settings = settings

    def versions(self) -> Iterator[Credentials]:
        """The credentials stored last, and then those before them, which Kiva may still (or alone) take.

        Raises:
            Misconfigured: nothing is stored, or nothing for this stage and partner.
        """
        current = self._read("AWSCURRENT")
        yield current
        try:
            previous = self._read("AWSPREVIOUS")
        except Misconfigured:
            return
        if previous != current:
            yield previous

    def _read(self, stage: str) -> Credentials:
        client, secret_id = self._client(), self._settings.credentials_secret
        try:
            stored = json.loads(client.get_secret_value(SecretId=secret_id, VersionStage=stage)["SecretString"])
            credentials = Credentials(str(stored["client_id"]), str(stored["client_secret"]))
            belongs_to = {name: str(stored[name]) for name in ("environment", "partner_id")}
        except client.exceptions.ResourceNotFoundException:
            raise Misconfigured("the credentials secret has no value yet; store one with make credentials") from None
        except (ValueError, KeyError, TypeError):
            names = "client_id, client_secret, environment and partner_id"
            raise Misconfigured(f"the credentials secret is not JSON with {names}; use make credentials") from None
        for name, whose in belongs_to.items():
            ours = getattr(self._settings, name)
            if whose != ours:
                raise Misconfigured(f"the credentials secret was stored for another KIVA_{name.upper()} than {ours}")
        return credentials


class TokenStore(Protocol):
    """Where the functions of one stage share their token."""

    def load(self) -> str | None:
        """The text that was saved last, or None when there is none yet."""

    def save(self, text: str) -> None:
        """Replace it."""


class SecretsManagerStore:
    """The token as the current version of a secret, written two or three times a day (six an hour are allowed)."""

    def __init__(self, client: Callable[[], "SecretsManagerClient"], secret_id: str) -> None:
        self._client = client
        self._secret_id = secret_id

    def load(self) -> str | None:
        """As `TokenStore.load`."""
        client = self._client()
        try:
            return client.get_secret_value(SecretId=self._secret_id)["SecretString"]
        except client.exceptions.ResourceNotFoundException:  # also the answer for a secret that has no value yet
            return None

    def save(self, text: str) -> None:
        """As `TokenStore.save`."""
        self._client().put_secret_value(SecretId=self._secret_id, SecretString=text)


class ParameterStore:
    """The token as an SSM SecureString. CloudFormation cannot create one, so the first save does."""

    def __init__(self, client: Callable[[], "SSMClient"], name: str, key: str) -> None:
        self._client = client
        self._name = name
        self._key = key

    def load(self) -> str | None:
        """As `TokenStore.load`."""
        client = self._client()
        try:
            return client.get_parameter(Name=self._name, WithDecryption=True)["Parameter"]["Value"]
        except client.exceptions.ParameterNotFound:
            return None

    def save(self, text: str) -> None:
        """As `TokenStore.save`."""
        self._client().put_parameter(Name=self._name, Value=text, Type="SecureString", KeyId=self._key, Overwrite=True)


class Lease:
    """One holder at a time, for `LEASE_SECONDS` at most: a conditional write on a row of the ledger table."""

    def __init__(
        self, client: Callable[[], "DynamoDBClient"], table: str, name: str, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._table = table
        self._name = name
        self._clock = clock
        self._owner = uuid.uuid4().hex

    def acquire(self) -> bool:
        """Take the lease if nobody holds it."""
        client = self._client()
        now = self._clock()
        try:
            client.put_item(
                TableName=self._table,
                Item={
                    "pk": {"S": self._name},
                    "owner": {"S": self._owner},
                    "lease_until": {"N": str(now + LEASE_SECONDS)},
                },
                ConditionExpression="attribute_not_exists(pk) OR lease_until < :now OR #owner = :me",
                ExpressionAttributeNames={"#owner": "owner"},
                ExpressionAttributeValues={":now": {"N": str(now)}, ":me": {"S": self._owner}},
            )
        except client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def release(self) -> None:
        """Give it back, if it is still ours."""
        client = self._client()
        try:
            client.delete_item(
                TableName=self._table,
                Key={"pk": {"S": self._name}},
                ConditionExpression="#owner = :me",
                ExpressionAttributeNames={"#owner": "owner"},
                ExpressionAttributeValues={":me": {"S": self._owner}},
            )
        except client.exceptions.ConditionalCheckFailedException:
            _log.info("the token lease had passed to another holder")


FormPost = Callable[[str, Mapping[str, str]], tuple[int, bytes]]
"""POST a form to a URL and give status and body back. Raises NotSent when no answer came."""


class TokenProvider:
    """Hands out a token that Kiva should take, and learns when Kiva does not."""

    def __init__(
        self,
        settings: Settings,
        store: TokenStore,
        lease: Lease,
        credentials: Callable[[], Iterable[Credentials]],
        post_form: FormPost,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._settings = settings
        self._store = store
        self._lease = lease
        self._credentials = credentials
        self._post_form = post_form
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._refused: str | None = None
        self._failure: tuple[float, NotSent | Misconfigured] | None = None
        self.complaint: Misconfigured | None = None
        """What is wrong with the credentials stored last, when those before them got the current token."""

    def get(self, scope: str) -> Token:
        """A token that grants `scope`.

        Raises:
            NotSent: the token service does not answer, and no usable token is left.
            Misconfigured: the credentials are refused, the partner is another one, or the scope is not granted.
        """
        with self._lock:
            if not (self._token and self._token.lasts(ADVISORY_WINDOW, self._clock())):
                self._token = self._shared_or_new(ADVISORY_WINDOW)
            token = self._token
        if scope not in token.scopes:
            granted = " ".join(sorted(token.scopes)) or "nothing"
            raise Misconfigured(f"Kiva does not grant {scope} to these credentials; it grants {granted}")
        return token

    def discard(self, token: Token) -> None:
        """Kiva refused this very token (401 or 403): never use it again, whoever still holds it in the store."""
        with self._lock:
            self._refused = token.value
            if self._token and self._token.value == token.value:
                self._token = None

    def renew_early(self) -> bool:
        """Renew the shared token if it is in its last hour. True when a new one was fetched from Kiva.

        Raises:
            NotSent: the token service does not answer, whether or not the old token still serves.
            Misconfigured: it refuses the credentials, whether or not the old token still serves.
        """
        with self._lock:
            before = self._load()
            self._token = self._shared_or_new(EARLY_WINDOW)
            failure = self._recent_failure()
            if failure and not self._token.lasts(EARLY_WINDOW, self._clock()):
                raise failure
            return before is None or before.value != self._token.value

    def renew(self) -> Token:
        """Fetch a token with what is stored now, needed or not, and share it: to see whether the credentials are right.

        Raises as `get`, but for the scope; also NotSent while another one is fetching.
        """
        with self._lock:
            stored = self._load()
            if stored and self._clock() - stored.obtained_at < FORCED_RENEWAL_INTERVAL:
                return stored
            if not self._lease.acquire():
                raise NotSent("another function is asking for a token right now")
            try:
                self._token = self._share(self._fetch())
            finally:
                self._lease.release()
            return self._token

    def _shared_or_new(self, window: float) -> Token:
        give_up = self._clock() + WAIT_SECONDS
        while True:
            shared = self._load()
            if shared and shared.lasts(window, self._clock()):
                return shared
            if failure := self._recent_failure():
                if shared and shared.lasts(0, self._clock()):
                    return shared
                raise failure
            if self._lease.acquire():
                try:
                    return self._renewed(window)
                finally:
                    self._lease.release()
            # Somebody else renews. The old token serves on, except in its last minutes.
            if shared and shared.lasts(MANDATORY_WINDOW, self._clock()):
                return shared
            if self._clock() >= give_up:
                raise NotSent("no token: another function is renewing it and has not finished")
            self._sleep(self._jitter(POLL_SECONDS, 2 * POLL_SECONDS))

    def _renewed(self, window: float) -> Token:
        """The lease is ours: look once more, then ask Kiva. A failure is only a warning while the old token is good."""
        stored = self._stored()
        shared = self._unless_refused(stored)
        if shared and shared.lasts(window, self._clock()):
            return shared
        try:
            self._refuse_hasty_renewal(stored)
            return self._share(self._fetch())
        except (NotSent, Misconfigured) as error:
            self._failure = (self._clock(), error)
            if shared and shared.lasts(0, self._clock()):
                _log.warning("could not renew the Kiva token, the old one still serves: %s", error)
                return shared
            raise

    def _share(self, token: Token) -> Token:
        try:
            self._store.save(_to_text(token, self._settings))
        except Exception as error:  # noqa: BLE001 a token that cannot be shared still serves this environment
            _log.warning("could not share the new Kiva token: %s", type(error).__name__)
        return token

    def _recent_failure(self) -> NotSent | Misconfigured | None:
        """The error of an attempt of this minute, for everybody who would make the next one."""
        if self._failure is None:
            return None
        failed_at, error = self._failure
        left = failed_at + FAILED_RENEWAL_INTERVAL - self._clock()
        if left <= 0:
            return None
        return Misconfigured(str(error)) if isinstance(error, Misconfigured) else NotSent(str(error), retry_after=left)

    def _load(self) -> Token | None:
        """The shared token, if it may be used."""
        return self._unless_refused(self._stored())

    def _stored(self) -> Token | None:
        """The shared token, unless it is for another stage or partner."""
        return _from_text(self._store.load() or "", self._settings)

    def _unless_refused(self, token: Token | None) -> Token | None:
        return None if token is None or token.value == self._refused else token

    def _refuse_hasty_renewal(self, stored: Token | None) -> None:
        """A refused token that is younger than a minute means that new ones are refused too: stop, and say so."""
        if stored and stored.value == self._refused and self._clock() - stored.obtained_at < FORCED_RENEWAL_INTERVAL:
            raise Misconfigured("Kiva refuses a token that it gave out less than a minute ago")

    def _fetch(self) -> Token:
        """Ask with each of the credentials until some are not refused. There is no second try after a slow refusal."""
        refusal, ask_until = None, self._clock() + LEASE_SECONDS - ANSWER_SECONDS
        for credentials in self._credentials():
            asked_at = self._clock()
            if asked_at > ask_until:
                break
            status, body = self._ask(credentials)
            if 200 <= status < 300:  # noqa: PLR2004
                token = _read_answer(body, asked_at, self._settings.partner_id)
                lives = token.expires_at - asked_at
                _log.info("fetched a Kiva token", extra={"scopes": sorted(token.scopes), "lives": lives})
                self.complaint = refusal
                return token
            if status not in (400, 401, 403):
                raise NotSent(f"Kiva's token service answered HTTP {status}", status=status)
            refusal = refusal or Misconfigured(
                f"Kiva's token service refuses the client id, secret or audience: HTTP {status}"
            )
        raise refusal or Misconfigured("there are no credentials")

    def _ask(self, credentials: Credentials) -> tuple[int, bytes]:
        form = {
            "grant_type": "client_credentials",
            "scope": " ".join(SCOPES),
            "audience": self._settings.audience,
            "client_id": credentials.client_id,
            "client_secret": credentials.client_secret,
        }
        return self._post_form(self._settings.token_url, form)


class _Answer(Struct):
    """RFC 6749 §5.1, with Kiva's `partnerId`."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str = ""
    partner_id: str | int | None = msgspec.field(default=None, name="partnerId")


def _read_answer(body: bytes, asked_at: float, partner_id: str) -> Token:
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise NotSent("Kiva's token service gave an unreadable answer") from None
    if answer.token_type.lower() != "bearer":
        raise Misconfigured("Kiva's token is not a bearer token")
    if not _TOKEN_SYNTAX.fullmatch(answer.access_token):
        raise Misconfigured("Kiva's token holds characters that a header cannot carry")
    if not SHORTEST_LIFE <= answer.expires_in <= LONGEST_LIFE:
        raise Misconfigured("Kiva's token has an expires_in out of bounds")
    if str(answer.partner_id) != partner_id:
        raise Misconfigured(ANOTHER_PARTNER)
    # Counted from before the request: the answer's way back is not ours to use.
    expires_at = min(asked_at + answer.expires_in, _jwt_exp(answer.access_token))
    if expires_at < asked_at + SHORTEST_LIFE:
        raise Misconfigured("Kiva's token ends by its exp at once; is this machine's clock right?")
    # What else it grants is never asked for; and these go into the log.
    return Token(answer.access_token, frozenset(SCOPES).intersection(answer.scope.split()), asked_at, expires_at)


def _jwt_exp(token: str) -> float:
    """`exp` of the JWT, unverified: it may only shorten the token's life. An opaque token has none."""
    import jwt  # noqa: PLC0415 needed twice a day, and costs every cold start 40 ms

    try:
        exp = jwt.decode(token, options={"verify_signature": False}).get("exp")
        return float(exp) if isinstance(exp, int | float) else float("inf")
    except (jwt.InvalidTokenError, OverflowError, RecursionError):
        return float("inf")


def _to_text(token: Token, settings: Settings) -> str:
    return json.dumps(
        {
            "access_token": token.value,
            "scopes": sorted(token.scopes),
            "obtained_at": token.obtained_at,
            "expires_at": token.expires_at,
            **_belongs_to(settings),
        }
    )


def _from_text(text: str, settings: Settings) -> Token | None:
    try:
        stored: Any = json.loads(text)
        if {name: stored[name] for name in _belongs_to(settings)} != _belongs_to(settings):
            return None
        if not _TOKEN_SYNTAX.fullmatch(stored["access_token"]):  # whoever wrote it, it must not become a second header
            return None
        return Token(
            stored["access_token"],
            frozenset(stored["scopes"]),
            float(stored["obtained_at"]),
            float(stored["expires_at"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def _belongs_to(settings: Settings) -> dict[str, str]:
    return {
        "environment": settings.environment,
        "partner_id": settings.partner_id,
        "token_url": settings.token_url,
        "audience": settings.audience,
    }
