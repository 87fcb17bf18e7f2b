"""May this kind be sent at the moment? What people said of it, and whether the ledger still knows what was sent.

One item of the ledger table, for environments know nothing of each other. Three hands write it, each its own
attributes and under a condition, so that none overwrites what another said: the circuit breaker (breaker.py), people
who pause and resume, and whoever confirms the table.

A table that was restored from a backup is another table with another id, and lacks what was sent since the backup: it
would license those submissions again. So the item remembers the id of the table that sending was confirmed for.
Source: Amazon DynamoDB API Reference, "TableDescription", TableId and RestoreSummary; Developer Guide, "Restoring a
DynamoDB table from a backup": a backup is always restored to a new table.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from .dynamodb import plain, typed
from .errors import InvalidMessage, NotSent, Violation
from .messages import Kind, Line, Strict, checked
from .strict_json import decode

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LONGEST_PAUSE = 3600
"""Seconds that a message waits at the most before it is looked at again: an open circuit, and whoever is paused."""

RECENT_SECONDS = 10
"""For which an invocation goes by what it has read. So long after a pause a new wave may begin."""

DESCRIBED_SECONDS = 60
"""For which an environment goes by the table's description. A restore under the same name takes longer: the table is
deleted, created and filled, and until it is active no claim can be written."""


_RESTORED = "the ledger was restored from a backup, and nobody has confirmed yet what was sent since then"


class Word(Struct, frozen=True):
    """What somebody said: who (an ARN), why, and when (UTC, ISO 8601)."""

    by: str
    reason: str
    at: str


class Circuit(Struct, frozen=True):
    """The breaker of one kind: doubts in a row, openings so far, and until when (epoch seconds) while it is open."""

    doubts: int = 0
    openings: int = 0
    open_until: float | None = None


class Standing(Struct, frozen=True):
    """How it stands with sending: what is paused and by whom, what a circuit holds up until when (epoch seconds).

    `resumed` is who ended the last pause of a kind, `restored` that the table was restored and nobody has confirmed it.
    """

    paused: Mapping[Kind, Word]
    resumed: Mapping[Kind, Word]
    open_until: Mapping[Kind, float]
    restored: bool

    def of(self, kind: Kind) -> dict[str, Any]:
        """One kind for a client, with what keeps it from being sent, if anything does."""
        told: dict[str, Any] = {"kind": kind}
        if word := self.paused.get(kind):
            told["paused"] = msgspec.to_builtins(word)
        elif word := self.resumed.get(kind):
            told["resumed"] = msgspec.to_builtins(word)
        if until := self.open_until.get(kind):
            told["open_until"] = _iso(until)
        return told

    def shown(self) -> dict[str, Any]:
        """All of it for a client."""
        kinds = [self.of(kind) for kind in Kind]
        says = dict.fromkeys(said for kind in Kind if (said := self._says(kind)))
        return {"restored": self.restored, "says": list(says), "kinds": kinds}

    def keeps(self, kind: Kind) -> str:
        """What keeps a kind from being sent, for a person to read; empty when nothing does. Nobody is named."""
        if self.restored:
            return _RESTORED
        if word := self.paused.get(kind):
            return _paused(kind, word)
        if until := self.open_until.get(kind):
            return f"the circuit of {_noun(kind)} is open until {_minute(_iso(until))}: Kiva's responses were ambiguous"
        return ""

    def _says(self, kind: Kind) -> str:
        """As `keeps`, with who said so and why."""
        word = None if self.restored else self.paused.get(kind)
        return f"{self.keeps(kind)} by {word.by}: {word.reason}" if word else self.keeps(kind)


class Pause(Strict, frozen=True, kw_only=True):
    """The body of `POST /pause`. Without a kind it is for all of them."""

    reason: Line
    kind: Kind | UnsetType = UNSET

    @property
    def kinds(self) -> list[Kind]:
        """Those that it is for."""
        return list(Kind) if self.kind is UNSET else [self.kind]


class Resume(Pause, frozen=True, kw_only=True):
    """The body of `POST /resume`. `restored` confirms that what was sent since the backup was judged, and only that."""

    restored: bool = False


def parse_pause(body: str) -> Pause:
    """Read a pause. Raises InvalidMessage."""
    return checked(decode(body), Pause)


def parse_resume(body: str) -> Resume:
    """Read what ends a pause or confirms a restored table. Raises InvalidMessage."""
    resume = checked(decode(body), Resume)
    if resume.restored and resume.kind is not UNSET:
        raise InvalidMessage(Violation("$.kind", "does not go with restored, which is for the whole ledger"))
    return resume


class _Item(Struct, frozen=True):
    """The item as it was read."""

    circuits: Mapping[Kind, Circuit]
    version: int
    paused: Mapping[Kind, Word]
    resumed: Mapping[Kind, Word]
    table_id: str


class _Table(Struct, frozen=True):
    """The table itself: its id, and whether it was restored from a backup."""

    id: str
    is_restored: bool


class Sending:
    """The item of a stage. `scope` (environment and partner) is part of its key."""

    def __init__(
        self,
        client: Callable[[], "DynamoDBClient"],
        table: str,
        scope: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._table = table
        self._key = {"pk": {"S": f"{scope}#sending"}}
        self._clock = clock
        self._read: tuple[float, _Item] | None = None
        self._described: tuple[float, _Table] | None = None

    def check(self, kind: Kind, *, within: float = 0) -> None:
        """Ask before claiming. `within` (seconds) is how old the answer may be. A fresh table is confirmed by this.

        Raises:
            NotSent: nobody has confirmed a restored table, or the kind is paused; with the longest wait there is.
        """
        item = self.read(within=within)
        if item.table_id != self._describe().id and not self._confirm_fresh(item):
            raise NotSent(_RESTORED, retry_after=LONGEST_PAUSE)
        if word := item.paused.get(kind):
            raise NotSent(_paused(kind, word), retry_after=LONGEST_PAUSE)

    def standing(self) -> Standing:
        """How it stands as of now, for whoever wants to know. Writes nothing."""
        item, table, now = self.read(), self._describe(), self._clock()
        # Not for ever: what waits is retried within the hour. Where nobody has tried by then, nothing is to be sent.
        open_until = {
            kind: it.open_until
            for kind, it in item.circuits.items()
            if it.open_until and it.open_until + LONGEST_PAUSE > now
        }
        restored = item.table_id != table.id if item.table_id else table.is_restored
        return Standing(item.paused, item.resumed, open_until, restored)

    def pause(self, kinds: Iterable[Kind], by: str, reason: str) -> list[Kind]:
        """Have these kinds not be sent until somebody resumes them; gives those that were not paused before."""
        return [kind for kind in kinds if self._say(kind, "paused", "resumed", by, reason)]

    def resume(self, kinds: Iterable[Kind], by: str, reason: str) -> list[Kind]:
        """End the pause of these kinds; gives those that were paused."""
        return [kind for kind in kinds if self._say(kind, "resumed", "paused", by, reason)]

    def _say(self, kind: Kind, said: str, ended: str, by: str, reason: str) -> bool:
        """Put one word in the place of the other; whoever said the same before keeps it."""
        exists = "attribute_not_exists" if said == "paused" else "attribute_exists"
        return self._update(
            {f"{said}_{kind}": self._word(by, reason)}, f"{exists}(paused_{kind})", remove=f"{ended}_{kind}"
        )

    def confirm(self, by: str, reason: str) -> bool:
        """A person's word that what was sent since the backup was judged: this table may license sending. Idempotent.

        Tells whether the table was one that waited for this word.
        """
        self._described = None
        table, before = self._describe(), self.read().table_id
        if before == table.id or not (before or table.is_restored):
            return False
        self._update({"table_id": table.id, "confirmed": self._word(by, reason)})
        return True

    def _confirm_fresh(self, item: _Item) -> bool:
        """A table that is no restored one, and that nobody has confirmed before, has lost nothing."""
        table = self._describe()
        if not item.table_id and not table.is_restored:
            self._update({"table_id": table.id}, "attribute_not_exists(table_id)")
            return self.read().table_id == table.id  # several environments may have confirmed it at once
        return False

    # --- the item -----------------------------------------------------------------------------------------------------

    def read(self, *, within: float = 0) -> _Item:
        """The item, as it was read at most `within` seconds ago."""
        now = self._clock()
        if self._read and self._read[0] + within > now:
            return self._read[1]
        answer = self._client().get_item(TableName=self._table, Key=self._key, ConsistentRead=True)
        item = _item(plain(answer.get("Item", {})))
        self._read = now, item
        return item

    def write_circuits(self, circuits: Mapping[Kind, Circuit], version: int) -> bool:
        """Replace what the breaker knows, if it is still the version that was read."""
        return self._update(
            {"circuits": msgspec.json.encode(circuits).decode(), "version": version + 1},
            "attribute_not_exists(version) OR version = :read",
            {":read": version},
        )

    def _update(
        self, sets: Mapping[str, Any], condition: str = "", values: Mapping[str, Any] | None = None, *, remove: str = ""
    ) -> bool:
        """Set attributes of the item, and remove one; False when the condition does not hold."""
        client = self._client()
        self._read = None
        values = {f":{name}": value for name, value in sets.items()} | dict(values or {})
        expression = "SET " + ", ".join(f"{name} = :{name}" for name in sets)
        only_if: dict[str, Any] = {"ConditionExpression": condition} if condition else {}
        try:
            client.update_item(
                TableName=self._table,
                Key=self._key,
                UpdateExpression=f"{expression} REMOVE {remove}" if remove else expression,
                ExpressionAttributeValues={name: typed(value) for name, value in values.items()},
                **only_if,
            )
        except client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def _word(self, by: str, reason: str) -> dict[str, str]:
        return {"by": by, "reason": reason, "at": _iso(self._clock())}

    def _describe(self) -> _Table:
        now = self._clock()
        if self._described and self._described[0] + DESCRIBED_SECONDS > now:
            return self._described[1]
        told = self._client().describe_table(TableName=self._table)["Table"]
        table = _Table(told["TableId"], "RestoreSummary" in told)
        self._described = now, table
        return table


def _item(item: Mapping[str, Any]) -> _Item:
    circuits = msgspec.json.decode(item["circuits"], type=dict[Kind, Circuit]) if "circuits" in item else {}
    paused, resumed = (
        {kind: Word(**item[name]) for kind in Kind if (name := f"{said}_{kind}") in item}
        for said in ("paused", "resumed")
    )
    return _Item(
        circuits={kind: circuits.get(kind, Circuit()) for kind in Kind},
        version=int(item.get("version", 0)),
        paused=paused,
        resumed=resumed,
        table_id=item.get("table_id", ""),
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _minute(at: str) -> str:
    return f"{at[:16].replace('T', ' ')} UTC"


def _noun(kind: Kind) -> str:
    return f"{kind.replace('_', ' ')}s"


def _paused(kind: Kind, word: Word) -> str:
    return f"{_noun(kind)} are paused since {_minute(word.at)}"
