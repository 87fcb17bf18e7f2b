"""What we write in place of boto3's serializer, held against it."""

import json

import botocore.session
import pytest
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from fakes import answer_at_once
from kiva_partner.dynamodb import plain, typed, write_transactions_whole
from kiva_partner.ledger import State

VALUES = st.recursive(
    st.booleans() | st.integers(-(10**30), 10**30) | st.text() | st.sets(st.text(min_size=1), min_size=1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_values_are_written_and_read_as_boto3_does(value):
    written = typed(value)
    assert as_set(written) == as_set(TypeSerializer().serialize(value))
    assert plain({"it": written})["it"] == TypeDeserializer().deserialize(written) == value


def test_a_state_is_written_as_its_text():
    assert json.dumps(typed(State.UNKNOWN)) == '{"S": "UNKNOWN"}'


def test_a_float_is_no_value_of_a_row():
    with pytest.raises(TypeError, match="no row holds a float"):
        typed({"seconds": 0.5})


def test_a_kind_that_no_row_holds_is_not_read():
    with pytest.raises(TypeError, match="no row holds a B"):
        plain({"bytes": {"B": b""}})


UPDATES = [
    {
        "Update": {
            "TableName": "ledger",
            "Key": {"pk": {"S": f"stage#9001#submission#repayment#2026-10:L-{number}"}},
            "UpdateExpression": "SET #state = :state",
            "ConditionExpression": "attribute_not_exists(pk)",
            "ExpressionAttributeNames": {"#state": "state"},
            "ExpressionAttributeValues": {":state": typed(State.SENDING), ":some": typed(["é", 1, {"a": {"b"}}])},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    }
    for number in range(100)
]


def test_a_transaction_written_whole_says_what_botocore_would_say():
    (ours,), (theirs,) = sent(write_transactions_whole), sent(lambda session: None)
    assert ours.pop("ClientRequestToken") != theirs.pop("ClientRequestToken")
    assert ours == theirs
    assert ours["TransactItems"] == json.loads(json.dumps(UPDATES))


def test_a_transaction_that_botocore_sends_again_says_the_same():
    first, again = sent(write_transactions_whole, statuses=[500, 200])
    assert first == again
    assert first["ClientRequestToken"]


def sent(prepare, statuses=(200,)):
    """The bodies that a client sends, which is answered with these statuses, one after the other."""
    session = botocore.session.get_session()
    session.set_credentials("id", "secret")
    prepare(session)
    client = session.create_client(
        "dynamodb", "us-east-1", config=Config(parameter_validation=False, retries={"mode": "standard"})
    )
    requests = answer_at_once(client, *((status, b"{}") for status in statuses))
    client.transact_write_items(TransactItems=UPDATES)
    return [json.loads(request.body) for request in requests]


def as_set(value):
    """The same without the order of sets, which says nothing."""
    match value:
        case {"SS": members}:
            return {"SS": set(members)}
        case {"M": members}:
            return {"M": {name: as_set(each) for name, each in members.items()}}
        case {"L": members}:
            return {"L": [as_set(each) for each in members]}
    return value
