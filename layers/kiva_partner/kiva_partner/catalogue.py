"""What drafts may choose from: Kiva's lists for this partner, as one row of the ledger table.

Housekeeping fetches them every hour and everybody else reads the row, so that no submission waits for them. They only
serve to warn: without them, or with old ones, drafts go their way.
Source: Kiva partner portal, "Configuration" (`config/activities`, `locales`, `themes`, `locations`).
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from .errors import where

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TRUSTED_SECONDS = 86_400
"""Older lists would warn of what has been added in PA2 since."""

REMEMBERED_SECONDS = 600
"""For which an execution environment does not look again, whether it found some or not."""

MOST_BYTES = 350_000
"""DynamoDB takes 400 kB a row. A longer list of locations is left out, and then no location is unknown."""

_log = logging.getLogger(__name__)


class Catalogue(Struct, frozen=True):
    """Kiva's lists, as far as a draft chooses from them. An empty list is not known. `fetched_at` in epoch seconds."""

    activities: frozenset[int]
    themes: frozenset[int]
    languages: frozenset[int]
    currencies: frozenset[str]
    locations: frozenset[str]
    fetched_at: float

    @classmethod
    def of(cls, config: Callable[[str], Mapping[str, Any]], now: float) -> "Catalogue":
        """Kiva's lists now; `config` gives one of them by its name, and its errors come through."""
        locales, locations = config("locales")["locales"], config("locations")["locations"]
        return cls(
            activities=_values(config("activities")["activities"], "activity_id", int),
            themes=_values(config("themes")["themes"], "theme_type_id", int),
            languages=_values(locales, "language_id", int),
            currencies=_values(locales, "currency", str),
            locations=_values(locations, "full_name", str),
            fetched_at=now,
        )


def _values[Value: int | str](rows: list[Any], name: str, kind: type[Value]) -> frozenset[Value]:
    found = (row.get(name) for row in rows if isinstance(row, dict))
    return frozenset(value for value in found if isinstance(value, kind))


class Catalogues:
    """The row, and what was read of it lately."""

    def __init__(
        self,
        client: "Callable[[], DynamoDBClient]",
        table: str,
        scope: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._table = table
        self._key = {"pk": {"S": f"{scope}#catalogue"}}
        self._clock = clock
        self._looked_at = 0.0
        self._found: Catalogue | None = None

    def current(self) -> Catalogue | None:
        """The lists, if there are some that can be trusted. Never an error: nothing waits for them."""
        now = self._clock()
        if now - self._looked_at > REMEMBERED_SECONDS:
            self._looked_at = now
            try:
                self._found = self.load()
            except Exception as error:  # noqa: BLE001 a warning less is no reason to send nothing
                _log.warning("Kiva's lists cannot be read, drafts are not compared with them: %s", where(error))
        found = self._found
        return found if found and now - found.fetched_at < TRUSTED_SECONDS else None

    def load(self) -> Catalogue | None:
        """What was saved last, however old."""
        item = self._client().get_item(TableName=self._table, Key=self._key).get("Item")
        try:
            return msgspec.json.decode(item["lists"]["S"], type=Catalogue) if item else None
        except (KeyError, msgspec.DecodeError):  # of another version, or spoilt: it is fetched anew
            return None

    def save(self, catalogue: Catalogue) -> None:
        """Replace what everybody reads."""
        text = msgspec.json.encode(catalogue)
        if len(text) > MOST_BYTES:
            _log.warning("Kiva's list of locations is too long to be kept, so drafts are not compared with it")
            text = msgspec.json.encode(msgspec.structs.replace(catalogue, locations=frozenset()))
        self._client().put_item(TableName=self._table, Item={**self._key, "lists": {"S": text.decode()}})
