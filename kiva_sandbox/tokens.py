"""Kiva's authorisation server: client credentials in, an RS256 JWT out; and the check of that JWT at the API."""

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from secrets import token_urlsafe
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from kiva_sandbox.data import SCOPES, Partner
from kiva_sandbox.switches import DEFAULTS, Switches

AUDIENCES = ("https://partner-api-stage.dk1.kiva.org", "https://partner-api-stage.kiva.org")
"""Both staging audiences that Kiva has published. They are compared as strings and are not the API's address."""
ISSUER = "https://auth-stage.dk1.kiva.org/"
LIFETIME_SECONDS = 43_199
_KEY_ID = "sbx9001k"
_GENERATIONS: dict[int, tuple[tuple[str, ...], Callable[[], str]]] = {
    2026: (
        ("access_token", "scope", "iss", "partnerId", "token_type", "expires_in", "jti"),
        lambda: str(uuid4()),
    ),
    2025: (
        ("access_token", "token_type", "expires_in", "scope", "iss", "partnerId", "jti"),
        lambda: token_urlsafe(20),
    ),
}
"""By the year since which, or until which, Kiva has answered so: the keys in their order, and a new `jti`."""


class OAuthError(Exception):
    """A refusal in OAuth's own form, with the HTTP status it travels under."""

    def __init__(self, status: int, error: str, description: str, **more: str) -> None:
        super().__init__(description)
        self.status = status
        self.body = {"error": error, "error_description": description, **more}


def expired(status: int) -> OAuthError:
    """The refusal of a token that is too old."""
    return OAuthError(status, "invalid_token", "Access token expired")


@dataclass(frozen=True)
class Grant:
    """What a valid token allows: the partner it was issued to and the scopes it carries."""

    partner_id: str
    scopes: frozenset[str]


def new_signing_key() -> RSAPrivateKey:
    """A fresh RSA-2048 key. No two runs of the sandbox trust each other's tokens."""
    return generate_private_key(public_exponent=65_537, key_size=2_048)


class Tokens:
    """Issues and checks the tokens of one partner."""

    def __init__(self, partner: Partner, key: RSAPrivateKey, now: Callable[[], datetime]) -> None:
        self._partner = partner
        self._key = key
        self._now = now

    def issue(self, form: Mapping[str, str], switches: Switches = DEFAULTS) -> dict[str, str | int]:
        """The answer to a token request with these form fields, in the key order and with the `jti` of that year.

        Raises OAuthError for wrong credentials, another grant type, an unknown audience, or no scope left to grant;
        where a switch says so, also for some scopes that are not granted.
        """
        if not self._knows(form.get("client_id", ""), form.get("client_secret", "")):
            raise OAuthError(401, "invalid_client", "Bad client credentials")
        if form.get("grant_type") != "client_credentials":
            raise OAuthError(400, "unsupported_grant_type", "Unsupported grant type")
        audience = form.get("audience", "")
        if audience not in AUDIENCES:
            raise OAuthError(400, "invalid_request", "Unknown audience")
        wanted = form.get("scope", "").split()
        scopes = self._granted(wanted)
        if not scopes and switches.empty_scope >= HTTPStatus.BAD_REQUEST:
            raise OAuthError(400, "invalid_scope", "None of the requested scopes is authorised for this client")
        if scopes and switches.partial_scope >= HTTPStatus.BAD_REQUEST and not set(wanted) <= set(scopes):
            raise OAuthError(400, "invalid_scope", "Some of the requested scopes are not authorised for this client")
        keys, new_id = _GENERATIONS[switches.token_answer]
        jti = new_id()
        claims = {
            "aud": [audience],
            "scope": sorted(scopes),
            "iss": ISSUER,
            "partnerId": self._partner.id,
            "exp": int(self._now().timestamp()) + LIFETIME_SECONDS,
            "jti": jti,
            "client_id": self._partner.client_id,
        }
        answer: dict[str, str | int] = {
            "access_token": jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": _KEY_ID}),
            "scope": " ".join(scopes),
            "iss": ISSUER,
            "partnerId": self._partner.id,
            "token_type": "bearer",
            "expires_in": LIFETIME_SECONDS,
            "jti": jti,
        }
        return {key: answer[key] for key in keys}

    def check(self, authorization: str, refused: int = 401) -> Grant:
        """What the bearer of this `Authorization` header may do.

        Raises:
            OAuthError: it is no valid token; with the status `refused`.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise OAuthError(refused, "invalid_token", "Access token missing")
        try:
            claims = jwt.decode(
                token.strip(),
                self._key.public_key(),
                algorithms=["RS256"],
                audience=AUDIENCES,
                issuer=ISSUER,
                options={"verify_exp": False, "require": ["exp"]},  # expiry is ours to judge: by the clock passed in
            )
        except jwt.InvalidTokenError:
            raise OAuthError(refused, "invalid_token", "Access token invalid") from None
        if claims["exp"] <= self._now().timestamp():
            raise expired(refused)
        return Grant(claims["partnerId"], frozenset(claims["scope"]))

    def _knows(self, client_id: str, client_secret: str) -> bool:
        given = f"{client_id}\n{client_secret}".encode("utf-8", "replace")
        return hmac.compare_digest(given, f"{self._partner.client_id}\n{self._partner.client_secret}".encode())

    def _granted(self, requested: Sequence[str]) -> list[str]:
        """What was asked for and is authorised; backwards, since Kiva does not keep the order of the request either."""
        wanted = dict.fromkeys(requested or SCOPES)
        return [scope for scope in reversed(wanted) if scope in self._partner.scopes]
