"""Cut what botocore brings along to the operations in use: 25 MB to 0.2 MB, and much of a cold start.

    cut_botocore.py BOTOCORE    in place, in a copy of the package

botocore reads a model whole, however little of it is called. What stays is as it was, but for the documentation; a
service that is not here is an UnknownServiceError that names those that are. And it imports what writes documentation
for `help()` with every client. All of it is tested (test_cut_botocore.py).
"""

import gzip
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

OPERATIONS = {
    "dynamodb": (
        *("BatchGetItem", "DeleteItem", "DescribeTable", "GetItem", "PutItem", "Query", "TransactWriteItems"),
        "UpdateItem",
    ),
    "events": ("PutEvents",),
    "s3": ("DeleteObject", "GetObject", "HeadObject", "ListObjectsV2", "PutObject"),
    "secretsmanager": ("GetSecretValue", "PutSecretValue"),
    "sns": ("Publish",),
    "sqs": ("ChangeMessageVisibilityBatch", "GetQueueAttributes", "SendMessage"),
    "ssm": ("GetParameter", "PutParameter"),
}

FOR_ALL_SERVICES = ("_retry.json", "partitions.json", "sdk-default-configuration.json")


WITHOUT_DOCUMENTATION = '''"""Cut by kiva-relay's layer: nobody asks for help() in a Lambda function."""


class LazyLoadedDocstring(str):
    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass


ClientMethodDocstring = WaiterDocstring = PaginatorDocstring = LazyLoadedDocstring
'''


def cut(botocore: Path) -> None:
    """Leave only what the operations need."""
    cut_data(botocore / "data")
    # The package itself imports the writers of documentation; what else lies in it is asked for by its name.
    (botocore / "docs" / "__init__.py").write_text("DEPRECATED_SERVICE_NAMES = frozenset()  # boto3 imports it\n")
    (botocore / "docs" / "docstring.py").write_text(WITHOUT_DOCUMENTATION)


def cut_data(data: Path) -> None:
    """Leave in `data` only what the operations need."""
    whole = data.rename(data.with_name("data-whole"))
    data.mkdir()
    for name in FOR_ALL_SERVICES:
        shutil.copy(whole / name, data)
    _write(data / "endpoints.json", _cut_endpoints(_read(whole / "endpoints.json")))
    for service, operations in OPERATIONS.items():
        latest = max((whole / service).iterdir())
        to = data / service / latest.name
        to.mkdir(parents=True)
        shutil.copy(latest / "endpoint-rule-set-1.json.gz", to)
        _write(to / "service-2.json", _cut_model(_merged(latest, "service-2"), operations))
        paginators = _merged(latest, "paginators-1")["pagination"]
        _write(to / "paginators-1.json", {"pagination": {it: paginators[it] for it in operations if it in paginators}})
    shutil.rmtree(whole)


def _cut_endpoints(endpoints: dict[str, Any]) -> dict[str, Any]:
    for partition in endpoints["partitions"]:
        partition["services"] = {name: it for name, it in partition["services"].items() if name in OPERATIONS}
    return endpoints


def _cut_model(model: dict[str, Any], operations: Iterable[str]) -> dict[str, Any]:
    kept = {name: model["operations"][name] for name in operations}
    shapes: dict[str, Any] = {}
    waiting = [name for operation in kept.values() for name in _shapes_in(operation)]
    while waiting:
        name = waiting.pop()
        if name not in shapes:
            shapes[name] = model["shapes"][name]
            waiting += _shapes_in(shapes[name])
    return {**model, "operations": _undocumented(kept), "shapes": _undocumented(shapes)}


def _shapes_in(value: object) -> Iterator[str]:
    """The names of the shapes that an operation or a shape refers to."""
    match value:
        case dict():
            if isinstance(shape := value.get("shape"), str):
                yield shape
            for each in value.values():
                yield from _shapes_in(each)
        case list():
            for each in value:
                yield from _shapes_in(each)


def _undocumented(value: Any) -> Any:
    """Without documentation, which is always a text; a member of a shape that is called so too is a mapping."""
    match value:
        case dict():
            return {
                name: _undocumented(each)
                for name, each in value.items()
                if not (name in ("documentation", "documentationUrl") and isinstance(each, str))
            }
        case list():
            return [_undocumented(each) for each in value]
    return value


def _merged(folder: Path, name: str) -> dict[str, Any]:
    """A file of botocore with what its own `sdk-extras` add to it."""
    document = _read(next(folder.glob(f"{name}.json*")))
    for extras in folder.glob(f"{name}.sdk-extras.json"):
        _merge(document, _read(extras)["merge"])
    return document


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value


def _read(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    document: dict[str, Any] = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    return document


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, separators=(",", ":")))


if __name__ == "__main__":
    cut(Path(sys.argv[1]))
