"""Who may do what, compared for equality: a right too many fails as surely as one too few."""

import fnmatch
import json
from typing import Any

import pytest

from template.cloudformation import Template, as_deployed, listed, named, of_type, read, translate
from template.rules import AWS_POLICIES, OUR_PARAMETER

Right = tuple[str, str]


def rows(*keys: str, of: str = "LedgerTable.Arn") -> str:
    """The ledger, or an index of it, where the leading key is one of these."""
    named_keys = [f"${{KivaEnvironment}}#${{KivaPartnerId}}#{key}" for key in keys]
    shown = json.dumps(named_keys if len(keys) > 1 else named_keys[0])
    return f"{of} if ForAllValues:StringLike dynamodb:LeadingKeys {shown}"


def key_in(*services: str) -> str:
    """The stack's key, in the hands of these services."""
    names = [f"{service}.${{AWS::Region}}.${{AWS::URLSuffix}}" for service in services]
    return f"StackKey.Arn if StringEquals kms:ViaService {json.dumps(names)}"


def actions(resource: str, *names: str) -> set[Right]:
    return {(name, resource) for name in names}


TOKEN_IN = {
    "secrets-manager": actions("TokenSecret.Id", "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"),
    "ssm": actions(OUR_PARAMETER, "ssm:GetParameter", "ssm:PutParameter"),
}
CALL_KIVA = (
    actions("CredentialsSecret.Id", "secretsmanager:GetSecretValue")
    | actions(rows("lease#*"), "dynamodb:PutItem", "dynamodb:DeleteItem")
    | actions("LedgerTable.Arn", "dynamodb:DescribeTable")
    | actions(
        key_in("dynamodb", "s3", "secretsmanager", "sqs", "ssm"),
        "kms:Decrypt",
        "kms:DescribeKey",
        "kms:Encrypt",
        "kms:GenerateDataKey",
    )
)


def submit(name: str, kind: str) -> set[Right]:
    queue, dead_letters = f"{name}Queue.Arn", f"{name}DeadLetterQueue.Arn"
    return (
        actions(
            queue, "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"
        )
        | actions(queue, "sqs:SendMessage")
        | actions(dead_letters, "sqs:SendMessage")
        | actions("${PayloadBucket.Arn}/dead-letters/*", "s3:PutObject")
        | actions(f"${{PayloadBucket.Arn}}/unknown/{kind}/*", "s3:GetObject", "s3:PutObject")
        | actions("PayloadBucket.Arn", "s3:ListBucket")
        | actions(
            rows(f"submission#{kind}#*", f"message#{kind}#*", f"proof#{kind}#*", "sending"),
            *("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"),
        )
    )


KINDS = ("LoanDrafts", "JournalUpdates", "Repayments")
SEARCH = actions(rows("*", of="${LedgerTable.Arn}/index/*"), "dynamodb:Query")
SETTLE = actions(rows("submission#*", "proof#*", "sending"), "dynamodb:UpdateItem")


def look(*keys: str) -> set[Right]:
    return actions(rows(*keys), "dynamodb:GetItem", "dynamodb:BatchGetItem")


FORGET = actions("PayloadBucket.Arn", "s3:ListBucket") | actions("${PayloadBucket.Arn}/unknown/*", "s3:DeleteObject")
FUNCTIONS = {
    "LoanDraftsFunction": submit("LoanDrafts", "loan_draft")
    | actions(rows("catalogue"), "dynamodb:GetItem")
    | actions("${PayloadBucket.Arn}/photos/*", "s3:GetObject", "s3:PutObject"),
    "JournalUpdatesFunction": submit("JournalUpdates", "journal_update"),
    "RepaymentsFunction": submit("Repayments", "repayment")
    | actions(rows("*", of="${LedgerTable.Arn}/index/by_loan"), "dynamodb:Query"),
    "ConsoleFunction": look("submission#*", "message#*", "done#*", "run#*", "sending")
    | SEARCH
    | SETTLE
    | actions(rows("done#*"), "dynamodb:PutItem"),
    "HousekeepingFunction": look("submission#*", "catalogue", "sending")
    | SEARCH
    | SETTLE
    | FORGET
    | actions(rows("catalogue", "run#housekeeping"), "dynamodb:PutItem")
    | {("sqs:SendMessage", f"{name}Queue.Arn") for name in KINDS}
    | {("sqs:GetQueueAttributes", f"{name}Queue.Arn") for name in KINDS}
    | {("sqs:GetQueueAttributes", f"{name}DeadLetterQueue.Arn") for name in (*KINDS, "Outcomes")},
}
OUTCOMES = (
    SEARCH
    | look("submission#*", "done#*", "sending")
    | actions(rows("submission#*"), "dynamodb:UpdateItem")
    | actions(rows("run#digest"), "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem")
    | actions("LedgerTable.Arn", "dynamodb:DescribeTable")
    | actions(
        "${LedgerTable.Arn}/stream/*",
        *("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"),
    )
    | actions("*", "dynamodb:ListStreams")
    | actions("EventBus.Arn", "events:PutEvents")
    | actions("OutcomesDeadLetterQueue.Arn", "sqs:SendMessage")
    | actions(key_in("dynamodb", "sns", "sqs"), "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey")
)
"""Of the one function that never calls Kiva: no credentials, no token."""


