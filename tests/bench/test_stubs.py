"""What is counted and held by the two stubs that `make bench` measures against."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from types import SimpleNamespace

import boto3
import pytest
import requests
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent_function

from bench import stubs
from cli import verify
from deployment import TABLE
from fakes import AUDIENCE
from kiva_partner.ledger import ClaimResult, Ledger, Outcome, State
from kiva_partner.messages import Kind, Submission
from sockets import certificate

WORKERS = 4


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    pem, _ = certificate(tmp_path_factory.mktemp("kiva") / "kiva.pem", "localhost")
    with stubs.kiva(pem) as kiva, stubs.aws() as aws:
        kiva.set(token_latency=0)
        aws.set(latency=0)
        yield SimpleNamespace(kiva=kiva, aws=aws, pem=pem)


@pytest.fixture
def kiva(running):
    running.kiva.reset()
    return running.kiva


@pytest.fixture
def aws(running):
    running.aws.reset()
    return running.aws


@pytest.fixture
def dynamodb(aws):
    return client("dynamodb", aws)


@pytest.fixture
def http(running):
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(running.pem)
        session.headers["Authorization"] = "Bearer a-token"
        yield session


def client(service, aws):
    return boto3.client(service, endpoint_url=aws.url)


def counted(stub):
    return {name: number for name, number in stub.counts().items() if number}


def submission(number):
    return Submission(Kind.REPAYMENT, f"R{number}", f"L{number}", "f" * 64, {})


def update(key, condition, **values):
    return {
        "Update": {
            "TableName": TABLE,
            "Key": {"pk": {"S": key}},
            "UpdateExpression": "SET a = :a",
            "ConditionExpression": condition,
            "ExpressionAttributeValues": {":a": {"S": "x"}, **values},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    }


# --- Kiva -------------------------------------------------------------------------------------------------------------


def test_calls_and_rows_are_counted_and_one_connection_carries_them_all(kiva, http):
    partner = f"{kiva.url}/v3/partner/9001"
    token = http.post(f"{kiva.url}/oauth/token", data={"audience": AUDIENCE}).json()
    assert (token["partnerId"], token["expires_in"]) == ("9001", 43_199)
    rows = [{"loan_id": f"L{number}", "client_id": "C", "amount": 10.25} for number in range(3)]
    assert http.post(f"{partner}/repayments", json={"repayments": rows}).json()["upload_id"]
    journals = [{"internal_loan_id": "L1", "internal_client_id": "C", "subject": "", "body": "one"}]
    assert http.post(f"{partner}/journals", json={"journals": journals}).json()["archive_id"]
    assert http.post(f"{partner}/loan_draft", json={"entreps": [{"loan_id": "L1"}]}).json()["loan_draft_uuid"]
    assert http.get(f"{partner}/loans").json() == {"total_records": 0, "data": []}
    calls = dict.fromkeys(("token", "repayments", "journals", "loan_draft", "loans"), 1)
    assert counted(kiva) == {**calls, "rows": 5, "connections": 1}


def test_what_was_taken_before_is_a_duplicate_until_the_reset(kiva, http):
    for amount in (10, 10.0, 11):
        row = {"loan_id": "L1", "amount": amount}
        http.post(f"{kiva.url}/v3/partner/9001/repayments", json={"repayments": [row]})
    assert kiva.counts()["duplicates"] == 1
    kiva.reset()
    http.post(f"{kiva.url}/v3/partner/9001/repayments", json={"repayments": [{"loan_id": "L1", "amount": 10}]})
    assert counted(kiva) == {"repayments": 1, "rows": 1}


def test_one_token_can_be_refused_and_every_token_is_another_one(kiva, http):
    first, second = (http.post(f"{kiva.url}/oauth/token").json()["access_token"] for _ in range(2))
    kiva.set(refuse_token=first)
    statuses = [
        http.get(f"{kiva.url}/v3/partner/9001/loans", headers={"Authorization": f"Bearer {token}"}).status_code
        for token in (first, second)
    ]
    assert statuses == [401, 200]
    assert kiva.counts()["refused"] == 1


def test_answers_take_as_long_as_was_set(kiva, http):
    kiva.set(latency=0.05)
    answer = http.get(f"{kiva.url}/v3/partner/9001/loans")
    kiva.set(latency=0)
    assert answer.elapsed.total_seconds() >= 0.05


def test_a_setting_that_does_not_exist_is_an_error(running):
    with pytest.raises(RuntimeError), stubs.aws() as stub:
        stub.set(lateness=1)


# --- AWS --------------------------------------------------------------------------------------------------------------


def test_only_one_of_those_who_claim_at_once_gets_a_row(aws):
    clients = [client("dynamodb", aws) for _ in range(WORKERS)]

    def work(number):
        own = Ledger(lambda: clients[number], TABLE, "stage#9001")
        return own.claim([submission(each) for each in range(250)], f"owner-{number}", 2e9)

    with ThreadPoolExecutor(WORKERS) as pool:
        results = list(pool.map(work, range(WORKERS)))
    claimed = Counter(reference for each in results for reference, (result, _) in each.items() if result == "CLAIMED")
    assert claimed == Counter({f"R{number}": 1 for number in range(250)})
    busy = sum(result is ClaimResult.BUSY for each in results for result, _ in each.values())
    assert busy == 250 * (WORKERS - 1)


def test_a_transaction_is_all_or_nothing_and_shows_what_is_in_the_way(dynamodb):
    dynamodb.transact_write_items(TransactItems=[update("one", "attribute_not_exists(pk)")])
    both = [update("two", "attribute_not_exists(pk)"), update("one", "a = :b", **{":b": {"S": "y"}})]
    with pytest.raises(dynamodb.exceptions.TransactionCanceledException) as cancelled:
        dynamodb.transact_write_items(TransactItems=both)
    assert [(each["Code"], each.get("Item")) for each in cancelled.value.response["CancellationReasons"]] == [
        ("None", None),
        ("ConditionalCheckFailed", {"pk": {"S": "one"}, "a": {"S": "x"}}),
    ]
    keys = {TABLE: {"Keys": [{"pk": {"S": key}} for key in ("one", "two")]}}
    assert len(dynamodb.batch_get_item(RequestItems=keys)["Responses"][TABLE]) == 1


def test_a_transaction_that_comes_again_is_not_done_again(dynamodb):
    for _ in range(2):
        dynamodb.transact_write_items(
            TransactItems=[update("one", "attribute_not_exists(pk)")], ClientRequestToken="the same one"
        )


def test_units_go_by_started_kilobytes_and_twice_in_transactions(aws, dynamodb):
    dynamodb.put_item(TableName=TABLE, Item={"pk": {"S": "k"}, "a": {"S": "x" * 1020}})  # 1,024 bytes with the names
    dynamodb.put_item(TableName=TABLE, Item={"pk": {"S": "k"}, "a": {"S": "x" * 1021}})
    dynamodb.transact_write_items(TransactItems=[update("k", "attribute_exists(pk)")])
    dynamodb.get_item(TableName=TABLE, Key={"pk": {"S": "k"}}, ConsistentRead=True)
    dynamodb.get_item(TableName=TABLE, Key={"pk": {"S": "k"}})
    assert counted(aws) == {
        "calls": 5,
        "DynamoDB.PutItem": 2,
        "DynamoDB.TransactWriteItems": 1,
        "DynamoDB.GetItem": 2,
        "wru": 1 + 2 + 2 * 2,
        "rru": 1.5,
    }


def test_an_item_that_moves_in_an_index_costs_it_two_writes_and_the_first_time_one(aws, dynamodb):
    for state in ("SENDING", "ACCEPTED"):
        item = {"pk": "k", "kind_state": state, "loan_id": "L", "created_at": "today", "updated_at": "today"}
        dynamodb.put_item(TableName=TABLE, Item={name: {"S": value} for name, value in item.items()})
    assert aws.counts()["index_wru"] == (1 + 1) + (2 + 0)  # the other index holds keys alone, and they stay
    dynamodb.put_item(TableName=TABLE, Item={name: {"S": value} for name, value in item.items()})
    assert aws.counts()["index_wru"] == 4
    dynamodb.put_item(TableName=TABLE, Item={"pk": {"S": "token"}})
    assert aws.counts()["index_wru"] == 4


def test_what_it_does_not_understand_it_refuses(dynamodb):
    with pytest.raises(dynamodb.exceptions.ClientError, match="ValidationException"):
        dynamodb.update_item(TableName=TABLE, Key={"pk": {"S": "k"}}, UpdateExpression="DELETE a :a")
    with pytest.raises(dynamodb.exceptions.ClientError, match="UnknownOperation"):
        dynamodb.scan(TableName=TABLE)


def test_powertools_runs_a_function_once_for_the_same_input(aws, dynamodb):
    store = DynamoDBPersistenceLayer(TABLE, key_attr="pk", boto3_client=dynamodb)
    calls = count(1)

    @idempotent_function(data_keyword_argument="content", persistence_store=store, config=IdempotencyConfig())
    def submit(*, content):
        return {"call": next(calls)}

    assert [submit(content={"loan": number})["call"] for number in (1, 1, 2)] == [1, 1, 2]
    assert counted(aws) == {"calls": 5, "DynamoDB.PutItem": 3, "DynamoDB.UpdateItem": 2, "wru": 5}


def test_powertools_gives_a_record_up_when_the_function_fails(dynamodb):
    store = DynamoDBPersistenceLayer(TABLE, key_attr="pk", boto3_client=dynamodb)

    @idempotent_function(data_keyword_argument="content", persistence_store=store, config=IdempotencyConfig())
    def submit(*, content):
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError):  # noqa: PT011 it is ours
            submit(content={"loan": 1})


def test_the_token_is_gone_after_a_reset_and_the_credentials_are_not(aws):
    secrets = client("secretsmanager", aws)
    secrets.put_secret_value(SecretId="token", SecretString="a-token")
    assert secrets.get_secret_value(SecretId="token")["SecretString"] == "a-token"
    aws.reset()
    assert "client_secret" in secrets.get_secret_value(SecretId="credentials")["SecretString"]
    with pytest.raises(secrets.exceptions.ResourceNotFoundException):
        secrets.get_secret_value(SecretId="token")


def test_queues_parameters_and_objects_are_there(aws):
    sqs, ssm, s3 = (client(service, aws) for service in ("sqs", "ssm", "s3"))
    queue = f"{aws.url}/000000000000/queue"
    assert sqs.send_message(QueueUrl=queue, MessageBody="text")["MessageId"]
    entries = [{"Id": "1", "ReceiptHandle": "r", "VisibilityTimeout": 5}]
    assert sqs.change_message_visibility_batch(QueueUrl=queue, Entries=entries)["Successful"] == [{"Id": "1"}]
    with pytest.raises(ssm.exceptions.ParameterNotFound):
        ssm.get_parameter(Name="token")
    ssm.put_parameter(Name="token", Value="text", Type="SecureString", Overwrite=True)
    assert ssm.get_parameter(Name="token", WithDecryption=True)["Parameter"]["Value"] == "text"
    s3.put_object(Bucket="payloads", Key="unknown/a b", Body=b"photo")
    assert s3.get_object(Bucket="payloads", Key="unknown/a b")["Body"].read() == b"photo"
    found = s3.get_paginator("list_objects_v2").paginate(Bucket="payloads", Prefix="unknown/")
    assert [each["Key"] for page in found for each in page["Contents"]] == ["unknown/a b"]
    s3.delete_object(Bucket="payloads", Key="unknown/a b")
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="payloads", Key="unknown/a b")
    assert aws.counts()["calls"] == 10


def test_a_stub_ends_with_the_block_that_it_was_started_in():
    with stubs.aws() as stub:
        stub.reset()
    with pytest.raises(ValueError, match="closed"):
        stub.counts()


def test_the_ledgers_trial_of_relay_verify_takes_what_it_expects(aws, dynamodb):
    rows = verify.trial("relay-verify")
    ledger = Ledger(lambda: dynamodb, TABLE, "stage#9001")
    aws.reset()
    claims = ledger.claim(rows, "me", 10**10, {row.reference: "call" for row in rows})
    assert {claim for claim, _ in claims.values()} == {ClaimResult.CLAIMED}
    ledger.settle(
        [(row, Outcome(State.REJECTED, "made by relay-verify, and never sent", call_id="call")) for row in rows], "me"
    )
    counts = counted(aws)
    assert (counts["wru"] + counts["index_wru"]) / len(rows) == verify.UNITS
