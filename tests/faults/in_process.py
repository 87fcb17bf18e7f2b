"""DynamoDB and S3 as objects of this process, for tens of thousands of deliveries: boto3's calls without HTTP.

moto would not do: a claim and a settlement take it 12 ms, and 130 ms in a table of 2,000 rows, which it copies for each
transaction; and its conditions are not atomic under threads. That it says the same is tested (test_in_process.py).
"""

import copy
import io
import threading
from itertools import compress
from types import SimpleNamespace
from uuid import uuid4

from botocore.exceptions import ClientError

from faults.expressions import Invalid, check_substitutes, condition, update

TRANSACTION_SIZE = 100

INDEXES = {"kind_state": ("updated_at", True), "loan_id": ("created_at", False)}
"""What each goes by besides, and whether it holds whole items or their keys and month alone."""


class ConditionalCheckFailedException(Exception):
    """The item was not as the condition wants it."""


class TransactionCanceledException(Exception):
    """At least one condition did not hold, so nothing was written."""

    def __init__(self, reasons):
        super().__init__(", ".join(reason["Code"] for reason in reasons))
        self.response = {"CancellationReasons": reasons}


class DynamoDb:
    """One table whose key is `pk`. Every call is atomic, as DynamoDB's are.

    `watch` is told of every write: the item as it was and as it is now, None where there is none.
    """

    exceptions = SimpleNamespace(
        ConditionalCheckFailedException=ConditionalCheckFailedException,
        TransactionCanceledException=TransactionCanceledException,
    )

    def __init__(self):
        self.watch = lambda before, after: None
        self._lock = threading.RLock()
        self._items = {}
        self.id, self.is_restored = str(uuid4()), False

    def items(self):
        """Every item, for those who audit."""
        with self._lock:
            return copy.deepcopy(list(self._items.values()))

    def get_item(self, *, Key, **_):  # noqa: N803 boto3's names
        with self._lock:
            item = self._items.get(Key["pk"]["S"])
            return {"Item": copy.deepcopy(item)} if item else {}

    def batch_get_item(self, *, RequestItems):  # noqa: N803
        with self._lock:
            ((table, wanted),) = RequestItems.items()
            found = [self.get_item(Key=key) for key in wanted["Keys"]]
            return {"Responses": {table: [each["Item"] for each in found if each]}}

    def query(
        self,
        *,
        ExpressionAttributeNames,  # noqa: N803
        ExpressionAttributeValues,  # noqa: N803
        Limit=None,  # noqa: N803
        ExclusiveStartKey=None,  # noqa: N803
        FilterExpression="",  # noqa: N803
        **_,
    ):
        """Items of an index with one value of its key, the latest first: the only query that the layer makes."""
        (name,), month = ExpressionAttributeNames.values(), ExpressionAttributeValues.pop(":period", None)
        value = ExpressionAttributeValues[":value"]
        since, before = (ExpressionAttributeValues.get(each, {"S": ""})["S"] for each in (":since", ":before"))
        time, whole = INDEXES[name]
        keys = ("pk", name, time)
        with self._lock:
            found = [copy.deepcopy(item) for item in self._items.values() if item.get(name) == value]
        found = [item for item in found if item[time]["S"] >= since and (not before or item[time]["S"] < before)]
        found.sort(key=lambda item: _place(item, time), reverse=True)
        if ExclusiveStartKey:
            found = [item for item in found if _place(item, time) < _place(ExclusiveStartKey, time)]
        shown = found if whole else [{key: item[key] for key in keys} for item in found]
        # As DynamoDB does it: a page is counted first, then filtered.
        passes = [not FilterExpression or item.get("period") == month for item in found]
        answer = {"Items": list(compress(shown[:Limit], passes))}
        if Limit and len(found) > Limit:
            answer["LastEvaluatedKey"] = {key: found[Limit - 1][key] for key in keys}
        return answer

    def describe_table(self, *, TableName):  # noqa: N803
        with self._lock:
            restored = {"RestoreSummary": {"RestoreInProgress": False}} if self.is_restored else {}
            return {"Table": {"TableName": TableName, "TableId": self.id, **restored}}

    def backup(self):
        """The items of this moment."""
        return self.items()

    def restore(self, items):
        """Become the table that a backup is restored to: another one, under the name of the one that was deleted."""
        with self._lock:
            self._items = {item["pk"]["S"]: copy.deepcopy(item) for item in items}
            self.id, self.is_restored = str(uuid4()), True

    def put_item(self, *, Item, **parameters):  # noqa: N803
        self._write({"Key": {"pk": Item["pk"]}, **parameters}, lambda: Item)

    def delete_item(self, **parameters):
        self._write(parameters, lambda: None)

    def update_item(self, **parameters):
        with self._lock:
            self._write(parameters, lambda: self._updated(parameters))

    def transact_write_items(self, *, TransactItems, **_):  # noqa: N803
        """All of them or none."""
        updates = [item["Update"] for item in TransactItems]
        keys = {update["Key"]["pk"]["S"] for update in updates}
        if not 1 <= len(updates) <= TRANSACTION_SIZE or len(keys) < len(updates):
            raise Invalid("a transaction has 1 to 100 actions, each on another item")
        with self._lock:
            reasons = [self._reason(update) for update in updates]
            if any(reason["Code"] != "None" for reason in reasons):
                raise TransactionCanceledException(reasons)
            for each in updates:
                self._put(each["Key"]["pk"]["S"], self._updated(each))

    def _reason(self, parameters):
        if self._holds(parameters):
            return {"Code": "None"}
        item = self._items.get(parameters["Key"]["pk"]["S"])
        shown = {"Item": copy.deepcopy(item)} if item and "ReturnValuesOnConditionCheckFailure" in parameters else {}
        return {"Code": "ConditionalCheckFailed", **shown}

    def _write(self, parameters, new):
        with self._lock:
            if not self._holds(parameters):
                raise ConditionalCheckFailedException
            self._put(parameters["Key"]["pk"]["S"], copy.deepcopy(new()))

    def _put(self, key, item):
        before = self._items.pop(key, None)
        if item is not None:
            self._items[key] = item
        self.watch(before, item)

    def _holds(self, parameters):
        names, values = _substitutes(parameters)
        expressions = [parameters.get(name, "") for name in ("ConditionExpression", "UpdateExpression")]
        check_substitutes(expressions, names, values)
        return condition(expressions[0])(self._items.get(parameters["Key"]["pk"]["S"], {}), names, values)

    def _updated(self, parameters):
        item = copy.deepcopy(self._items.get(parameters["Key"]["pk"]["S"], dict(parameters["Key"])))
        update(parameters["UpdateExpression"])(item, *_substitutes(parameters))
        return item


