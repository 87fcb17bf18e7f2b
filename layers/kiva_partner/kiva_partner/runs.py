"""When housekeeping and the digest last ended well: an item of the ledger table each, so that an operator sees it."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

Name = Literal["housekeeping", "digest"]


class Run(Struct, frozen=True):
    """A run that came to its end: when (UTC, ISO 8601), and how much it did of each thing."""

    ended_at: str
    result: Mapping[str, Any]


class Runs:
    """The last run of each name. The one before it is forgotten."""

    def __init__(
        self, client: "Callable[[], DynamoDBClient]", table: str, scope: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._client = client
        self._table = table
        self._scope = scope
        self._clock = clock

    def ended(self, name: Name, result: Mapping[str, Any]) -> None:
        """Write down that a run has ended well just now."""
        ended_at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds")
        # In place of the whole item: which parts of a run were done is over with it.
        item = {**self._key(name), "ended_at": {"S": ended_at}, "result": {"S": msgspec.json.encode(result).decode()}}
        self._client().put_item(TableName=self._table, Item=item)

    def last(self, name: Name) -> Run | None:
        """The last run, or None before the first."""
        item = self._item(name)
        if "ended_at" not in item:
            return None
        return Run(item["ended_at"]["S"], msgspec.json.decode(item["result"]["S"]))

    def parted(self, name: Name, day: str, parts: frozenset[str]) -> None:
        """Write down which parts of a day's run are done, where others failed."""
        done = msgspec.json.encode({"day": day, "parts": sorted(parts)}).decode()
        self._client().update_item(
            TableName=self._table,
            Key=self._key(name),
            UpdateExpression="SET done = :done",
            ExpressionAttributeValues={":done": {"S": done}},
        )

    def parts(self, name: Name, day: str) -> frozenset[str]:
        """Which parts of a day's run were done by one that failed."""
        item = self._item(name)
        done = msgspec.json.decode(item["done"]["S"]) if "done" in item else {}
        return frozenset(done["parts"]) if done.get("day") == day else frozenset()

    def _item(self, name: Name) -> "Mapping[str, AttributeValueTypeDef]":
        """The item; an empty one before the first run."""
        answer = self._client().get_item(TableName=self._table, Key=self._key(name), ConsistentRead=True)
        return answer.get("Item", {})

    def _key(self, name: Name) -> dict[str, Any]:
        return {"pk": {"S": f"{self._scope}#run#{name}"}}
