"""The environment of a function, read once into a frozen object that names everything missing or contradictory."""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from urllib.parse import urlsplit

from msgspec import Struct

from .errors import Misconfigured

KINDS = ("loan_draft", "journal_update", "repayment")
OUTCOMES = "outcomes"
"""What has dead letters and is no kind: the function behind the ledger's stream."""


class AmountMode(StrEnum):
    """What a repayment's `amount` means for this partner; agreed with Kiva's coordinator before going live."""

    CUMULATIVE_PRINCIPAL = "cumulative_principal"
    PRINCIPAL_OUTSTANDING = "principal_outstanding"
    INSTALMENT = "instalment"


class UnknownPolicy(StrEnum):
    """What happens by itself with a submission of which nobody knows whether Kiva has it."""

    HOLD = "hold"
    """Nothing: it waits for proof or for a person's decision."""
    RESEND = "resend"
    """It is sent again after the settling time, and may be at Kiva twice."""


class PartnerRules(Struct, frozen=True):
    """What Kiva and the partner agreed on, as far as it decides whether a message is valid.

    `needs_client_id` is PA2's three-column CSV format (PA2 > Account > Profile); `max_image_bytes` counts the
    photo's own bytes, not its base64.
    """

    needs_client_id: bool
    amount_mode: AmountMode
    max_image_bytes: int


