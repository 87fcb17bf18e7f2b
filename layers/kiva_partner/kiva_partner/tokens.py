"""Kiva's access token: from memory, else from the store that all functions of a stage share, else from Kiva.

A token lives about twelve hours and serves everybody. It counts as fresh until 15 minutes before its end; then one
execution environment renews it under a short lease while the others go on with the old one; in its last 10 minutes
they all wait briefly for the new one. Kiva is asked for a token two or three times a day, however many run.

Kiva documents that a token simply lacks the scopes that the client has not. Spring's servers, which Kiva's seems to be
built with, refuse the whole request instead (400 `invalid_scope`). Then each scope is asked for alone, once a day, and
one token for all that are granted; what was found is kept with the token.

Sources: Kiva partner portal, "Authentication"; RFC 6749 §4.4 and §5; RFC 6750 §3.1; Spring Authorization Server,
`OAuth2ClientCredentialsAuthenticationProvider`; the windows are botocore's.
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

from .errors import KivaUnavailable, Misconfigured, NotConfigured, NotSent
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

REQUEST_SECONDS = 2 * ANSWER_SECONDS
"""For all of a request: half of it may go by until it is sent."""

SHORTEST_PROBE_SECONDS = 4
"""With less a request for a single scope is not begun: a second to connect, one to send, and two for the answer."""

SCOPES_KNOWN_SECONDS = 24 * 3600
"""After that a scope that was not granted is asked for again."""

FORCED_RENEWAL_INTERVAL = 60
FAILED_RENEWAL_INTERVAL = 60
"""One attempt a minute: a token service in trouble is not helped by more, and each may take ANSWER_SECONDS."""

WAIT_SECONDS = LEASE_SECONDS + 5
POLL_SECONDS = 0.25

SHORTEST_LIFE = 300
LONGEST_LIFE = 86_400

STANDARD_PARAMETER, LARGEST_PARAMETER = 4096, 8192
"""Characters of an SSM parameter, in the standard and in the advanced tier."""

_KEY_REFUSED = ("AccessDeniedException", "InvalidKeyId")
"""AWS's codes where SSM cannot decrypt: a key that is not for us, or one that is disabled or about to be deleted."""

_NO_SCOPE = f"Kiva's token service grants these credentials none of {', '.join(SCOPES)}: it answers invalid_scope"

_TOKEN_SYNTAX = re.compile(r"[-A-Za-z0-9._~+/]{1,8192}={0,2}")
"""RFC 6750 §2.1; keeps CR and LF out of our request header. Kiva's tokens have about 1,000 characters."""

_log = logging.getLogger(__name__)


class AnotherPartner(Misconfigured):
    """The token is for another partner than ours: deploy with the right id, or store the right credentials."""


class UnusableAnswer(Misconfigured):
    """The token service says yes, but what it gives is no token for us. No other credentials would help."""


class CredentialsRefused(Misconfigured):
    """The token service refuses these credentials: others may be taken."""


class NoScopeGranted(CredentialsRefused):
    """These credentials are right, and Kiva has granted them nothing."""


class TokenBusy(NotSent):
    """Another function is asking for a token, or there was no time to ask: Kiva has no part in it."""


class DoesNotFit(Exception):
    """The token is too large for its store; the text says what holds more."""


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


class Grants(Struct, frozen=True):
    """Which scopes one set of credentials has, found by asking for each alone from `asked_at` (epoch seconds) on."""

    asked_at: float
    granted: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()

    @property
    def is_complete(self) -> bool:
        """Whether each scope has been asked for."""
        return self.granted | self.refused >= frozenset(SCOPES)


Known = dict[str, Grants]
"""Grants by `Credentials.version`."""


