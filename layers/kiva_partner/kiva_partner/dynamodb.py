"""DynamoDB's way to write values, and transactions at a price that a hundred rows can pay.

Why not boto3's `TypeSerializer`: its module imports all of boto3, a fifth of a cold start, and it takes half of what
building a row takes. What stands here is held against it by a test.
Source: Amazon DynamoDB API Reference, "AttributeValue" and "TransactWriteItems".
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec


def typed(value: object) -> dict[str, Any]:
    """A value as an AttributeValue. Takes what rows hold: texts, whole numbers, truths, lists, mappings, sets of texts.

    Raises:
        TypeError: for anything else; a float above all, which DynamoDB does not know.
    """
    match value:
        case str():
            return {"S": value}
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case set() | frozenset():
            return {"SS": sorted(value)}
        case Mapping():
            return {"M": {name: typed(each) for name, each in value.items()}}
        case list() | tuple():
            return {"L": [typed(each) for each in value]}
    raise TypeError(f"no row holds a {type(value).__name__}")


def plain(item: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """An item as plain values; numbers are Decimals."""
    return {name: _plain_value(value) for name, value in item.items()}


def _plain_value(value: Mapping[str, Any]) -> Any:
    ((kind, content),) = value.items()
    match kind:
        case "S" | "BOOL":
            return content
        case "N":
            return Decimal(content)
        case "M":
            return plain(content)
        case "L":
            return [_plain_value(each) for each in content]
        case "SS":
            return set(content)
    raise TypeError(f"no row holds a {kind}")


def write_transactions_whole(session: Any) -> None:
    """Have the clients of a session write the items of a transaction in one go.

    botocore's serializer walks through each of the four thousand values of a hundred updates, and the search for the
    tables' names that its endpoint rules ask for does so again: together half of the CPU that a repayment takes. Our
    items are in DynamoDB's own form already, so botocore is shown an empty list, and they are put in its place.
    """
    session.register("before-parameter-build.dynamodb.TransactWriteItems", _take_out)
    session.register("before-call.dynamodb.TransactWriteItems", _put_in)


def _take_out(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    context["kiva_partner_items"] = params["TransactItems"]
    params["TransactItems"] = []


def _put_in(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    request = {**msgspec.json.decode(params["body"]), "TransactItems": context["kiva_partner_items"]}
    params["body"] = msgspec.json.encode(request)