def deployed(token_store: str, **others: str) -> Template:
    stack = {"KivaEnvironment": "stage", "KivaPartnerId": "9001", "TokenStore": token_store}
    return as_deployed(translate(read()), stack | others)


def rights(template: Template, role: dict[str, Any]) -> set[Right]:
    """Everything that a role of this template may do, apart from AWS's own policies for logs and traces."""
    policies = of_type(template, "AWS::IAM::ManagedPolicy")
    documents = [it["PolicyDocument"] for it in role.get("Policies", [])]
    for policy in role.get("ManagedPolicyArns", []):
        if named(policy) in policies:
            documents.append(policies[named(policy)]["PolicyDocument"])
        else:
            assert named(policy).endswith(AWS_POLICIES)
    return {
        (action, named(resource) + _only_if(statement))
        for document in documents
        for statement in document["Statement"]
        if statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }


def _only_if(statement: dict[str, Any]) -> str:
    return "".join(
        f" if {operator} {key} {json.dumps([*map(named, value)] if isinstance(value, list) else named(value))}"
        for operator, keys in statement.get("Condition", {}).items()
        for key, value in keys.items()
    )


@pytest.mark.parametrize("token_store", TOKEN_IN)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_may_do_exactly_this(function, token_store):
    template = deployed(token_store)
    role = of_type(template, "AWS::IAM::Role")[f"{function}Role"]
    assert rights(template, role) == FUNCTIONS[function] | CALL_KIVA | TOKEN_IN[token_store]


@pytest.mark.parametrize("token_store", TOKEN_IN)
def test_the_function_that_never_calls_kiva_may_do_exactly_this(token_store):
    template = deployed(token_store)
    assert rights(template, of_type(template, "AWS::IAM::Role")["OutcomesFunctionRole"]) == OUTCOMES


def test_with_a_coordinator_it_mails_and_no_other_function_does():
    template = deployed("ssm", CoordinatorEmail="coordinator@example.org")
    roles = of_type(template, "AWS::IAM::Role")
    mails = actions("DigestTopic", "sns:Publish")
    assert {name for name, role in roles.items() if rights(template, role) & mails} == {"OutcomesFunctionRole"}
    assert rights(template, roles["OutcomesFunctionRole"]) == OUTCOMES | mails


def test_other_accounts_submit_and_follow_what_they_sent_and_nothing_else():
    template = deployed("ssm", ApiAllowedAccounts="123456789012,210987654321")
    body = of_type(template, "AWS::ApiGateway::RestApi")["RelayApi"]["Body"]
    (statement,) = body["x-amazon-apigateway-policy"]["Statement"]
    assert statement["Effect"] == "Allow"
    routes = {f"{method.upper()} {path}" for path, methods in body["paths"].items() for method in methods}
    patterns = [it.removeprefix("execute-api:/v1/") for it in statement["Resource"]]
    asked = {route: route.replace(" /", "/").replace("{", "").replace("}", "") for route in routes}
    assert {it for it in routes if any(fnmatch.fnmatchcase(asked[it], pattern) for pattern in patterns)} == {
        "POST /loan-drafts",
        "POST /journal-updates",
        "POST /repayments",
        "GET /submissions/{kind}/{reference}",
        "GET /openapi.json",
    }
    assert [it for it in patterns if not any(fnmatch.fnmatchcase(each, it) for each in asked.values())] == []


def test_no_role_was_forgotten_and_those_that_are_not_functions_can_do_one_thing():
    template = deployed("secrets-manager")
    roles = of_type(template, "AWS::IAM::Role")
    functions = {*FUNCTIONS, "OutcomesFunction"}
    others = {
        name: rights(template, role) for name, role in roles.items() if name.removesuffix("Role") not in functions
    }
    assert others == {
        "HousekeepingFunctionEveryFiveMinutesRole": {("lambda:InvokeFunction", "HousekeepingFunction.Arn")},
        "OutcomesFunctionEveryMorningRole": {("lambda:InvokeFunction", "OutcomesFunction.Arn")},
        "ApiGatewayLogsRole": set(),
    }
    assert of_type(template, "AWS::Lambda::Function").keys() == functions
