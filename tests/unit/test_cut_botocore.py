"""botocore's data as the layer ships it, held against the whole of it."""

import ast
import importlib.util
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import botocore
import botocore.session
import pytest
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.loaders import Loader

from fakes import answer_at_once

ROOT = Path(__file__).parents[2]
LAYER = ROOT / "layers" / "kiva_partner"

SPEC = importlib.util.spec_from_file_location("cut_botocore", LAYER / "cut_botocore.py")
cut_botocore = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(cut_botocore)
OPERATIONS = cut_botocore.OPERATIONS

REGIONS = ("us-east-1", "eu-central-1", "af-south-1", "us-gov-west-1", "cn-north-1")


@pytest.fixture(scope="module")
def cut_data(tmp_path_factory):
    data = tmp_path_factory.mktemp("layer") / "data"
    shutil.copytree(Path(botocore.__file__).parent / "data", data)
    cut_botocore.cut_data(data)
    return data


@pytest.fixture(scope="module")
def session(cut_data):
    """A session that finds nothing but the cut data."""
    session = new_session()
    session.register_component("data_loader", Loader([str(cut_data)], include_default_search_paths=False))
    return session


@cache
def stock_session():
    """One that finds all of it."""
    return new_session()


def new_session():
    session = botocore.session.Session()
    session.set_credentials("id", "secret")
    return session


@pytest.mark.parametrize("service", OPERATIONS)
def test_the_operations_in_use_are_as_they_were(service, session):
    ours, theirs = session.get_service_model(service), stock_session().get_service_model(service)
    assert set(ours.operation_names) == set(OPERATIONS[service])
    assert ours.metadata == theirs.metadata
    for name in OPERATIONS[service]:
        assert of_operation(ours.operation_model(name)) == of_operation(theirs.operation_model(name))


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("service", OPERATIONS)
def test_clients_call_the_same_places(service, region, session):
    ours, theirs = (each.create_client(service, region) for each in (session, stock_session()))
    assert ours.meta.endpoint_url == theirs.meta.endpoint_url
    assert ours.meta.partition == theirs.meta.partition
    assert ours.meta.config.signature_version == theirs.meta.config.signature_version


ARGUMENTS = {
    "Bucket": "payloads",
    "Body": b"1",
    "QueueUrl": "https://sqs.us-east-1.amazonaws.com/1/queue",
    "Entries": [{"Id": "0", "ReceiptHandle": "handle", "VisibilityTimeout": 1}],
    "TransactItems": [],
    "RequestItems": {},
    "Item": {},
    "Message": "1 draft to publish",
}
ANSWERS = {"sns": b"<PublishResponse><PublishResult/></PublishResponse>"}
"""Of the services that speak XML: an empty one is none."""
EVENT = {"Entries": [{"Time": datetime(2026, 11, 25, tzinfo=UTC), "Source": "kiva-relay", "Detail": "{}"}]}


@pytest.mark.parametrize(("service", "name"), [(each, name) for each, names in OPERATIONS.items() for name in names])
def test_every_operation_sends_the_same_request(service, name, session):
    ours, theirs = (request(each, service, name) for each in (session, stock_session()))
    assert ours == theirs


def request(session, service, name):
    """What the operation sends, but for what says when."""
    client = session.create_client(service, "us-east-1", config=Config(parameter_validation=False))
    requests = answer_at_once(client, (200, ANSWERS.get(service, b"")))
    shape = client.meta.service_model.operation_model(name).input_shape
    once = {"ClientRequestToken"} & set(shape.members)
    arguments = ARGUMENTS | (EVENT if service == "events" else {})
    key = {"Key": {"pk": {"S": "1"}}} if service == "dynamodb" else {}
    getattr(client, xform_name(name))(**{it: (arguments | key).get(it, it) for it in {*shape.required_members, *once}})
    (sent,) = requests
    return sent.method, sent.url, sent.body.read() if hasattr(sent.body, "read") else sent.body, set(sent.headers)


def test_pages_are_turned_as_before(session):
    ours, theirs = (
        each.get_paginator_model("s3").get_paginator("ListObjectsV2") for each in (session, stock_session())
    )
    assert ours == theirs


MAKE_CLIENTS = """
import sys, botocore.session
session = botocore.session.Session()
session.set_credentials("id", "secret")
for service in sys.argv[1:]:
    client = session.create_client(service, "us-east-1")
print(repr(session.create_client("s3", "us-east-1").get_object.__doc__))
session.create_client("s3", "us-east-1").get_paginator("list_objects_v2")
print(sorted(name for name in sys.modules if name.startswith("botocore.docs")))
import boto3.session
boto3.session.Session("id", "secret", region_name="us-east-1").client("s3")
"""


def test_clients_come_without_what_writes_documentation_and_boto3_lives_with_that(tmp_path):
    package = tmp_path / "botocore"
    shutil.copytree(Path(botocore.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "examples*"))
    cut_botocore.cut(package)
    command = [sys.executable, "-c", MAKE_CLIENTS, *OPERATIONS]
    said = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True)  # noqa: S603
    assert said.stdout.splitlines() == [
        "''",
        "['botocore.docs', 'botocore.docs.docstring', 'botocore.docs.utils']",
    ]


def test_what_is_cut_is_a_tiny_part(cut_data):
    assert sum(path.stat().st_size for path in cut_data.rglob("*")) < 260_000


def test_a_service_that_is_not_there_is_named_with_those_that_are(session):
    with pytest.raises(UnknownServiceError, match=r"'kinesis'.*dynamodb.*s3.*secretsmanager.*sqs.*ssm"):
        session.create_client("kinesis", "us-east-1")


def test_an_operation_that_is_not_there_is_no_method_of_the_client(session):
    with pytest.raises(AttributeError, match="'DynamoDB' object has no attribute 'scan'"):
        session.create_client("dynamodb", "us-east-1").scan  # noqa: B018


def test_a_waiter_is_not_there(session):
    with pytest.raises((ValueError, DataNotFoundError)):
        session.create_client("s3", "us-east-1").get_waiter("bucket_exists")


def test_the_layer_calls_no_operation_that_was_cut_away():
    """Every method call of the layer's that could be one of these services' is one of the operations kept."""
    theirs, kept = set(), set()
    for service, names in OPERATIONS.items():
        theirs |= {xform_name(name) for name in stock_session().get_service_model(service).operation_names}
        kept |= {xform_name(name) for name in names}
    assert (called() & theirs) - kept == set()


def test_no_operation_is_kept_that_nobody_calls():
    kept = {xform_name(name) for names in OPERATIONS.values() for name in names}
    assert kept - called() == set()


def called():
    """Names of all methods that the layer calls, and of the pages that it turns."""
    found = set()
    for path in (LAYER / "kiva_partner").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                found.add(node.func.attr)
                if node.func.attr == "get_paginator":
                    found.add(node.args[0].value)
    return found


def of_operation(model):
    """All that an operation says but its documentation, and all that its shapes say."""
    own = {name: value for name, value in model._operation_model.items() if not name.startswith("documentation")}
    errors = {shape.name: of_shape(shape) for shape in model.error_shapes}
    return own | {"errors": errors, "input": of_shape(model.input_shape), "output": of_shape(model.output_shape)}


def of_shape(shape, above=()):
    if shape is None or shape.name in above:
        return None
    above = (*above, shape.name)
    parts = dict(getattr(shape, "members", {})) | {
        part: getattr(shape, part) for part in ("member", "key", "value") if hasattr(shape, part)
    }
    inside = {name: of_shape(part, above) for name, part in parts.items()}
    return shape.name, shape.type_name, shape.serialization, shape.metadata, inside
