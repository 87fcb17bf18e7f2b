"""The ledger's stream, and Lambda in front of it: moto keeps no stream of what a transaction writes."""

import json
from itertools import count

from moto.dynamodb.models import DynamoDBBackend

from deployment import TABLE
from template.cloudformation import of_type, read

MAPPING = of_type(read(), "AWS::Lambda::EventSourceMapping")["OutcomesFromLedger"]
PATTERN = json.loads(MAPPING["FilterCriteria"]["Filters"][0]["Pattern"])


class Stream:
    """Every change of the table, in its order; `deliver` hands on those that the template's filter lets through."""

    def __init__(self, monkeypatch):
        self.records = []
        self._numbers = count(1)
        self._read = 0
        for name in ("transact_write_items", "put_item", "delete_item"):
            monkeypatch.setattr(DynamoDBBackend, name, self._watched(getattr(DynamoDBBackend, name)))

    def _watched(self, write):
        def and_note(backend, *arguments, **named):
            before = images(backend)
            try:
                return write(backend, *arguments, **named)
            finally:
                self._note(before, images(backend))

        return and_note

    def _note(self, before, after):
        for key in {**before, **after}:
            if before.get(key) != after.get(key):
                self.records.append(record(before.get(key), after.get(key), next(self._numbers)))

    def deliver(self, function):
        """Hand on what is new, as Lambda does: from the first that failed on it comes again. Gives how often."""
        times = 0
        while times < 10 and (batch := [each for each in self.records[self._read :] if passes(each)]):
            batch, times = batch[: MAPPING["BatchSize"]], times + 1
            failed = [each["itemIdentifier"] for each in function({"Records": batch})["batchItemFailures"]]
            numbers = [each["dynamodb"]["SequenceNumber"] for each in self.records]
            self._read = numbers.index(failed[0] if failed else batch[-1]["dynamodb"]["SequenceNumber"]) + (not failed)
        return times


def images(backend):
    """All items as they are, by key."""
    table = backend.get_table(TABLE)
    return {key: item.to_json()["Attributes"] for key, item in table.items.items()}


def record(before, after, number=1):
    """One change as the stream tells it; None for an image that is not there."""
    change = {
        "ApproximateCreationDateTime": 1790000000,
        "Keys": {"pk": (after or before)["pk"]},
        "SequenceNumber": f"{number:021}",
        "SizeBytes": 700,
        "StreamViewType": "NEW_AND_OLD_IMAGES",
        **({"OldImage": before} if before else {}),
        **({"NewImage": after} if after else {}),
    }
    name = "REMOVE" if not after else "MODIFY" if before else "INSERT"
    return {"eventID": f"change-{number}", "eventName": name, "eventSource": "aws:dynamodb", "dynamodb": change}


def passes(value, pattern=PATTERN):
    """Whether a filter lets it through; the part of EventBridge's patterns that the template uses."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(passes(value.get(name), each) for name, each in pattern.items())
    return value in pattern
