"""The DynamoDB of this tier says what moto's says, call by call."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployment import TABLE
from faults.expressions import Invalid
from faults.in_process import DynamoDb

KEYS = ("one", "two")
TEXTS = st.sampled_from(["SENDING", "RETRY", "UNKNOWN"]).map(lambda text: {"S": text})
NUMBERS = st.integers(0, 3).map(lambda number: {"N": str(number)})
LISTS = st.lists(TEXTS, min_size=1, max_size=2).map(lambda items: {"L": items})


@st.composite
def conditions(draw):
    """The text, and its names and values; parentheses only where they mean something, as DynamoDB wants it."""
    names, values = {"#state": "state"}, {}

    def value(strategy):
        values[f":v{len(values)}"] = draw(strategy)
        return f":v{len(values) - 1}"

    def single():
        match draw(st.integers(0, 5)):
            case 0:
                exists = draw(st.sampled_from(["attribute_exists", "attribute_not_exists"]))
                return f"{exists}({draw(st.sampled_from(['pk', 'attempts']))})"
            case 1:
                return f"#state {draw(st.sampled_from(['=', '<>']))} {value(TEXTS)}"
            case 2:
                return f"attempts {draw(st.sampled_from(['=', '<>', '<', '<=', '>', '>=']))} {value(NUMBERS)}"
            case 3:
                return f"#state IN ({value(TEXTS)}, {value(TEXTS)})"
            case 4:
                return f"NOT contains(spent, {value(TEXTS)})"
            case _:
                return f"NOT attempts = {value(NUMBERS)}"

    parts = [f"({single()} {draw(st.sampled_from(['AND', 'OR']))} {single()})" for _ in range(draw(st.integers(0, 2)))]
    parts += [single() for _ in range(draw(st.integers(1, 2)))]
    text = parts[0]
    for part in parts[1:]:
        text += f" {draw(st.sampled_from(['AND', 'OR']))} {part}"
    if len(parts) == 1:
        text = text.removeprefix("(").removesuffix(")") if text.startswith("(") else text
    return text, names if "#state" in text else {}, values


@st.composite
def updates(draw):
    text, names, values = draw(conditions())
    sets = {
        "#state = :state": {":state": draw(TEXTS)},
        "created = if_not_exists(created, :created)": {":created": draw(NUMBERS)},
        "notes = list_append(if_not_exists(notes, :none), :notes)": {":none": {"L": []}, ":notes": draw(LISTS)},
        "outcome = :outcome": {":outcome": {"M": {"state": draw(TEXTS)}}},
    }
    chosen = draw(st.lists(st.sampled_from(list(sets)), min_size=1, unique=True))
    expression = "SET " + ", ".join(chosen)
    for each in chosen:
        values = values | sets[each]
    if "#state = :state" in chosen:
        names = names | {"#state": "state"}
    if "outcome = :outcome" not in chosen and draw(st.booleans()):
        expression += " REMOVE outcome"
    adds = {"attempts :one": {":one": {"N": "1"}}, "spent :spent": {":spent": {"SS": [draw(TEXTS)["S"]]}}}
    if added := draw(st.lists(st.sampled_from(list(adds)), unique=True)):
        expression += " ADD " + ", ".join(added)
        for each in added:
            values = values | adds[each]
    return {
        "TableName": TABLE,
        "Key": {"pk": {"S": draw(st.sampled_from(KEYS))}},
        "UpdateExpression": expression,
        "ConditionExpression": text,
        "ExpressionAttributeValues": values,
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        **({"ExpressionAttributeNames": names} if names else {}),
    }


@st.composite
def others(draw):
    """A put or a delete, with a condition."""
    text, names, values = draw(conditions())
    key = {"pk": {"S": draw(st.sampled_from(KEYS))}}
    parameters = {"TableName": TABLE, "ConditionExpression": text}
    parameters |= {"ExpressionAttributeNames": names} if names else {}
    parameters |= {"ExpressionAttributeValues": values} if values else {}
    if draw(st.booleans()):
        return "put_item", {**parameters, "Item": {**key, "state": draw(TEXTS), "attempts": draw(NUMBERS)}}
    return "delete_item", {**parameters, "Key": key}


def transaction(parts):
    keys = {part["Key"]["pk"]["S"]: part for part in parts}
    return "transact_write_items", {"TransactItems": [{"Update": part} for part in keys.values()]}


CALLS = st.lists(updates(), min_size=1, max_size=2).map(transaction) | others()


def outcome(client, name, parameters):
    try:
        getattr(client, name)(**parameters)
    except client.exceptions.ConditionalCheckFailedException:
        return "condition"
    except client.exceptions.TransactionCanceledException as error:
        reasons = error.response["CancellationReasons"]
        return [(reason["Code"], in_order(reason["Item"]) if "Item" in reason else None) for reason in reasons]
    return "done"


def in_order(item):
    """Sets have none; for comparison they get one."""
    return {name: {sort: sorted(it) if sort == "SS" else it for sort, it in v.items()} for name, v in item.items()}


@settings(max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(CALLS, min_size=5, max_size=8))
def test_every_call_comes_to_the_same_as_with_moto(table, calls):
    for key in KEYS:
        table.delete_item(TableName=TABLE, Key={"pk": {"S": key}})
    ours = DynamoDb()
    for name, parameters in calls:
        assert outcome(ours, name, parameters) == outcome(table, name, parameters), parameters
    theirs = table.scan(TableName=TABLE)["Items"]
    assert sorted(map(in_order, ours.items()), key=str) == sorted(map(in_order, theirs), key=str)


def test_an_index_is_read_page_by_page_the_latest_first(table):
    ours = DynamoDb()
    for client in (ours, table):
        for number in range(5):
            item = {"pk": {"S": str(number)}, "kind_state": {"S": "x"}, "updated_at": {"S": str(number * 3 % 5)}}
            client.put_item(TableName=TABLE, Item=item)
    assert pages(ours) == pages(table) == [["3", "1"], ["4", "2"], ["0"]]
    for condition, value in (("updated_at >= :since", "2"), ("updated_at < :before", "3")):
        named = {"condition": f" AND {condition}", f":{condition.partition(':')[2]}": {"S": value}}
        assert pages(ours, **named) == pages(table, **named)


def pages(client, condition="", **values):
    found, start = [], {}
    while True:
        answer = client.query(
            TableName=TABLE,
            IndexName="by_state",
            KeyConditionExpression="#key = :value" + condition,
            ExpressionAttributeNames={"#key": "kind_state"},
            ExpressionAttributeValues={":value": {"S": "x"}, **values},
            ScanIndexForward=False,
            Limit=2,
            **start,
        )
        found.append([item["pk"]["S"] for item in answer["Items"]])
        if "LastEvaluatedKey" not in answer:
            return found
        start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


@pytest.mark.parametrize(
    ("update", "values"),
    [
        ("SET a = :unused_value", {":unused_value": {"N": "1"}, ":other": {"N": "1"}}),
        ("SET a.b = :value", {":value": {"N": "1"}}),
        ("SET a = :value, a = :value", {":value": {"N": "1"}}),
        ("SET pk = :value", {":value": {"N": "1"}}),
        ("SET a = missing", {}),
        ("SET a = size(b)", {}),
    ],
)
def test_what_dynamodb_refuses_or_nobody_here_understands_is_an_error(update, values):
    with pytest.raises(Invalid):
        DynamoDb().update_item(
            TableName=TABLE, Key={"pk": {"S": "x"}}, UpdateExpression=update, ExpressionAttributeValues=values
        )


def test_a_transaction_has_at_most_100_actions_and_none_twice_on_an_item():
    def update(key):
        return {"Update": {"TableName": TABLE, "Key": {"pk": {"S": str(key)}}, "UpdateExpression": "SET a = pk"}}

    for keys in (range(101), [1, 1], []):
        with pytest.raises(Invalid):
            DynamoDb().transact_write_items(TransactItems=[update(key) for key in keys])