class Settings(Struct, frozen=True):
    """Everything that differs between stages and partners. Times in seconds, sizes in bytes, no trailing slashes."""

    environment: str
    token_url: str
    audience: str
    api_base_url: str
    partner_id: str
    credentials_secret: str
    token_store: str
    token_store_name: str
    encryption_key: str
    ledger_table: str
    payload_bucket: str
    connect_timeout: float
    read_timeout: float
    repayments_per_call: int
    journals_per_call: int
    parallel_calls: int
    rules: PartnerRules
    strict_drafts: bool
    queue_url: str
    dead_letter_queue_url: str
    unknown_policies: Mapping[str, UnknownPolicy]
    queue_urls: Mapping[str, str]
    dead_letter_queue_urls: Mapping[str, str]
    event_bus: str
    digest_topic: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the variables that `template.yaml` sets.

        Raises:
            Misconfigured: naming every variable that is missing, malformed or contradicts another one.
        """
        reader = _Reader(environment)
        settings = cls(
            environment=reader.one_of("KIVA_ENVIRONMENT", "stage", "production", "sandbox"),
            token_url=reader.url("KIVA_TOKEN_URL"),
            audience=reader.url("KIVA_AUDIENCE"),
            api_base_url=reader.url("KIVA_API_BASE_URL"),
            # [0-9] and not \d: other scripts' digits must not reach a URL path.
            partner_id=reader.text("KIVA_PARTNER_ID", r"[0-9]{1,10}"),
            credentials_secret=reader.text("KIVA_CREDENTIALS_SECRET"),
            token_store=reader.one_of("TOKEN_STORE", "secrets-manager", "ssm"),
            token_store_name=reader.text("TOKEN_STORE_NAME"),
            encryption_key=reader.text("ENCRYPTION_KEY"),
            ledger_table=reader.text("LEDGER_TABLE"),
            payload_bucket=reader.text("PAYLOAD_BUCKET"),
            connect_timeout=reader.number("KIVA_CONNECT_TIMEOUT_SECONDS"),
            read_timeout=reader.number("KIVA_READ_TIMEOUT_SECONDS"),
            repayments_per_call=reader.number("REPAYMENTS_PER_CALL"),
            journals_per_call=reader.number("JOURNALS_PER_CALL"),
            parallel_calls=reader.number("PARALLEL_CALLS"),
            rules=PartnerRules(
                needs_client_id=reader.one_of("CSV_COLUMNS", "2", "3") == "3",
                amount_mode=AmountMode(reader.one_of("REPAYMENT_AMOUNT_MODE", *AmountMode)),
                max_image_bytes=reader.number("MAX_IMAGE_BYTES"),
            ),
            # Only the function that submits drafts has it.
            strict_drafts="STRICT_DRAFTS" in environment and reader.one_of("STRICT_DRAFTS", "no", "yes") == "yes",
            # Only the functions that stand behind a queue have these two, and the one behind the stream the second.
            queue_url=environment.get("QUEUE_URL", ""),
            dead_letter_queue_url=environment.get("DEAD_LETTER_QUEUE_URL", ""),
            # Only housekeeping has these, for each kind; of the dead letters also for the function behind the stream.
            unknown_policies={kind: reader.policy(f"{kind.upper()}_UNKNOWN_POLICY") for kind in KINDS},
            queue_urls={kind: environment.get(f"{kind.upper()}_QUEUE_URL", "") for kind in KINDS},
            dead_letter_queue_urls={
                name: environment.get(f"{name.upper()}_DEAD_LETTER_QUEUE_URL", "") for name in (*KINDS, OUTCOMES)
            },
            # Only the function behind the stream has these; the second is empty where nobody wants the digest by mail.
            event_bus=environment.get("EVENT_BUS", ""),
            digest_topic=environment.get("DIGEST_TOPIC", ""),
        )
        mistakes = reader.mistakes or list(_contradictions(settings, environment))
        if mistakes:
            raise Misconfigured("settings: " + "; ".join(mistakes))
        return settings

    @property
    def ledger_scope(self) -> str:
        """What keeps the rows of two stages or two partners apart, should they ever share a table."""
        return f"{self.environment}#{self.partner_id}"


class _Reader:
    """Collects every mistake instead of stopping at the first, so that one deployment shows them all."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.mistakes: list[str] = []

    def text(self, name: str, pattern: str = ".+") -> str:
        value = self._environment.get(name, "")
        if not value:
            self.mistakes.append(f"{name} is missing")
        elif not re.fullmatch(pattern, value):
            self.mistakes.append(f"{name} must match {pattern}")
        return value

    def one_of(self, name: str, *allowed: str) -> str:
        value = self.text(name)
        if value and value not in allowed:
            self.mistakes.append(f"{name} must be one of {', '.join(allowed)}")
        return value if value in allowed else allowed[0]

    def policy(self, name: str) -> UnknownPolicy:
        return UnknownPolicy(self.one_of(name, *UnknownPolicy) if name in self._environment else UnknownPolicy.HOLD)

    def number(self, name: str) -> int:
        value = self.text(name, r"[1-9][0-9]{0,8}")
        return int(value) if re.fullmatch(r"[1-9][0-9]{0,8}", value) else 0

    def url(self, name: str) -> str:
        return self.text(name, r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?").rstrip("/")


def _contradictions(settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    """Two settings that cannot both be meant. Kiva wants production used only after its confirmation."""
    stage = f"KIVA_ENVIRONMENT is {settings.environment}"
    if settings.environment == "production" and environment.get("KIVA_PRODUCTION_CONFIRMED") != "yes":
        yield f"{stage} but KIVA_PRODUCTION_CONFIRMED is not yes"
    resend = settings.unknown_policies["repayment"] is UnknownPolicy.RESEND
    if resend and settings.rules.amount_mode is AmountMode.INSTALMENT:
        # A cumulative amount reported twice is still the same amount; an instalment reported twice is two.
        yield "REPAYMENT_UNKNOWN_POLICY is resend but REPAYMENT_AMOUNT_MODE is instalment"
    for name in ("token_url", "audience", "api_base_url"):
        for what in _misplaced(settings, name):
            yield f"KIVA_{name.upper()} {what} but {stage}"
    for name in sorted(environment):
        if name.startswith("AWS_ENDPOINT_URL") and environment[name] and settings.environment != "sandbox":
            yield f"{name} leads to an imitation of AWS but {stage}"


def _misplaced(settings: Settings, name: str) -> Iterator[str]:
    """What is wrong with a URL for this stage.

    Every host that Kiva has published is below kiva.org, and its test hosts alone have `stag` in their names.
    """
    url, sandbox = urlsplit(getattr(settings, name)), settings.environment == "sandbox"
    host = (url.hostname or "").rstrip(".")  # DNS knows the same host with a dot behind it
    if f".{host}".endswith(".kiva.org"):
        kivas = "test" if "stag" in host else "production"
        ours = "production" if settings.environment == "production" else "test"
        # An audience is only a name, and the sandbox expects the one that Kiva's test environment does.
        if kivas != ours or (sandbox and name != "audience"):
            yield f"is a {kivas} host of Kiva"
    elif not sandbox:
        yield "is no host of Kiva"
    if not sandbox and url.scheme != "https":
        yield "is not https"
