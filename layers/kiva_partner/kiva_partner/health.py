"""How the stack stands right now, for an operator's first minute. Kiva is not asked, and every read is bounded."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from .decisions import call_id, decidable_at
from .errors import where
from .ledger import WAITING, Ledger, Row, State
from .messages import Kind
from .runs import Name, Runs
from .sending import Sending
from .settings import Settings
from .tokens import SCOPES, TokenProvider

MOST_COUNTED = 500
"""Rows of a kind and state that are read, those first whose last change is the longest ago."""

LATELY_SECONDS = 3600
"""For which what Kiva refused is counted: who looks now wants to know what goes wrong now."""


class Health(Struct, frozen=True):
    """What an operator looks at first. `clock` gives epoch seconds."""

    settings: Settings
    ledger: Ledger
    tokens: TokenProvider
    sending: Sending
    runs: Runs
    clock: Callable[[], float]

    def shown(self) -> dict[str, Any]:
        """For a client: what does not exist (no token, no open circuit, nothing UNKNOWN) is left out. Times are UTC."""
        standing = self.sending.standing()
        return {
            "at": _time(self.clock()),
            "environment": self.settings.environment,
            "partner_id": self.settings.partner_id,
            "token": self._token(),
            **{name: self._run(name) for name in ("housekeeping", "digest")},
            "restored": standing.restored,
            "kinds": [standing.of(kind) | dict(self._states(kind)) for kind in Kind],
        }

    def _token(self) -> dict[str, Any]:
        """The token that all functions share. Never the token itself."""
        try:
            token = self.tokens.shared()
        except Exception as error:  # noqa: BLE001 the rest is worth showing all the more
            return {"problem": f"the shared token cannot be read: {where(error)}"}
        if token is None:
            return {}
        missing = [scope for scope in SCOPES if scope not in token.scopes]
        return {"expires_at": _time(token.expires_at), **({"scopes_missing": missing} if missing else {})}

    def _run(self, name: Name) -> dict[str, Any]:
        run = self.runs.last(name)
        return {"ended_at": run.ended_at, "result": run.result} if run else {}

    def _states(self, kind: Kind) -> Iterator[tuple[str, dict[str, Any]]]:
        for state in (*WAITING, State.STUCK, State.UNKNOWN):
            page = self.ledger.list_by_state(kind, state, oldest_first=True, limit=MOST_COUNTED)
            if rows := page.rows:
                more = {"more": True} if page.cursor else {}
                yield state.lower(), {"submissions": len(rows), **more, **_described(state, rows)}
        latest = self.ledger.list_by_state(kind, State.REJECTED, limit=MOST_COUNTED).rows
        if refused := [row for row in latest if row.updated_at > _time(self.clock() - LATELY_SECONDS)]:
            yield "refused", {"submissions": len(refused), "since": refused[-1].updated_at}


def _described(state: State, rows: list[Row]) -> dict[str, Any]:
    """Since when they wait; of what is to be retried why, and of what is UNKNOWN when it can be decided."""
    if state is State.UNKNOWN:
        calls: dict[str, float] = {}
        for row in rows:
            name = call_id(row) or row.reference
            calls[name] = max(calls.get(name, 0), decidable_at(row))
        return {"calls": len(calls), "since": rows[0].updated_at, "decidable_at": _time(min(calls.values()))}
    described = {"since": min(row.created_at for row in rows)}
    if state is State.RETRY and (last := rows[-1].outcome):
        described["reason"] = last.reason
    return described


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
