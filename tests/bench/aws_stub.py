"""DynamoDB, Secrets Manager, SSM, SQS and S3 on one port: as much of each as a record's way through needs, and counts.

Counts: `calls` are all of them; each operation has its own (`DynamoDB.TransactWriteItems`, `SecretsManager.…`, `SSM.…`,
`SQS.…`, `S3.…`); `wru` and `rru` are DynamoDB's write and read request units of the table, `index_wru` the write units
that its two indexes cost besides.

Setting, in seconds: `latency` before each answer.
"""

from functools import cache
from hashlib import md5
from http import HTTPStatus
from itertools import count
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

import msgspec

from bench.counting_server import Answer, Service, serve
from faults.expressions import Invalid, check_substitutes, condition, update
from faults.in_process import INDEXES, TRANSACTION_SIZE

SERVICES = {
    "DynamoDB_20120810": "DynamoDB",
    "secretsmanager": "SecretsManager",
    "AmazonSSM": "SSM",
    "AmazonSQS": "SQS",
}

WRITE_UNIT, READ_UNIT = 1024, 4096
"""Bytes of an item that one request unit is good for."""


class Refused(Exception):
    """An error as AWS gives it: its type, and what else is in the answer."""

    def __init__(self, error, message="", **more):
        self.answer = {"__type": error, "message": message, "Message": message, **more}


class Aws(Service):
    def __init__(self):
        super().__init__(latency=0.005)
        self._table = Table(self.counted)
        self._services = {"DynamoDB": self._table, "SecretsManager": Secrets(), "SSM": Parameters(), "SQS": Queues()}
        self._bucket = Bucket()
        self.reset()

    def reset(self):
        super().reset()
        self.counted.update({"calls": 0, "wru": 0, "index_wru": 0, "rru": 0})
        for each in (*self._services.values(), self._bucket):
            each.reset()

    def answer(self, request):
        self.counted["calls"] += 1
        target = request.header(b"x-amz-target")
        answer = self._json(target, request.body) if target else self._s3(request)
        answer.after = self.settings["latency"]
        return answer

    def _json(self, target, body):
        prefix, _, operation = target.partition(".")
        service = SERVICES[prefix]
        self.counted[f"{service}.{operation}"] += 1
        try:
            answer, status = self._call(service, operation, body), HTTPStatus.OK
        except Refused as error:
            answer, status = error.answer, HTTPStatus.BAD_REQUEST
        return Answer(msgspec.json.encode(answer), status, headers={"Content-Type": "application/x-amz-json-1.0"})

    def _call(self, service, operation, body):
        method = getattr(self._services[service], operation, None)
        if method is None:
            raise Refused("UnknownOperationException", f"the stub has no {service}.{operation}")
        try:
            return method(msgspec.json.decode(body, type=_type_of(method)))
        except (Invalid, msgspec.ValidationError) as error:
            message = f"DynamoDB would refuse this, or the stub does not know it: {error}"
            raise Refused("ValidationException", message) from None

    def _s3(self, request):
        operation, answer = self._bucket.answer(request)
        self.counted[f"S3.{operation}"] += 1
        return answer


@cache
def _type_of(method):
    return next(iter(method.__annotations__.values()))


# --- DynamoDB ---------------------------------------------------------------------------------------------------------

Attributes = dict[str, dict]
"""An item, or values, as DynamoDB writes them: {"name": {"S": "text"}}."""


class _Key(msgspec.Struct, forbid_unknown_fields=True):
    pk: dict[str, str]

    def __str__(self):
        return self.pk["S"]