class Credentials(Struct, frozen=True):
    """What PA2 > Account > API Access shows; `repr` hides the secret.

    `version` is AWS's id of what was stored. It tells one set from another, and reveals nothing of the secret.
    """

    client_id: str
    client_secret: str
    version: str

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
            NotConfigured: nothing is stored yet.
            Misconfigured: what is stored is not for this stage and partner.
        """
        current = self._read("AWSCURRENT")
        yield current
        try:
            previous = self._read("AWSPREVIOUS")
        except Misconfigured:
            return
        if (previous.client_id, previous.client_secret) != (current.client_id, current.client_secret):
            yield previous

    def _read(self, stage: str) -> Credentials:
        client, secret_id = self._client(), self._settings.credentials_secret
        try:
            answer = client.get_secret_value(SecretId=secret_id, VersionStage=stage)
            # Who stored it by hand may have stored a file: editors put a byte order mark before, and a newline behind.
            stored = json.loads(answer["SecretString"].removeprefix("\ufeff"))
            client_id, client_secret = (str.strip(stored[name]) for name in ("client_id", "client_secret"))
            belongs_to = {name: str(stored[name]).strip() for name in ("environment", "partner_id")}
        except client.exceptions.ResourceNotFoundException:
            raise NotConfigured from None
        except (ValueError, KeyError, TypeError):
            names = "client_id, client_secret, environment and partner_id"
            raise Misconfigured(f"the credentials secret is not JSON with {names}; use make credentials") from None
        for name, whose in belongs_to.items():
            ours = getattr(self._settings, name)
            if whose != ours:
                raise Misconfigured(f"the credentials secret was stored for another KIVA_{name.upper()} than {ours}")
        for name, value in {"client_id": client_id, "client_secret": client_secret}.items():
            if not value:
                raise Misconfigured(f"the credentials secret has an empty {name}; store it anew with make credentials")
        return Credentials(client_id, client_secret, answer["VersionId"])


class TokenStore(Protocol):
    """Where the functions of one stage share their token."""

    def load(self) -> str | None:
        """The text that was saved last, or None when there is none yet."""

    def save(self, text: str) -> None:
        """Replace it. Raises DoesNotFit, and what AWS's client raises."""


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
        """As `TokenStore.load`. What is encrypted with a key that is not ours counts as none: a save replaces it.

        So it is where a stack was deleted and deployed again: the parameter has stayed, the key is another one. That
        the key is at fault, and not our right to read, shows by reading the parameter as it is, encrypted. Source:
        AWS Systems Manager User Guide, "AWS KMS encryption for Parameter Store SecureString parameters".
        """
        client = self._client()
        try:
            return client.get_parameter(Name=self._name, WithDecryption=True)["Parameter"]["Value"]
        except client.exceptions.ParameterNotFound:
            return None
        except client.exceptions.ClientError as error:
            if _aws_code(error) not in _KEY_REFUSED:
                raise
            client.get_parameter(Name=self._name)
            _log.warning(
                "the shared Kiva token cannot be decrypted (%s), so a new one takes its place", _aws_code(error)
            )
            return None

    def save(self, text: str) -> None:
        """As `TokenStore.save`. What does not fit the standard tier makes AWS put it into the advanced one.

        Source: Systems Manager User Guide, "Managing parameter tiers".
        """
        size, client = len(text), self._client()
        if size > LARGEST_PARAMETER:
            raise DoesNotFit(
                f"it takes {size} characters, and an SSM parameter holds {LARGEST_PARAMETER}; "
                "deploy with TokenStore=secrets-manager"
            )
        try:
            client.put_parameter(
                Name=self._name,
                Value=text,
                Type="SecureString",
                KeyId=self._key,
                Overwrite=True,
                Tier="Intelligent-Tiering",
            )
        except client.exceptions.ClientError as error:
            if size <= STANDARD_PARAMETER:
                raise
            raise DoesNotFit(
                f"{_aws_code(error)}; it takes {size} characters, and SSM's standard tier holds {STANDARD_PARAMETER}: "
                "allow the advanced tier (Intelligent-Tiering), or deploy with TokenStore=secrets-manager"
            ) from None


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


