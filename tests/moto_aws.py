"""moto's AWS, mended where it differs from AWS in what the layer relies on."""

from contextlib import contextmanager
from threading import Lock
from uuid import uuid4

from moto import mock_aws
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.table import Table


@contextmanager
def aws_by_moto(monkeypatch):
    """Until it is left. moto copies the table for a transaction and puts it back, so that two at once would lose one.

    And its tables have no TableId, which is here the table's own for as long as it lives, as at AWS.
    """
    one_at_a_time, transact = Lock(), DynamoDBBackend.transact_write_items

    def transact_alone(self, *arguments):
        with one_at_a_time:
            return transact(self, *arguments)

    describe = Table.describe

    def describe_with_id(self, base_key="TableDescription"):
        told = describe(self, base_key)
        told[base_key]["TableId"] = self.__dict__.setdefault("table_id", str(uuid4()))
        return told

    monkeypatch.setattr(DynamoDBBackend, "transact_write_items", transact_alone)
    monkeypatch.setattr(Table, "describe", describe_with_id)
    with mock_aws():
        yield
