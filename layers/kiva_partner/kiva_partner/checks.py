"""Whether this stack can be used as it is configured, from end to end: what is right, and the mend of what is not.

It asks Kiva for a new token, for an old one says nothing about credentials that were stored since. Kiva's own trouble
is told from a wrong address, for which alone there is something to change.
"""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from .client import KivaSession
from .errors import Misconfigured, NotConfigured, NotSent
from .settings import Settings
from .tokens import SCOPES, AnotherPartner, NoScopeGranted, TokenBusy, TokenProvider, UnusableAnswer

_WAIT = "wait: the trouble is Kiva's, and nothing is to be changed here; ask Kiva whether there is an outage"
_SOON = "try again in a minute"
_ADDRESS = "the address is wrong, or Kiva has moved: see the parameter {}"
_STORE = "look at PA2 > Account > API Access, and store client id and secret anew (relay credentials)"
_FIRST = "take client id and secret from PA2 > Account > API Access, and store them (relay credentials)"
_PARTNER = "deploy with the KivaPartnerId of these credentials, or store those of this partner"
_SCOPE = "ask your coordinator at Kiva to grant it to these credentials, and then check again"
_ANSWER = "the credentials are not at fault: see the parameter KivaTokenUrl, and ask Kiva what has changed"
_SHARED = "until then each environment asks Kiva for a token of its own"
_AUDIENCE = "see the parameters KivaAudience and KivaApiBaseUrl"

_NOWHERE = frozenset({"NameResolutionError", "SSLError", "SSLCertVerificationError", "CertificateError", "gaierror"})
"""Why there was no connection, where that says that it led to somebody else: no such name, or no such certificate."""

_BUSY = frozenset({408, 425, 429})


class Check(Struct, frozen=True):
    """One thing that was looked at. `mend` says what to do where it is not right; empty where it is."""

    name: str
    detail: str
    mend: str = ""

    def shown(self) -> dict[str, Any]:
        """For a client."""
        mend = {"mend": self.mend} if self.mend else {}
        return {"name": self.name, "ok": not self.mend, "detail": self.detail, **mend}


def checks_of(settings: Settings, tokens: TokenProvider, kiva: KivaSession) -> Iterator[Check]:
    """Token, credentials, partner, scopes, and whether the API takes all that. Ends where nothing more can be told."""
    try:
        token = tokens.renew()
    except NotSent as error:
        yield Check("token", str(error), mend_of(error, "KivaTokenUrl"))
        return
    except AnotherPartner as error:
        yield Check("token", f"from {settings.token_url}")
        yield Check("partner", f"{error}, which is {settings.partner_id}", _PARTNER)
        return
    except Misconfigured as error:
        mends = {NotConfigured: _FIRST, NoScopeGranted: _SCOPE, UnusableAnswer: _ANSWER}
        yield Check("token", str(error), mends.get(type(error), _STORE))
        return
    yield Check("token", f"from {settings.token_url}")
    if tokens.unshared:
        yield Check("token store", f"the token cannot be shared: {tokens.unshared}", _SHARED)
    if tokens.complaint:
        yield Check("credentials", "those stored last are refused, those before them still serve", _STORE)
    yield Check("partner", settings.partner_id)
    for scope in SCOPES:
        if scope in token.scopes:
            yield Check(f"scope {scope}", "granted")
        else:
            yield Check(f"scope {scope}", "not granted", _SCOPE)
    yield _config(settings, kiva, may_read="read:loans" in token.scopes)


def _config(settings: Settings, kiva: KivaSession, *, may_read: bool) -> Check:
    """Whether Kiva's API takes the token for a harmless read."""
    try:
        themes = kiva.config("themes")["themes"]
    except NotSent as error:
        return Check("config", str(error), mend_of(error, "KivaApiBaseUrl"))
    except Misconfigured as error:
        return Check("config", str(error), _AUDIENCE if may_read else _SCOPE)
    return Check("config", f"{settings.api_base_url} answers with {len(themes)} themes")


def mend_of(error: NotSent, parameter: str) -> str:
    """What to do about an address that gave no good answer; `parameter` is the one that holds it.

    No answer, 5xx and "not now" are Kiva's trouble. What is not found there, or is no JSON, is not Kiva's API; neither
    is what has another name or certificate.
    """
    if isinstance(error, TokenBusy):
        return _SOON
    is_kivas_trouble = error.status is None or error.status in _BUSY or error.status >= 500  # noqa: PLR2004
    return _WAIT if is_kivas_trouble and error.cause not in _NOWHERE else _ADDRESS.format(parameter)