FormPost = Callable[[str, Mapping[str, str], float], tuple[int, bytes]]
"""POST a form to a URL and give status and body back, in so many seconds at most; the answer may take half of them.
Raises KivaUnavailable when no answer came."""


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
        self._looked_at = 0.0
        self._refused: str | None = None
        self._failure: tuple[float, NotSent | Misconfigured] | None = None
        self.complaint: Misconfigured | None = None
        """What is wrong with the credentials stored last, when those before them got the current token."""
        self.unshared = ""
        """Why the newest token could not be shared."""

    def get(self, scope: str) -> Token:
        """A token that grants `scope`.

        Raises:
            NotSent: the token service does not answer, and no usable token is left.
            Misconfigured: the credentials are refused, the partner is another one, or the scope is not granted.
        """
        with self._lock:
            if not (self._token and self._token.lasts(ADVISORY_WINDOW, self._clock())):
                self._token = self._shared_or_new(ADVISORY_WINDOW)
            elif scope not in self._token.scopes:
                self._token = self._newer_than(self._token)
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

    def shared(self) -> Token | None:
        """The token that all functions share, however old, without asking Kiva. Raises what AWS's client raises."""
        return self._load()

    def renew_early(self) -> bool:
        """Renew the shared token if it is in its last hour. True when a new one was fetched from Kiva.

        Raises:
            NotSent: the token service does not answer, whether or not the old token still serves.
            Misconfigured: it refuses the credentials, whether or not the old token still serves.
        """
        with self._lock:
            before = self._load()
            if before and before.lasts(EARLY_WINDOW, self._clock()):
                self._token = before
                return False
            self._token = self._shared_or_new(EARLY_WINDOW)
            failure = self._recent_failure()
            if failure and not self._token.lasts(EARLY_WINDOW, self._clock()):
                raise failure
            return before is None or before.value != self._token.value

    def renew(self) -> Token:
        """Fetch a token with what is stored now, needed or not, and share it: to see whether the credentials are right.

        Every scope is asked for, whatever was found before: somebody has had one granted, and looks. Raises as `get`,
        but for the scope; also NotSent while another one is fetching.
        """
        with self._lock:
            stored, _ = self._stored()
            if stored and stored.value != self._refused and self._is_new(stored):
                return stored
            until = self._clock() + LEASE_SECONDS
            if not self._lease.acquire():
                raise TokenBusy("another function is asking for a token right now")
            try:
                self._token = self._fetch(stored, {}, until)
            finally:
                self._lease.release()
            return self._token

    def _newer_than(self, token: Token) -> Token:
        """The shared token if it is newer than this one, which lacks a scope: it may have been granted since."""
        now = self._clock()
        if now - self._looked_at < FORCED_RENEWAL_INTERVAL:
            return token
        self._looked_at = now
        shared = self._load()
        return shared if shared and shared.obtained_at > token.obtained_at else token

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
            until = self._clock() + LEASE_SECONDS
            if self._lease.acquire():
                try:
                    return self._renewed(window, until)
                finally:
                    self._lease.release()
            # Somebody else renews. The old token serves on, except in its last minutes.
            if shared and shared.lasts(MANDATORY_WINDOW, self._clock()):
                return shared
            if self._clock() >= give_up:
                raise TokenBusy("no token: another function is renewing it and has not finished")
            self._sleep(self._jitter(POLL_SECONDS, 2 * POLL_SECONDS))

    def _renewed(self, window: float, until: float) -> Token:
        """The lease is ours: look once more, then ask Kiva. A failure is only a warning while the old token is good."""
        stored, known = self._stored()
        shared = self._unless_refused(stored)
        if shared and shared.lasts(window, self._clock()):
            return shared
        try:
            self._refuse_hasty_renewal(stored)
            return self._fetch(stored, known, until)
        except (NotSent, Misconfigured) as error:
            self._failure = (self._clock(), error)
            if shared and shared.lasts(0, self._clock()):
                _log.warning("could not renew the Kiva token, the old one still serves: %s", error)
                return shared
            raise

    def _share(self, token: Token | None, known: Known) -> None:
        try:
            self._store.save(_to_text(token, known, self._settings))
        except Exception as error:  # noqa: BLE001 a token that cannot be shared still serves this environment
            self.unshared = str(error) if isinstance(error, DoesNotFit) else _aws_code(error)
            _log.warning("could not share the new Kiva token, so each environment asks for its own: %s", self.unshared)
        else:
            self.unshared = ""

    def _recent_failure(self) -> NotSent | Misconfigured | None:
        """The error of an attempt of this minute, for everybody who would make the next one."""
        if self._failure is None:
            return None
        failed_at, error = self._failure
        left = failed_at + FAILED_RENEWAL_INTERVAL - self._clock()
        if left <= 0:
            return None
        if isinstance(error, NotSent):
            return type(error)(str(error), status=error.status, retry_after=left, cause=error.cause)
        return type(error)(str(error))

    def _load(self) -> Token | None:
        """The shared token, if it may be used."""
        stored, _ = self._stored()
        return self._unless_refused(stored)

    def _stored(self) -> tuple[Token | None, Known]:
        """The shared token, unless it is for another stage or partner, and which scopes are known to be granted."""
        return _from_text(self._store.load() or "", self._settings)

    def _unless_refused(self, token: Token | None) -> Token | None:
        return None if token is None or token.value == self._refused else token

    def _refuse_hasty_renewal(self, stored: Token | None) -> None:
        """A refused token that is younger than a minute means that new ones are refused too: stop, and say so."""
        if stored and stored.value == self._refused and self._is_new(stored):
            raise Misconfigured("Kiva refuses a token that it gave out less than a minute ago")

    def _is_new(self, token: Token) -> bool:
        return self._clock() - token.obtained_at < FORCED_RENEWAL_INTERVAL

    def _fetch(self, stored: Token | None, known: Known, until: float) -> Token:
        """A new token, shared with all. `known` is what was found out before, and the lease lasts `until`.

        Ask with each of the credentials until some are not refused. There is no second try after a slow refusal.
        """
        known = _still_known(known, stored, self._clock())
        before, refusal = dict(known), None
        try:
            for credentials in self._credentials():
                if refusal and self._clock() > until - ANSWER_SECONDS:
                    break
                try:
                    token = self._token_for(credentials, known, until)
                except CredentialsRefused as error:
                    refusal = refusal or error
                    continue
                self.complaint = refusal
                self._share(token, known)
                _tell(token)
                return token
            raise refusal or Misconfigured("there are no credentials")
        except NotConfigured:
            if stored:  # a stack that had a token is not a fresh one
                raise Misconfigured(
                    "the credentials secret has lost its value; store it anew (relay credentials)"
                ) from None
            raise
        except (NotSent, Misconfigured):
            # So that the next attempt goes on from here; who holds the lease by then may have shared something newer.
            if known != before and self._clock() < until:
                self._share(stored, known)
            raise

    def _token_for(self, credentials: Credentials, known: Known, until: float) -> Token:
        """A token for all scopes that these credentials have. What is found out about them goes into `known`."""
        grants = known.get(credentials.version)
        if grants is None or grants.is_complete:
            token = self._ask(credentials, grants.granted if grants else (), REQUEST_SECONDS)
            if token:
                if grants and not grants.granted:
                    del known[credentials.version]
                return token
            if grants and not grants.granted:
                raise NoScopeGranted(_NO_SCOPE)
            # Nothing is known yet, or something has been taken away since.
            grants = known[credentials.version] = Grants(self._clock())
        token = None
        for scope in SCOPES:
            if scope not in grants.granted | grants.refused:
                probe = self._probe(credentials, [scope], until)
                granted = probe.scopes if probe else frozenset()
                grants = Grants(grants.asked_at, grants.granted | granted, grants.refused | ({scope} - granted))
                known[credentials.version] = grants
                token = probe or token
        if not grants.granted:
            raise NoScopeGranted(_NO_SCOPE)
        if not token or token.scopes != grants.granted:
            token = self._probe(credentials, grants.granted, until)
        if not token:
            raise CredentialsRefused("Kiva's token service grants each of some scopes, and not all of them together")
        return token

    def _probe(self, credentials: Credentials, scopes: Iterable[str], until: float) -> Token | None:
        """As `_ask`, in what is left of the lease."""
        left = until - self._clock()
        if left < SHORTEST_PROBE_SECONDS:
            raise TokenBusy("there was no time to ask for each scope; the next attempt goes on from what was found")
        return self._ask(credentials, scopes, left)

    def _ask(self, credentials: Credentials, scopes: Iterable[str], seconds: float) -> Token | None:
        """A token for these scopes, all of them if there are none; None when the answer is `invalid_scope`.

        Raises:
            KivaUnavailable: the token service is in trouble.
            CredentialsRefused: it is not.
            UnusableAnswer, AnotherPartner: see `_read_answer`.
        """
        wanted = frozenset(scopes) or frozenset(SCOPES)
        form = {
            "grant_type": "client_credentials",
            "scope": " ".join(scope for scope in SCOPES if scope in wanted),
            "audience": self._settings.audience,
            "client_id": credentials.client_id,
            "client_secret": credentials.client_secret,
        }
        asked_at = self._clock()
        status, body = self._post_form(self._settings.token_url, form, seconds)
        code = _oauth_error(body)
        succeeded = 200 <= status < 300  # noqa: PLR2004
        if succeeded and not code:
            return _read_answer(body, asked_at, wanted, self._settings.partner_id)
        if code in credentials.client_id + credentials.client_secret:  # whatever it is, it is not shown
            code = ""
        said = f"HTTP {status}, {code}" if code else f"HTTP {status}"
        if not succeeded and status not in (400, 401, 403):
            raise KivaUnavailable(f"Kiva's token service answered {said}", status=status)
        if code == "invalid_scope":
            return None
        raise CredentialsRefused(f"Kiva's token service refuses the client id, secret or audience: {said}")


