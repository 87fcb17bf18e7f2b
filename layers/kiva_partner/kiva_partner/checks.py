"""Whether this stack can be used as it is configured, from end to end: what is right, and the mend of what is not.

It asks Kiva for a new token, for an old one says nothing about credentials that were stored since.
"""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from .client import KivaSession
from .errors import Misconfigured, NotConfigured, NotSent
from .settings import Settings
from .tokens import SCOPES, AnotherPartner, NoScopeGranted, TokenProvider, UnusableAnswer

_LATER = "try again in a minute; if Kiva has moved, see the parameter KivaTokenUrl"
_STORE = "look at PA2 > Account > API Access, and store client id and secret anew (relay credentials)"
_FIRST = "take client id and secret from PA2 > Account > API Access, and store them (relay credentials)"
_PARTNER = "deploy with the KivaPartnerId of these credentials, or store those of this partner"
_SCOPE = "ask your coordinator at Kiva to grant it to these credentials, and then check again"
_ANSWER = "the credentials are not at fault: see the parameter KivaTokenUrl, and ask Kiva what has changed"
_SHARED = "until then each environment asks Kiva for a token of its own"
_API = "see the parameters KivaApiBaseUrl and KivaAudience"


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
        yield Check("token", str(error), _LATER)
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
    try:
        themes = kiva.config("themes")["themes"]
    except (NotSent, Misconfigured) as error:
        yield Check("config", str(error), _API if "read:loans" in token.scopes else _SCOPE)
    else:
        yield Check("config", f"{settings.api_base_url} answers with {len(themes)} themes")