def _substitutes(parameters):
    return parameters.get("ExpressionAttributeNames", {}), parameters.get("ExpressionAttributeValues", {})


def _place(item, time):
    return item[time]["S"], item["pk"]["S"]


class S3:
    """One bucket's objects."""

    class NoSuchKey(Exception):
        """As boto3's."""

    exceptions = SimpleNamespace(NoSuchKey=NoSuchKey, ClientError=ClientError)

    def __init__(self):
        self.objects = {}

    def put_object(self, *, Key, Body, **_):  # noqa: N803
        self.objects[Key] = Body

    def get_object(self, *, Key, **_):  # noqa: N803
        if Key not in self.objects:
            raise self.NoSuchKey
        return {"Body": io.BytesIO(self.objects[Key]), "ContentLength": len(self.objects[Key])}

    def head_object(self, *, Key, **_):  # noqa: N803
        if Key not in self.objects:  # HEAD has no body to name the error in
            status = {"HTTPStatusCode": 404}
            raise ClientError({"Error": {"Code": "404"}, "ResponseMetadata": status}, "HeadObject")
        return {"ContentLength": len(self.objects[Key])}

    def delete_object(self, *, Key, **_):  # noqa: N803
        self.objects.pop(Key, None)

    def get_paginator(self, _):
        """Of `list_objects_v2`: all in one page."""
        return SimpleNamespace(paginate=self._list)

    def _list(self, *, Prefix, **_):  # noqa: N803
        return [{"Contents": [{"Key": key} for key in sorted(self.objects) if key.startswith(Prefix)]}]
