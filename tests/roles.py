"""The role that template.yaml gives each function, held against what the functions really ask DynamoDB for.

MiniStack enforces roles but knows no `dynamodb:LeadingKeys`, so these conditions are evaluated here. Sources: Amazon
DynamoDB Developer Guide, "Using IAM policy conditions for fine-grained access control" (a query of an index has the
index's own key as its leading key) and "DynamoDB Transactions" (each item is authorised as the action that it is); IAM
User Guide, "IAM JSON policy elements: Condition operators".
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from deployment import ENVIRONMENT
from template.cloudformation import as_deployed, listed, named, of_type, read, translate

KEYS = "dynamodb:LeadingKeys"
INDEX_KEYS = {"by_state": "kind_state", "by_loan": "loan_id"}
IN_TRANSACTIONS = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}
STACK = {"KivaEnvironment": ENVIRONMENT["KIVA_ENVIRONMENT"], "KivaPartnerId": ENVIRONMENT["KIVA_PARTNER_ID"]}

Call = tuple[str, str, tuple[str, ...]]
"""An action, a resource in the template's words, and the leading keys."""


def calls(operation: str, request: Mapping[str, Any]) -> Iterator[Call]:
    """What one request to DynamoDB must be allowed, action by action."""
    match operation:
        case "TransactWriteItems":
            for item in request["TransactItems"]:
                ((kind, one),) = item.items()
                yield from calls(IN_TRANSACTIONS[kind], one)
        case "BatchGetItem":
            for wanted in request["RequestItems"].values():
                yield "dynamodb:BatchGetItem", "LedgerTable.Arn", tuple(key["pk"]["S"] for key in wanted["Keys"])
        case "Query":
            index = request["IndexName"]
            (key,) = (
                it["S"] for name, it in request["ExpressionAttributeValues"].items() if _is_key(request, index, name)
            )
            yield "dynamodb:Query", f"${{LedgerTable.Arn}}/index/{index}", (key,)
        case "DescribeTable":
            yield "dynamodb:DescribeTable", "LedgerTable.Arn", ()
        case _:
            yield f"dynamodb:{operation}", "LedgerTable.Arn", ((request.get("Key") or request["Item"])["pk"]["S"],)


def _is_key(request: Mapping[str, Any], index: str, name: str) -> bool:
    """Whether the value of this name is what the index's key is to be equal to."""
    condition = request["KeyConditionExpression"]
    for alias, attribute in request.get("ExpressionAttributeNames", {}).items():
        condition = condition.replace(alias, attribute)
    return bool(re.search(rf"\b{INDEX_KEYS[index]} = {name}\b", condition))


def allows(function: str, call: Call) -> bool:
    """Whether the role of a function (by its logical id) allows a call."""
    action, resource, keys = call
    return any(
        action in listed(statement["Action"])
        and any(_matches(resource, named(it)) for it in listed(statement["Resource"]))
        and all(_holds(operator, key, values, keys) for operator, key, values in _conditions(statement))
        for statement in _statements(function)
    )


def _conditions(statement: Mapping[str, Any]) -> Iterator[tuple[str, str, list[Any]]]:
    for operator, keys in statement.get("Condition", {}).items():
        for key, values in keys.items():
            yield operator, key, listed(values)


def _holds(operator: str, key: str, values: list[Any], keys: tuple[str, ...]) -> bool:
    assert (operator, key) in {("ForAllValues:StringLike", KEYS), ("ForAllValues:StringEquals", KEYS)}
    texts = [re.sub(r"\$\{(\w+)\}", lambda it: STACK[it[1]], named(value)) for value in values]
    equals = operator.endswith("Equals")
    return all(any(each == text if equals else _matches(each, text) for text in texts) for each in keys)


def _matches(value: str, pattern: str) -> bool:
    """As IAM does: `*` is anything, `?` one character, and nothing else means more than itself."""
    regex = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    return re.fullmatch(regex, value, re.DOTALL) is not None


@cache
def _statements(function: str) -> list[dict[str, Any]]:
    stack = _stack()
    policies = of_type(stack, "AWS::IAM::ManagedPolicy")
    role = of_type(stack, "AWS::IAM::Role")[f"{function}Role"]
    attached = [policies[it] for it in map(named, role["ManagedPolicyArns"]) if it in policies]
    return [
        statement
        for policy in [*role["Policies"], *attached]
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow" and "dynamodb:" in str(statement["Action"])
    ]


@cache
def _stack() -> dict[str, Any]:
    return as_deployed(translate(read()), STACK)