class Action(msgspec.Struct, forbid_unknown_fields=True):
    """A conditional write, alone or one of a transaction. What is in none of these fields is refused, not ignored."""

    TableName: str
    Key: _Key | None = None
    Item: Attributes | None = None
    UpdateExpression: str = ""
    ConditionExpression: str = ""
    ExpressionAttributeNames: dict[str, str] = {}
    ExpressionAttributeValues: Attributes = {}
    ReturnValuesOnConditionCheckFailure: str = "NONE"

    @property
    def key(self):
        return str(self.Key) if self.Key else self.Item["pk"]["S"]

    def reason(self, item):
        """Why it must not happen, as in a transaction's cancellation; None when its condition holds."""
        names, values = self.ExpressionAttributeNames, self.ExpressionAttributeValues
        check_substitutes((self.ConditionExpression, self.UpdateExpression), names, values)
        if condition(self.ConditionExpression)(item or {}, names, values):
            return None
        shown = {"Item": item} if item and self.ReturnValuesOnConditionCheckFailure == "ALL_OLD" else {}
        return {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed", **shown}


class _Transaction(msgspec.Struct, forbid_unknown_fields=True):
    TransactItems: list[dict[str, Action]]
    ClientRequestToken: str = ""


class _Read(msgspec.Struct, forbid_unknown_fields=True):
    TableName: str
    Key: _Key
    ConsistentRead: bool = False


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    Keys: list[_Key]
    ConsistentRead: bool = False


class _BatchRead(msgspec.Struct, forbid_unknown_fields=True):
    RequestItems: dict[str, _Wanted]


class Table:
    """One table whose key is `pk`. Items are kept as JSON, which takes a fifth of the memory."""

    def __init__(self, counted):
        self._counted = counted
        self._items = {}
        self._transactions = set()

    def reset(self):
        self._items.clear()
        self._transactions.clear()

    def GetItem(self, asked: _Read):  # noqa: N802 AWS's names, here and below
        item = self._read(str(asked.Key), consistent=asked.ConsistentRead)
        return {"Item": item} if item else {}

    def DescribeTable(self, asked: dict):  # noqa: N802
        return {"Table": {"TableName": asked["TableName"], "TableId": "00000000-0000-4000-8000-000000000000"}}

    def BatchGetItem(self, asked: _BatchRead):  # noqa: N802
        answers = {}
        for table, wanted in asked.RequestItems.items():
            items = [self._read(str(key), consistent=wanted.ConsistentRead) for key in wanted.Keys]
            answers[table] = [item for item in items if item]
        return {"Responses": answers, "UnprocessedKeys": {}}

    def PutItem(self, action: Action):  # noqa: N802
        return self._write_one("Put", action)

    def UpdateItem(self, action: Action):  # noqa: N802
        return self._write_one("Update", action)

    def DeleteItem(self, action: Action):  # noqa: N802
        return self._write_one("Delete", action)

    def TransactWriteItems(self, asked: _Transaction):  # noqa: N802
        """All of them or none. A second time with the same token is the first one's answer and nothing else."""
        actions = [next(iter(each.items())) for each in asked.TransactItems]
        if not 1 <= len(actions) <= TRANSACTION_SIZE or len({action.key for _, action in actions}) < len(actions):
            raise Invalid("a transaction has 1 to 100 actions, each on another item")
        if asked.ClientRequestToken in self._transactions:
            return {}
        items = [self._item(action.key) for _, action in actions]
        reasons = [action.reason(item) for (_, action), item in zip(actions, items, strict=True)]
        if any(reasons):
            # Refused, it costs as much: each action was prepared, and the table was read for it.
            self._counted["wru"] += sum(2 * self._units(action.key) for _, action in actions)
            message = "Transaction cancelled, please refer cancellation reasons for specific reasons"
            reasons = [reason or {"Code": "None"} for reason in reasons]
            raise Refused("TransactionCanceledException", message, CancellationReasons=reasons)
        changed = [_changed(kind, action, item) for (kind, action), item in zip(actions, items, strict=True)]
        for (_, action), before, after in zip(actions, items, changed, strict=True):
            self._counted["wru"] += 2 * self._put(action.key, before, after)
        if asked.ClientRequestToken:
            self._transactions.add(asked.ClientRequestToken)
        return {}

    def _write_one(self, kind, action):
        item = self._item(action.key)
        if reason := action.reason(item):
            self._counted["wru"] += self._units(action.key)
            shown = {"Item": item} if "Item" in reason else {}
            raise Refused("ConditionalCheckFailedException", reason["Message"], **shown)
        self._counted["wru"] += self._put(action.key, item, _changed(kind, action, item))
        return {}

    def _read(self, key, *, consistent):
        self._counted["rru"] += self._units(key, READ_UNIT) * (1 if consistent else 0.5)
        return self._item(key)

    def _item(self, key):
        kept = self._items.get(key)
        return msgspec.json.decode(kept) if kept else None

    def _put(self, key, before, after):
        """Give what it costs: the units of the larger of the two."""
        units_before = self._units(key)
        if after is None:
            self._items.pop(key, None)
        else:
            self._items[key] = msgspec.json.encode(after)
        units_after = self._units(key)
        for name, (time, whole) in INDEXES.items():
            was, now = _place(before, name, time), _place(after, name, time)
            if was != now:  # taken out there, put in here
                self._counted["index_wru"] += (units_before if whole else 1) * bool(was)
                self._counted["index_wru"] += (units_after if whole else 1) * bool(now)
            elif now and whole and before != after:
                self._counted["index_wru"] += units_after
        return max(units_before, units_after)

    def _units(self, key, size=WRITE_UNIT):
        """Request units, one for each started `size` bytes of an item; of none it is one as well."""
        kept = self._items.get(key, b"")
        # As JSON it is never shorter.
        return 1 if len(kept) <= size else max(1, -(-_bytes(self._item(key)) // size))


def _place(item, name, time):
    """Where an index has an item; None where it has it not."""
    return (item[name], item[time]) if item and name in item and time in item else None


def _changed(kind, action, item):
    """The item after an action that may happen; None when there is none any more."""
    match kind:
        case "Put":
            return action.Item
        case "Update":
            new = dict(item) if item else {"pk": action.Key.pk}
            update(action.UpdateExpression)(new, action.ExpressionAttributeNames, action.ExpressionAttributeValues)
            return new
        case "Delete":
            return None
        case "ConditionCheck":
            return item
    raise Invalid(f"there is no {kind} in a transaction")


def _bytes(item):
    """DynamoDB Developer Guide, "DynamoDB item sizes and formats": names and values in UTF-8."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value):
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "N":
            return 1 + -(-len(content.strip("-0").replace(".", "")) // 2)
        case "SS":
            return sum(len(each.encode()) for each in content)
        case "M":
            return 3 + len(content) + _bytes(content)
        case "L":
            return 3 + sum(1 + _value_bytes(each) for each in content)
    return 1  # BOOL and NULL


# --- the others -------------------------------------------------------------------------------------------------------


class Secrets:
    """Two secrets: the credentials for Kiva, which stay, and the token, which a reset empties."""

    CREDENTIALS = (
        '{"client_id": "a-client", "client_secret": "canary-secret", "environment": "sandbox", "partner_id": "9001"}'
    )

    def __init__(self):
        self.reset()

    def reset(self):
        self._values = {"credentials": self.CREDENTIALS}

    def GetSecretValue(self, asked: dict):  # noqa: N802
        name = asked["SecretId"]
        if name not in self._values:
            raise Refused("ResourceNotFoundException", "Secrets Manager can't find the specified secret value")
        return {**_named(name), "SecretString": self._values[name], "VersionStages": ["AWSCURRENT"]}

    def PutSecretValue(self, asked: dict):  # noqa: N802
        self._values[asked["SecretId"]] = asked["SecretString"]
        return {**_named(asked["SecretId"]), "VersionStages": ["AWSCURRENT"]}


def _named(secret):
    arn = f"arn:aws:secretsmanager:us-east-1:000000000000:secret:{secret}-AbCdEf"
    return {"ARN": arn, "Name": secret, "VersionId": "00000000-0000-4000-8000-000000000000"}


class Parameters:
    def __init__(self):
        self._values = {}

    def reset(self):
        self._values.clear()

    def GetParameter(self, asked: dict):  # noqa: N802
        name = asked["Name"]
        if name not in self._values:
            raise Refused("ParameterNotFound", name)
        return {"Parameter": {"Name": name, "Type": "SecureString", "Value": self._values[name], "Version": 1}}

    def PutParameter(self, asked: dict):  # noqa: N802
        self._values[asked["Name"]] = asked["Value"]
        return {"Version": 1, "Tier": "Standard"}


class Queues:
    """Takes what is sent and forgets it."""

    def __init__(self):
        self._ids = count(1)

    def reset(self):
        """There is nothing to forget."""

    def SendMessage(self, asked: dict):  # noqa: N802
        return self._sent(asked)

    def SendMessageBatch(self, asked: dict):  # noqa: N802
        return {"Successful": [{"Id": each["Id"], **self._sent(each)} for each in asked["Entries"]], "Failed": []}

    def ChangeMessageVisibility(self, asked: dict):  # noqa: N802
        return {}

    def ChangeMessageVisibilityBatch(self, asked: dict):  # noqa: N802
        return {"Successful": [{"Id": each["Id"]} for each in asked["Entries"]], "Failed": []}

    def _sent(self, message):
        digest = md5(message["MessageBody"].encode(), usedforsecurity=False).hexdigest()
        return {"MessageId": f"00000000-0000-4000-8000-{next(self._ids):012}", "MD5OfMessageBody": digest}


class Bucket:
    """Every bucket is the same one. Gives the operation's name along with its answer."""

    def __init__(self):
        self._objects = {}

    def reset(self):
        self._objects.clear()

    def answer(self, request):
        key = unquote(request.url.path).lstrip("/").partition("/")[2]
        match request.method:
            case "PUT":
                self._objects[key] = request.body
                return "PutObject", Answer(headers={"ETag": '"0"'})
            case "DELETE":
                self._objects.pop(key, None)
                return "DeleteObject", Answer(status=HTTPStatus.NO_CONTENT, headers={})
            case "GET" if not key:
                return "ListObjectsV2", Answer(self._list(request.url.query), headers={})
            case "GET" | "HEAD" as method:
                return f"{method.title()}Object", self._object(key)
        return "unknown", Answer(status=HTTPStatus.METHOD_NOT_ALLOWED, headers={})

    def _object(self, key):
        if key in self._objects:
            return Answer(self._objects[key], headers={"ETag": '"0"', "Content-Type": "binary/octet-stream"})
        return Answer(b"<Error><Code>NoSuchKey</Code></Error>", HTTPStatus.NOT_FOUND, headers={})

    def _list(self, query):
        prefix = parse_qs(query).get("prefix", [""])[0]
        keys = sorted(key for key in self._objects if key.startswith(prefix))
        contents = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys)
        return f"<ListBucketResult><KeyCount>{len(keys)}</KeyCount>{contents}</ListBucketResult>".encode()


if __name__ == "__main__":
    serve(Aws())