def _still_known(known: Known, stored: Token | None, now: float) -> Known:
    """What need not be asked again, since the next renewal will come before it is a day old."""
    life = min(stored.expires_at - stored.obtained_at, SCOPES_KNOWN_SECONDS / 2) if stored else 0
    return {version: grants for version, grants in known.items() if now + life < grants.asked_at + SCOPES_KNOWN_SECONDS}


def _tell(token: Token) -> None:
    missing = [scope for scope in SCOPES if scope not in token.scopes]
    lives = token.expires_at - token.obtained_at
    _log.info("fetched a Kiva token", extra={"scopes": sorted(token.scopes), "missing": missing, "lives": lives})
    if missing:
        _log.warning("Kiva does not grant %s to these credentials; submissions that need it wait", ", ".join(missing))


def _aws_code(error: Exception) -> str:
    """AWS's own code of an error of its client, else the error's class. Its text may hold what was sent."""
    response = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code") or type(error).__name__)


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object in an answer (2xx) of the token service. Raises KivaUnavailable: it is a page, perhaps."""
    try:
        answer = msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise KivaUnavailable("the answer of Kiva's token service is not JSON", status=200) from None
    if not isinstance(answer, dict):
        raise KivaUnavailable("the answer of Kiva's token service is not a JSON object", status=200)
    return answer


def _oauth_error(body: bytes) -> str:
    """The code of a refusal (RFC 6749 §5.2), where it has the form of one. The description is free text, left alone."""
    try:
        code = _object(body).get("error")
    except NotSent:
        return ""
    return code if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,40}", code) else ""


def _read_answer(body: bytes, asked_at: float, wanted: frozenset[str], partner_id: str) -> Token:
    """The token in an answer (RFC 6749 §5.1, with Kiva's `partnerId`).

    Raises:
        KivaUnavailable: it is no JSON object.
        UnusableAnswer: naming each field that cannot be read, never what is in it.
        AnotherPartner: it is not for `partner_id`.
    """
    answer = _object(body)
    value: Any = answer.get("access_token")
    partner = answer.get("partnerId")
    exp = float("inf")
    wrong = []
    if isinstance(value, str) and _TOKEN_SYNTAX.fullmatch(value):
        exp = _jwt_exp(value)
    else:
        wrong.append("access_token must be 1 to 8192 characters that a header can carry")
    if str(answer.get("token_type")).lower() != "bearer":
        wrong.append("token_type must be bearer")
    life = _seconds(answer.get("expires_in"), exp)
    if life is None or not SHORTEST_LIFE <= life <= LONGEST_LIFE:
        wrong.append(f"expires_in must be a number of seconds from {SHORTEST_LIFE} to {LONGEST_LIFE}")
    scopes = _names(answer.get("scope"), wanted)
    if scopes is None:
        wrong.append("scope must be a text or a list of texts")
    if not isinstance(partner, str | int) or isinstance(partner, bool) or partner == "":
        wrong.append("partnerId must be the id of a partner")
    if wrong or life is None or scopes is None:
        raise UnusableAnswer(f"the answer of Kiva's token service cannot be used: {'; '.join(wrong)}")
    if str(partner) != partner_id:
        raise AnotherPartner("the token is for another partner than KIVA_PARTNER_ID")
    # Counted from before the request: the answer's way back is not ours to use.
    expires_at = min(asked_at + life, exp)
    if expires_at < asked_at + SHORTEST_LIFE:
        raise UnusableAnswer("Kiva's token ends by its exp at once; is this machine's clock right?")
    # What else it grants is never asked for; and these go into the log.
    return Token(value, frozenset(SCOPES) & scopes, asked_at, expires_at)


def _seconds(value: Any, exp: float) -> float | None:
    """A life in seconds, which some write as a text; None where it cannot be read.

    It may be left out (RFC 6749 §5.1) where the token says itself when it ends.
    """
    match value:
        case None if exp < float("inf"):
            return LONGEST_LIFE
        case str() if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
            return float(value)
        case int() | float():  # True is a second, which is too short
            return value
    return None


def _names(value: Any, wanted: frozenset[str]) -> frozenset[str] | None:
    """The names in `scope`; None where it cannot be read. Left out, it is what was asked for (RFC 6749 §5.1)."""
    match value:
        case None:
            return wanted
        case str():
            return frozenset(value.split())
        case list() if all(isinstance(each, str) for each in value):
            return frozenset(value)
    return None


def _jwt_exp(token: str) -> float:
    """`exp` of the JWT, unverified: it may only shorten the token's life. An opaque token has none."""
    import jwt  # noqa: PLC0415 needed twice a day, and costs every cold start 40 ms

    try:
        exp = jwt.decode(token, options={"verify_signature": False}).get("exp")
        return float(exp) if isinstance(exp, int | float) else float("inf")
    except (jwt.InvalidTokenError, OverflowError, RecursionError):
        return float("inf")


def _to_text(token: Token | None, known: Known, settings: Settings) -> str:
    """`known` outlives the token it was found with, so it may be without one."""
    shared = token and {
        "access_token": token.value,
        "scopes": sorted(token.scopes),
        "obtained_at": token.obtained_at,
        "expires_at": token.expires_at,
    }
    return json.dumps({**(shared or {}), "grants": msgspec.to_builtins(known), **_belongs_to(settings)})


def _from_text(text: str, settings: Settings) -> tuple[Token | None, Known]:
    try:
        stored: Any = json.loads(text)
        if {name: stored[name] for name in _belongs_to(settings)} != _belongs_to(settings):
            return None, {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, {}
    return _token_of(stored), _grants_of(stored)


def _token_of(stored: Mapping[str, Any]) -> Token | None:
    try:
        if not _TOKEN_SYNTAX.fullmatch(stored["access_token"]):  # whoever wrote it, it must not become a second header
            return None
        return Token(
            stored["access_token"],
            frozenset(stored["scopes"]),
            float(stored["obtained_at"]),
            float(stored["expires_at"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _grants_of(stored: Mapping[str, Any]) -> Known:
    try:
        return msgspec.convert(stored["grants"], Known)
    except (KeyError, msgspec.ValidationError):
        return {}


def _belongs_to(settings: Settings) -> dict[str, str]:
    return {
        "environment": settings.environment,
        "partner_id": settings.partner_id,
        "token_url": settings.token_url,
        "audience": settings.audience,
    }
