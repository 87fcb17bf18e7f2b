"""What must hold of the template and no scanner checks.

Each rule takes the translated template as a stack with the default parameters has it, and yields a sentence for
everything that breaks it.
"""

import json
import math
import re
from collections.abc import Iterator
from itertools import count, product, takewhile
from typing import Any

from cli.stacks import LONGEST_NAME
from kiva_partner.client import RECORD_SECONDS
from kiva_partner.housekeeping import RETENTION_SECONDS
from kiva_partner.messages import MAX_MESSAGE_BYTES
from kiva_partner.queues import FIRST_WAIT, MOST_RECEIVES
from kiva_partner.tokens import ANSWER_SECONDS
from template.cloudformation import Template, listed, named, of_type

GATEWAY_TIMEOUT = 29
"""API Gateway's own limit in seconds."""
OUTAGE = 24 * 3600
STREAM_KEEPS = 24 * 3600
"""Seconds that DynamoDB keeps a change in a stream."""
LONGEST_WAIT = 3600
"""The visibility that waiting messages grow to; with equal jitter they wait for half of it at the least."""
RUN_SECONDS = 300
"""Between two runs of housekeeping."""
QUARTER = 900
GAUGES = (
    "CircuitsOpen", "DeadLetters", "OutcomeDeadLetters", "QueuesNotEmptied", "RefusedPercent", "UnknownWaiting",
)  # fmt: skip
"""What housekeeping says at each run, where it is not zero."""
COUNTS = ("KivaUnavailable", "Misconfigured", "TokenRenewalFailed")
NEW_ACCOUNT = 10
"""Environments at once."""
HOUSEKEEPING, PEOPLE = 1, 2
"""Of them, for housekeeping and for whoever uses the API."""
FREE_METRICS = 50
"""Of a dashboard."""
ROOM_FOR_ATTRIBUTES = 40_000
"""Bytes: of ten attributes, of which none has more than a reason's four thousand characters."""
COLUMNS = 24
"""Of a dashboard (CloudWatch, "Dashboard body structure and syntax")."""
METRICS_OF_AWS = {
    ("AWS/SQS", ("QueueName",)): {
        "NumberOfMessagesSent", "ApproximateNumberOfMessagesVisible",
    },
    ("AWS/Lambda", ("FunctionName",)): {"Duration", "Errors", "Throttles", "Invocations", "IteratorAge"},
    ("AWS/ApiGateway", ("ApiName",)): {"Count", "4XXError", "5XXError", "Latency"},
    ("AWS/DynamoDB", ("TableName",)): {"ReadThrottleEvents", "WriteThrottleEvents"},
    ("AWS/DynamoDB", ("GlobalSecondaryIndexName", "TableName")): {"ReadThrottleEvents", "WriteThrottleEvents"},
}  # fmt: skip
"""Those that are drawn, by namespace and dimensions, as each service's page on its CloudWatch metrics lists them."""

OUR_PATH = "/${AWS::StackName}/"
OUR_ROLES = f"arn:${{AWS::Partition}}:iam::${{AWS::AccountId}}:role{OUR_PATH}*"
"""The roles of the functions that call Kiva, by which policies tell them from all others."""

OUR_PARAMETER = (
    "arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter/kiva-relay/${AWS::StackName}/token"
)

Metric = tuple[str, str, tuple[tuple[str, str], ...]]
"""Namespace, name, and dimensions in their order."""


def timeouts_cover_kivas_slowest_answers(template: Template) -> Iterator[str]:
    limits = template["Parameters"]
    connect, read = (limits[f"Kiva{it}TimeoutSeconds"]["MaxValue"] for it in ("Connect", "Read"))
    # Connecting and sending are bounded alike. Two calls, because a refused token earns a second try within one claim.
    needed = 2 * (2 * connect + read) + ANSWER_SECONDS + RECORD_SECONDS
    for name in _behind_queues(template):
        if of_type(template, "AWS::Lambda::Function")[name]["Timeout"] < needed:
            yield f"{name} may be killed while it waits for Kiva: it needs {needed} s"


def readers_answer_before_the_gateway_gives_up(template: Template) -> Iterator[str]:
    connect = template["Parameters"]["KivaConnectTimeoutSeconds"]["MaxValue"]
    console = of_type(template, "AWS::Lambda::Function")["ConsoleFunction"]
    if int(console["Environment"]["Variables"]["KIVA_READ_TIMEOUT_SECONDS"]) + connect >= GATEWAY_TIMEOUT:
        yield "ConsoleFunction waits for Kiva longer than API Gateway waits for it"
    if console["Timeout"] < GATEWAY_TIMEOUT:
        yield "ConsoleFunction ends before API Gateway would"


def every_function_logs_to_a_group_that_forgets(template: Template) -> Iterator[str]:
    groups = of_type(template, "AWS::Logs::LogGroup")
    for name, function in of_type(template, "AWS::Lambda::Function").items():
        logging = function.get("LoggingConfig", {})
        group = groups.get(named(logging.get("LogGroup")), {})
        if logging.get("LogFormat") != "JSON":
            yield f"{name} does not log in JSON"
        if not group.get("RetentionInDays"):
            yield f"{name} logs to no group with a retention"
        elif named(group["LogGroupName"]) != f"/aws/lambda/{named(function['FunctionName'])}":
            yield f"{name} logs where nobody looks: the group is not named after it"


def every_function_has_its_own_role(template: Template) -> Iterator[str]:
    for name, function in of_type(template, "AWS::Lambda::Function").items():
        if named(function["Role"]) != f"{name}Role.Arn":
            yield f"{name} runs as {named(function['Role'])}"


def messages_stay_hidden_while_a_function_has_them(template: Template) -> Iterator[str]:
    for name, mapping, queue in _mappings(template):
        timeout = of_type(template, "AWS::Lambda::Function")[named(mapping["FunctionName"])]["Timeout"]
        longest = _limit(template, mapping["MaximumBatchingWindowInSeconds"], "MaxValue")
        if queue["VisibilityTimeout"] < 6 * timeout + longest:
            yield f"{name}: the visibility timeout is less than 6 x {timeout} s and the longest batching window"


def one_bad_message_does_not_bring_its_batch_back(template: Template) -> Iterator[str]:
    for name, mapping, _ in _mappings(template):
        if mapping.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
            yield f"{name} does not report batch item failures"


def no_message_is_filtered_away(template: Template) -> Iterator[str]:
    for name, mapping, _ in _mappings(template):
        if "FilterCriteria" in mapping:
            yield f"{name} has a filter: what it does not match is deleted unseen"


def no_deployment_resumes_what_is_paused(template: Template) -> Iterator[str]:
    """`relay pause` disables a mapping; CloudFormation sends what the template says, so it may not say `Enabled`."""
    for name, mapping, _ in _mappings(template):
        if "Enabled" in mapping:
            yield f"{name} says whether it is enabled: a change of it would end a pause"


def no_outcome_is_given_up_before_the_stream_loses_it(template: Template) -> Iterator[str]:
    mapping = _of_the_stream(template)
    if mapping.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
        yield "OutcomesFromLedger does not hear which record failed"
    if mapping.get("MaximumRetryAttempts") != -1:
        yield "OutcomesFromLedger gives up after some attempts, however short they took"
    if not mapping.get("BisectBatchOnFunctionError"):
        yield "OutcomesFromLedger gives up what is well together with what is not"
    if not STREAM_KEEPS - 2 * 3600 <= mapping.get("MaximumRecordAgeInSeconds", -1) < STREAM_KEEPS:
        yield "OutcomesFromLedger gives up hours before the stream loses it, or when it is no longer there to be read"
    if (
        named(mapping.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination"))
        != "OutcomesDeadLetterQueue.Arn"
    ):
        yield "OutcomesFromLedger gives up without a word"
    if mapping.get("StartingPosition") != "TRIM_HORIZON":
        yield "OutcomesFromLedger misses what settles while it is deployed"


def outcomes_and_nothing_else_wake_their_function(template: Template) -> Iterator[str]:
    table = of_type(template, "AWS::DynamoDB::Table")["LedgerTable"]
    if table.get("StreamSpecification") != {"StreamViewType": "NEW_AND_OLD_IMAGES"}:
        yield "LedgerTable does not tell what was there before, by which a mark is told from an outcome"
    states = ["ACCEPTED", "REJECTED", "STUCK", "UNKNOWN", "ABANDONED"]
    wanted = {"eventName": ["INSERT", "MODIFY"], "dynamodb": {"NewImage": {"state": {"S": states}}}}
    filters = _of_the_stream(template).get("FilterCriteria", {}).get("Filters", [])
    if [json.loads(it["Pattern"]) for it in filters] != [wanted]:
        yield f"OutcomesFromLedger lets through {filters}"


def one_function_alone_mails_the_coordinator(template: Template) -> Iterator[str]:
    """Without a policy of ours SNS lets the whole account publish (SNS Developer Guide, on the default policy)."""
    role = {"Fn::GetAtt": ["OutcomesFunctionRole", "Arn"]}
    closed = {
        named(topic)
        for policy in of_type(template, "AWS::SNS::TopicPolicy").values()
        for it in policy["PolicyDocument"]["Statement"]
        if (it["Effect"], it["Principal"], it["Action"]) == ("Deny", "*", "sns:Publish")
        if it.get("Condition") == {"ArnNotEquals": {"aws:PrincipalArn": role}}
        for topic in policy["Topics"]
    }
    for name, policy in of_type(template, "AWS::SNS::TopicPolicy").items():
        if any(it["Effect"] != "Deny" for it in policy["PolicyDocument"]["Statement"]):
            yield f"{name} gives somebody a right"
    for name in of_type(template, "AWS::SNS::Topic").keys() - closed:
        yield f"{name} takes messages of others than the function behind the stream"
    if of_type(template, "AWS::Events::Rule"):
        yield "a rule tells somebody what the function tells by itself"


def every_queue_has_a_valve_towards_kiva(template: Template) -> Iterator[str]:
    for name, mapping, _ in _mappings(template):
        parameter = template["Parameters"].get(named(mapping.get("ScalingConfig", {}).get("MaximumConcurrency")), {})
        if not 2 <= parameter.get("MinValue", 0) <= parameter.get("Default", 0):  # AWS takes nothing below 2
            yield f"{name} has no MaximumConcurrency of 2 or more"


def ten_environments_are_enough_for_a_stack(template: Template) -> Iterator[str]:
    """As many as a new account has (Lambda, "Lambda quotas"). What is not reserved must be as many at least."""
    behind_queues = sum(
        int(_limit(template, it["ScalingConfig"]["MaximumConcurrency"], "Default")) for _, it, _ in _mappings(template)
    )
    # One for each shard of the stream; a table at rest has few, and one that writes little has one.
    others = _of_the_stream(template)["ParallelizationFactor"] + HOUSEKEEPING + PEOPLE
    if behind_queues + others > NEW_ACCOUNT:
        yield f"queues take {behind_queues} of {NEW_ACCOUNT} environments, and the others need {others}"
    for name, function in of_type(template, "AWS::Lambda::Function").items():
        if "ReservedConcurrentExecutions" in function:
            yield f"{name} reserves what a new account has not"


def large_batches_have_a_window(template: Template) -> Iterator[str]:
    for name, mapping, _ in _mappings(template):
        largest = _limit(template, mapping["BatchSize"], "MaxValue")
        if largest > 10 and not _limit(template, mapping["MaximumBatchingWindowInSeconds"], "MinValue"):
            yield f"{name}: AWS refuses batches of more than 10 without a window"


def every_queue_has_its_own_dead_letter_queue(template: Template) -> Iterator[str]:
    queues = of_type(template, "AWS::SQS::Queue")
    for name, queue in _sources(template).items():
        dead_letters = f"{name.removesuffix('Queue')}DeadLetterQueue"
        if named(queue.get("RedrivePolicy", {}).get("deadLetterTargetArn")) != f"{dead_letters}.Arn":
            yield f"{name} has not its own dead-letter queue"
            continue
        allowed = queues[dead_letters].get("RedriveAllowPolicy", {})
        arn = f"arn:${{AWS::Partition}}:sqs:${{AWS::Region}}:${{AWS::AccountId}}:{named(queue['QueueName'])}"
        if allowed.get("redrivePermission") != "byQueue" or [*map(named, allowed["sourceQueueArns"])] != [arn]:
            yield f"{dead_letters} serves not just {name}"
        if queues[dead_letters]["MessageRetentionPeriod"] <= queue["MessageRetentionPeriod"]:
            yield f"{dead_letters} forgets no later than {name}, and its messages age from the day they were first sent"


def the_largest_message_fits_into_every_queue(template: Template) -> Iterator[str]:
    """With the attributes of a dead letter, which count too (SQS Developer Guide, "Amazon SQS message quotas")."""
    for name, queue in of_type(template, "AWS::SQS::Queue").items():
        if not MAX_MESSAGE_BYTES + ROOM_FOR_ATTRIBUTES <= queue.get("MaximumMessageSize", 0) <= 2**20:
            yield f"{name} takes no message of {MAX_MESSAGE_BYTES} bytes with its attributes, or more than SQS does"


def an_outage_of_kiva_reaches_no_dead_letter_queue(template: Template) -> Iterator[str]:
    for name, queue in _sources(template).items():
        # Half for the jitter, and twice the outage, because the first waits are shorter.
        if _receives(queue) * LONGEST_WAIT / 2 < 2 * OUTAGE:
            yield f"{name}: an outage of {OUTAGE // 3600} h may use up its receives"


def no_message_expires_unseen(template: Template) -> Iterator[str]:
    for name, queue in _sources(template).items():
        longest = max(LONGEST_WAIT, queue["VisibilityTimeout"])
        if _receives(queue) * longest >= queue["MessageRetentionPeriod"]:
            yield f"{name} deletes a message that waits before it becomes a dead letter"


def what_is_stuck_is_told_by_the_numbers_of_the_queues(template: Template) -> Iterator[str]:
    for name, queue in _sources(template).items():
        if _receives(queue) != MOST_RECEIVES:
            yield f"{name} gives a message {_receives(queue)} times, the functions expect {MOST_RECEIVES}"
        if queue["MessageRetentionPeriod"] != RETENTION_SECONDS:
            yield f"{name} keeps no message for the {RETENTION_SECONDS} s after which housekeeping calls its rows stuck"


def queues_and_bucket_speak_only_tls(template: Template) -> Iterator[str]:
    covered = {
        named(queue)
        for policy in of_type(template, "AWS::SQS::QueuePolicy").values()
        if any(_denies_plain_http(it, "sqs:*", ["*"]) for it in policy["PolicyDocument"]["Statement"])
        for queue in policy["Queues"]
    }
    for policy in of_type(template, "AWS::S3::BucketPolicy").values():
        bucket = named(policy["Bucket"])
        everything = [f"{bucket}.Arn", f"${{{bucket}.Arn}}/*"]
        if any(_denies_plain_http(it, "s3:*", everything) for it in policy["PolicyDocument"]["Statement"]):
            covered.add(bucket)
    for name in [*of_type(template, "AWS::SQS::Queue"), *of_type(template, "AWS::S3::Bucket")]:
        if name not in covered:
            yield f"{name} may be reached without TLS"


def everything_that_is_kept_is_encrypted_with_the_stacks_key(template: Template) -> Iterator[str]:
    keys = {name: it.get("KmsMasterKeyId") for name, it in of_type(template, "AWS::SQS::Queue").items()}
    keys |= {name: it.get("KmsMasterKeyId") for name, it in of_type(template, "AWS::SNS::Topic").items()}
    for kind in ("AWS::SecretsManager::Secret", "AWS::Logs::LogGroup"):
        keys |= {name: it.get("KmsKeyId") for name, it in of_type(template, kind).items()}
    for name, table in of_type(template, "AWS::DynamoDB::Table").items():
        encryption = table.get("SSESpecification", {})
        keys[name] = encryption.get("KMSMasterKeyId") if encryption.get("SSEEnabled") else None
    for name, bucket in of_type(template, "AWS::S3::Bucket").items():
        rules = bucket.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", [{}])
        how = rules[0].get("ServerSideEncryptionByDefault", {})
        keys[name] = how.get("KMSMasterKeyID") if how.get("SSEAlgorithm") == "aws:kms" else None
    for name, function in of_type(template, "AWS::Lambda::Function").items():  # for the token, where that is in SSM
        keys[name] = function["Environment"]["Variables"].get("ENCRYPTION_KEY")
    for name, key in keys.items():
        if named(key) != "StackKey.Arn":
            yield f"{name} is not encrypted with the stack's key"


def the_key_is_lent_to_services_alone(template: Template) -> Iterator[str]:
    """Whoever could decrypt with it directly would need no right on what it encrypts."""
    key = of_type(template, "AWS::KMS::Key")["StackKey"]
    if not key.get("EnableKeyRotation"):
        yield "StackKey is never rotated"
    uses = re.compile(r"\*|kms:(Decrypt|Encrypt|GenerateDataKey|ReEncrypt|CreateGrant)")
    for statement in key["KeyPolicy"]["Statement"]:
        if statement["Effect"] == "Deny":
            continue
        condition, who = json.dumps(statement.get("Condition", {})), statement["Principal"]
        through = "kms:EncryptionContext:aws:logs:arn" if "Service" in who else "kms:ViaService"
        if any(uses.search(action) for action in listed(statement["Action"])) and not re.search(through, condition):
            yield f"{statement['Sid']} lets {who} use the key without a service in between"
        if "Service" not in who and named(who.get("AWS")) != "arn:${AWS::Partition}:iam::${AWS::AccountId}:root":
            yield f"{statement['Sid']} is for {who}"
        if "kms:CreateGrant" in listed(statement["Action"]) and "kms:GrantIsForAWSResource" not in condition:
            yield f"{statement['Sid']} lets the key be lent to anybody"


def only_the_functions_that_call_kiva_read_secrets(template: Template) -> Iterator[str]:
    callers = {f"{name}Role" for name in of_type(template, "AWS::Lambda::Function").keys() - {"OutcomesFunction"}}
    roles = {name for name, it in of_type(template, "AWS::IAM::Role").items() if named(it.get("Path")) == OUR_PATH}
    for name in roles ^ callers:
        yield f"{name} reads secrets and calls no Kiva, or calls Kiva and reads none"
    closed = set()
    for name, policy in of_type(template, "AWS::SecretsManager::ResourcePolicy").items():
        if not policy.get("BlockPublicPolicy"):
            yield f"{name} may open its secret to the public"
        for statement in policy["ResourcePolicy"]["Statement"]:
            if statement["Effect"] != "Deny":
                yield f"{name} gives somebody a right"
            # For whoever has no such key, as a service, it holds too: what it denies stays denied. (IAM User Guide,
            # "IAM JSON policy elements: Condition operators", on negated matching.)
            reading = "*", "secretsmanager:GetSecretValue", {"ArnNotLike": {"aws:PrincipalArn": {"Fn::Sub": OUR_ROLES}}}
            if (statement["Principal"], statement["Action"], statement.get("Condition")) == reading:
                closed.add(named(policy["SecretId"]).removesuffix(".Id"))
    for name in of_type(template, "AWS::SecretsManager::Secret").keys() - closed:
        yield f"{name} may be read by others than the functions"


def only_the_functions_that_call_kiva_decrypt_a_token_in_ssm(template: Template) -> Iterator[str]:
    """SSM has no policies on a parameter that only its own account reads; the key's policy stands in for it."""
    others = {
        "ArnNotLike": {"aws:PrincipalArn": {"Fn::Sub": OUR_ROLES}},
        "StringEquals": {"kms:EncryptionContext:PARAMETER_ARN": {"Fn::Sub": OUR_PARAMETER}},
    }
    statements = of_type(template, "AWS::KMS::Key")["StackKey"]["KeyPolicy"]["Statement"]
    deny = "Deny", {"AWS": "*"}, "kms:Decrypt", others
    if not any((it["Effect"], it["Principal"], it["Action"], it.get("Condition")) == deny for it in statements):
        yield "StackKey decrypts a token in SSM for others than the functions"


def no_secret_lies_in_a_plain_parameter(template: Template) -> Iterator[str]:
    # CloudFormation makes no SecureString, so whatever it makes there could be read by whoever may read parameters.
    for name in of_type(template, "AWS::SSM::Parameter"):
        yield f"{name} is not encrypted"


def reserved_environments_are_enough_for_the_queues(template: Template) -> Iterator[str]:
    for name, mapping, _ in _mappings(template):
        function = named(mapping["FunctionName"])
        reserved = of_type(template, "AWS::Lambda::Function")[function].get("ReservedConcurrentExecutions")
        if reserved is not None and reserved <= _limit(
            template, mapping["ScalingConfig"]["MaximumConcurrency"], "MaxValue"
        ):
            yield f"{name}: {function} may be throttled by its own queue, and has nothing left for the API"


def the_api_lets_in_its_own_account_alone(template: Template) -> Iterator[str]:
    for name, api in of_type(template, "AWS::ApiGateway::RestApi").items():
        others = {
            "Effect": "Deny",
            "Principal": "*",
            "Condition": {"StringNotEquals": {"aws:PrincipalAccount": {"Ref": "AWS::AccountId"}}},
        }
        statements = api["Body"].get("x-amazon-apigateway-policy", {}).get("Statement", [])
        if not any(others.items() <= it.items() for it in statements):
            yield f"{name} does not shut other accounts out"
        if any(it["Effect"] == "Allow" for it in statements):
            yield f"{name} lets somebody in who has no right of his own account"


def the_bucket_is_private(template: Template) -> Iterator[str]:
    blocks = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    for name, bucket in of_type(template, "AWS::S3::Bucket").items():
        if not all(bucket.get("PublicAccessBlockConfiguration", {}).get(block) is True for block in blocks):
            yield f"{name} may become public"


def borrowers_photos_are_forgotten(template: Template) -> Iterator[str]:
    # And nothing else by itself: what is below unknown/ waits for a decision, and housekeeping forgets it.
    queues = of_type(template, "AWS::SQS::Queue")
    in_queues = max(queues[name]["MessageRetentionPeriod"] for name in _sources(template))
    # One after the other: a dead letter that a function writes is a new message.
    kept = (in_queues + max(queue["MessageRetentionPeriod"] for queue in queues.values())) / 86400
    for name, bucket in of_type(template, "AWS::S3::Bucket").items():
        rules = [it for it in bucket["LifecycleConfiguration"]["Rules"] if it["Status"] == "Enabled"]
        days = {it.get("Prefix"): it["ExpirationInDays"] for it in rules if "ExpirationInDays" in it}
        if days.keys() != {"photos/", "dead-letters/"}:
            yield f"{name} forgets what lies below {sorted(map(str, days))}"
        if not all(kept < it <= 30 for it in days.values()):
            yield f"{name} does not keep photos for longer than messages, or for more than 30 days"
        if bucket.get("VersioningConfiguration") != {"Status": "Enabled"}:
            yield f"{name} does not keep what was overwritten"
        if not any(
            it.get("NoncurrentVersionExpiration") == {"NoncurrentDays": 1} and "Prefix" not in it for it in rules
        ):
            yield f"{name} keeps what was deleted"


def what_held_data_outlives_the_stack(template: Template) -> Iterator[str]:
    """And can be found afterwards, by its tag; the bus for the rules of others, with which it cannot be deleted."""
    kinds = {
        f"AWS::{it}"
        for it in (
            "SQS::Queue", "DynamoDB::Table", "S3::Bucket", "SecretsManager::Secret", "KMS::Key", "Events::EventBus",
        )
    }  # fmt: skip
    kept = {name for name, it in template["Resources"].items() if it["Type"] in kinds} - {"TokenSecret"}
    for name in kept | {"OnlyFunctionsReadCredentials"}:
        resource = template["Resources"][name]
        if (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")) != ("RetainExceptOnCreate", "Retain"):
            yield f"{name} goes when the stack goes"
    for name in kept:
        if template["Resources"][name]["Properties"].get("Tags") != [
            {"Key": "kiva-relay-stack", "Value": {"Ref": "AWS::StackName"}}
        ]:
            yield f"{name} does not tell whose it was"


def a_failed_first_deployment_can_be_rolled_back(template: Template) -> Iterator[str]:
    """What it has made is deleted, or it would be in the way of the next one."""
    for name, resource in template["Resources"].items():
        if resource.get("DeletionPolicy") in ("Retain", "Snapshot"):
            yield f"{name} stays behind where a first deployment fails"
        for protection in ("DeletionProtectionEnabled", "DeletionProtection"):
            if resource.get("Properties", {}).get(protection):
                yield f"{name} cannot be deleted"


def the_ledger_is_as_agreed_and_can_be_recovered(template: Template) -> Iterator[str]:
    table = of_type(template, "AWS::DynamoDB::Table")["LedgerTable"]
    if not table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"]:
        yield "LedgerTable lacks point-in-time recovery"
    if table["TimeToLiveSpecification"] != {"AttributeName": "expires_at", "Enabled": True}:
        yield "LedgerTable forgets nothing"
    indexes = {
        it["IndexName"]: (
            it["Projection"]["ProjectionType"],
            it["Projection"].get("NonKeyAttributes", []),
            *(key["AttributeName"] for key in it["KeySchema"]),
        )
        for it in table["GlobalSecondaryIndexes"]
    }
    if indexes != {
        "by_state": ("ALL", [], "kind_state", "updated_at"),
        "by_loan": ("INCLUDE", ["period"], "loan_id", "created_at"),
    }:
        yield f"LedgerTable's indexes are {indexes}"


def every_route_needs_a_signature(template: Template) -> Iterator[str]:
    for name, api in of_type(template, "AWS::ApiGateway::RestApi").items():
        schemes = api["Body"]["components"]["securitySchemes"]
        if schemes.get("AWS_IAM", {}).get("x-amazon-apigateway-authtype") != "awsSigv4":
            yield f"{name} does not know AWS_IAM"
        for path, methods in api["Body"]["paths"].items():
            for method, it in methods.items():
                if it.get("security") != [{"AWS_IAM": []}]:
                    yield f"{name}: {method} {path} is open"
                if "credentials" in it["x-amazon-apigateway-integration"]:
                    yield f"{name}: {method} {path} calls the function as the caller"


def nothing_but_the_api_is_open_to_callers(template: Template) -> Iterator[str]:
    for name in [*of_type(template, "AWS::Lambda::Url"), *of_type(template, "AWS::ApiGatewayV2::Api")]:
        yield f"{name} is another way in"
    for name, permission in of_type(template, "AWS::Lambda::Permission").items():
        if permission["Principal"] != "apigateway.amazonaws.com" or "SourceArn" not in permission:
            yield f"{name} lets {permission['Principal']} call the function"


def the_api_is_throttled_and_traced(template: Template) -> Iterator[str]:
    for name, stage in of_type(template, "AWS::ApiGateway::Stage").items():
        everywhere = [
            it for it in stage.get("MethodSettings", []) if (it["ResourcePath"], it["HttpMethod"]) == ("/*", "*")
        ]
        if not any(it.get("ThrottlingRateLimit") and it.get("ThrottlingBurstLimit") for it in everywhere):
            yield f"{name} is not throttled"
        if any(it.get("DataTraceEnabled") for it in stage.get("MethodSettings", [])):
            yield f"{name} logs bodies"
        if not stage.get("TracingEnabled"):
            yield f"{name} is not traced"


def access_logs_tell_nothing_about_borrowers(template: Template) -> Iterator[str]:
    groups = of_type(template, "AWS::Logs::LogGroup")
    harmless = {"requestId", "requestTime", "httpMethod", "resourcePath", "status", "responseLatency"}
    harmless |= {"identity.userArn", "error.responseType"}
    for name, stage in of_type(template, "AWS::ApiGateway::Stage").items():
        log = stage.get("AccessLogSetting", {})
        if not groups.get(named(log.get("DestinationArn")).removesuffix(".Arn"), {}).get("RetentionInDays"):
            yield f"{name} has no access log with a retention"
        for variable in set(re.findall(r"\$([\w.]+)", log.get("Format", ""))) - {f"context.{it}" for it in harmless}:
            yield f"{name} logs ${variable}"


def no_right_is_given_on_everything(template: Template) -> Iterator[str]:
    for name, role in of_type(template, "AWS::IAM::Role").items():
        for policy in role.get("ManagedPolicyArns", []):
            if "Ref" not in policy and not named(policy).endswith(AWS_POLICIES):
                yield f"{name} has {named(policy)}"
    for name, statement in _statements(template):
        if statement["Effect"] == "Deny" or statement.get("Action") == "dynamodb:ListStreams":  # of no resource
            continue
        if statement.keys() & {"NotAction", "NotResource"}:
            yield f"{name} allows everything but something"
        if any("*" in action for action in listed(statement.get("Action", []))):
            yield f"{name} allows actions by pattern"
        # An asterisk may stand for what lies below a resource, never for the resource itself.
        for resource in map(named, listed(statement.get("Resource", []))):
            if not re.fullmatch(r"[^*]+(/\*)?", resource):
                yield f"{name} may act on {resource}"


def every_row_is_reached_by_its_key(template: Template) -> Iterator[str]:
    """Should two stages or partners share a table, neither reaches what is the other's, whatever its code asks for."""
    of_rows = {f"dynamodb:{it}Item" for it in ("Get", "BatchGet", "Put", "Update", "Delete", "BatchWrite")}
    of_rows |= {"dynamodb:Query", "dynamodb:Scan"}
    for name, statement in _statements(template):
        if statement["Effect"] == "Allow" and of_rows & {*listed(statement["Action"])}:
            condition = statement.get("Condition", {}).get("ForAllValues:StringLike", {})
            keys = [*map(named, listed(condition.get("dynamodb:LeadingKeys", [])))]
            if not keys or not all(it.startswith("${KivaEnvironment}#${KivaPartnerId}#") for it in keys):
                yield f"{name} reaches rows of others: {statement.get('Sid')}"


AWS_POLICIES = (
    "/service-role/AWSLambdaBasicExecutionRole",  # write logs
    "/AWSXrayWriteOnlyAccess",  # write traces
    "/service-role/AmazonAPIGatewayPushToCloudWatchLogs",  # write the access log
)
"""The policies of AWS's own that may be attached; each can only add to logs and traces."""


def secrets_are_nowhere_in_the_template(template: Template) -> Iterator[str]:
    for name, parameter in template["Parameters"].items():
        if parameter.get("NoEcho") or re.search(r"(?i)secret|password|credential|client_?id|token(?!Url|Store)", name):
            yield f"the parameter {name} would carry a secret"
    for name, secret in of_type(template, "AWS::SecretsManager::Secret").items():
        if secret.keys() & {"SecretString", "GenerateSecretString"}:
            yield f"{name} is born with a value"
    if "{{resolve:" in str(template):
        yield "a dynamic reference puts a secret into a resource's properties"


def every_alarm_says_what_to_do(template: Template) -> Iterator[str]:
    for name, alarm in of_type(template, "AWS::CloudWatch::Alarm").items():
        if not re.fullmatch(r'.+\. docs/runbook\.md: "[^"]+"', alarm.get("AlarmDescription", "")):
            yield f"{name} does not name a heading of the runbook"


def everything_that_goes_wrong_raises_an_alarm(template: Template) -> Iterator[str]:
    wanted = {(it, (("service", "AWS::StackName"),)) for it in (*GAUGES, *COUNTS, "OldestMessageSeconds")}
    wanted |= {("5XXError", (("ApiName", "AWS::StackName"),))}
    # The console's errors are 5xx of the API. Where it, housekeeping or outcomes are throttled, their own alarms ring.
    behind_queues = _behind_queues(template)
    wanted |= {
        (metric, (("FunctionName", function),))
        for metric, functions in {
            "Errors": {*behind_queues, "OutcomesFunction", "HousekeepingFunction"},
            "Throttles": behind_queues,
            "Invocations": {"HousekeepingFunction"},
            "IteratorAge": {"OutcomesFunction"},
        }.items()
        for function in functions
    }
    alarms = of_type(template, "AWS::CloudWatch::Alarm").values()
    found = {(name, dimensions) for alarm in alarms for _, name, dimensions in _watched(alarm)}
    for name, dimensions in wanted - found:
        yield f"nobody is told about {name} of {dimensions}"


def a_metric_of_ours_is_silent_when_all_is_well(template: Template) -> Iterator[str]:
    """What is zero is not written. What lasts tells its end, which silence does not prove of what is counted."""
    for name, alarm in of_type(template, "AWS::CloudWatch::Alarm").items():
        if alarm.get("Namespace") != "KivaRelay":
            continue
        if alarm["TreatMissingData"] != "notBreaching":
            yield f"{name} does not take silence for good"
        lasts = alarm["Statistic"] == "Maximum"
        if lasts != (alarm["MetricName"] not in COUNTS):
            yield f"{name} takes a gauge for a count, or a count for a gauge"
        if lasts != ("OKActions" in alarm):
            yield f"{name} tells an end that it does not know, or not the one that it knows"


def a_gauge_holds_until_housekeeping_comes_again(template: Template) -> Iterator[str]:
    """It may come a second late, which leaves one period of five minutes without a point."""
    for name, alarm in of_type(template, "AWS::CloudWatch::Alarm").items():
        if alarm.get("MetricName") in GAUGES:
            wanted = alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])
            if alarm["Period"] < 2 * RUN_SECONDS and wanted >= alarm["EvaluationPeriods"]:
                yield f"{name} ends where housekeeping is late"
            if alarm["Period"] < RUN_SECONDS:
                yield f"{name} looks for what housekeeping says more often than that says anything"


def an_old_message_rings_until_it_is_received_again(template: Template) -> Iterator[str]:
    """It is put off for an hour at the most, and then waits for a batch."""
    alarm = of_type(template, "AWS::CloudWatch::Alarm")["MessagesWaitAlarm"]
    longest = max(
        _limit(template, it["MaximumBatchingWindowInSeconds"], "MaxValue") for _, it, _ in _mappings(template)
    )
    # One period is not over when it is received again.
    if alarm["Period"] * (alarm["EvaluationPeriods"] - 1) < LONGEST_WAIT:
        yield "MessagesWaitAlarm ends while a message waits for its next delivery"
    if alarm["Period"] * alarm["EvaluationPeriods"] < LONGEST_WAIT + longest + 60:
        yield "MessagesWaitAlarm ends while a message waits for others to go with"
    if alarm.get("DatapointsToAlarm") != 1:
        yield "MessagesWaitAlarm wants more than one message"
    if alarm["Threshold"] > LONGEST_WAIT:
        yield "MessagesWaitAlarm waits for more than an hour"


def an_outage_rings_within_a_quarter_of_an_hour_for_a_single_message(template: Template) -> Iterator[str]:
    """After its n-th delivery a message waits for half to all of FIRST_WAIT * 2**n, and then for a batch.

    However chance falls: at the end of the first period the last delivery was its n-th, which cannot have come before
    the sum of the shortest waits. The next one comes in one of the periods that are left, so that two have one.
    """
    alarm = of_type(template, "AWS::CloudWatch::Alarm")["KivaUnavailableAlarm"]
    period, periods = alarm["Period"], alarm["EvaluationPeriods"]
    longest = max(
        _limit(template, it["MaximumBatchingWindowInSeconds"], "MaxValue") for _, it, _ in _mappings(template)
    )
    connecting = template["Parameters"]["KivaConnectTimeoutSeconds"]["MaxValue"]
    deliveries = takewhile(lambda n: FIRST_WAIT / 2 * (2**n - 1) < period, count())
    gap = max(FIRST_WAIT * 2**n for n in deliveries) + longest + connecting
    if gap > (periods - 1) * period or alarm.get("DatapointsToAlarm", periods) > 2:
        yield f"KivaUnavailableAlarm does not see a single message twice: it may not come for {gap} s"
    if period * periods > QUARTER:
        yield "KivaUnavailableAlarm may ring later"
    if alarm.get("DatapointsToAlarm") == 1:
        yield "KivaUnavailableAlarm rings for a hiccup"


def the_dashboard_fits_the_screen(template: Template) -> Iterator[str]:
    taken: dict[tuple[int, int], int] = {}
    for number, it in enumerate(_widgets(template)):
        if it["x"] + it["width"] > COLUMNS:
            yield f"widget {number} leaves the {COLUMNS} columns"
        for cell in product(range(it["x"], it["x"] + it["width"]), range(it["y"], it["y"] + it["height"])):
            if taken.setdefault(cell, number) != number:
                yield f"widgets {taken[cell]} and {number} lie upon each other at {cell}"


def the_dashboard_draws_what_there_is(template: Template) -> Iterator[str]:
    """CloudWatch takes any name, and draws nothing."""
    for namespace, name, dimensions in _drawn(template):
        known = METRICS_OF_AWS.get((namespace, tuple(dimension for dimension, _ in dimensions)), set())
        if namespace != "KivaRelay" and name not in known:
            yield f"{namespace} has no {name} by {dimensions}"


def the_dashboard_shows_every_alarm_and_what_it_watches(template: Template) -> Iterator[str]:
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    shown = {it for each in _widgets(template) for it in each["properties"].get("alarms", [])}
    for name in shown ^ {f"${{{name}.Arn}}" for name in alarms}:
        yield f"the dashboard shows {name} and there is no such alarm, or the other way round"
    for metric in {it for alarm in alarms.values() for it in _watched(alarm)} - set(_drawn(template)):
        yield f"the dashboard does not draw {metric}"


def alarms_listen_where_the_functions_speak(template: Template) -> Iterator[str]:
    for name, function in of_type(template, "AWS::Lambda::Function").items():
        variables = function["Environment"]["Variables"]
        spoken = variables["POWERTOOLS_METRICS_NAMESPACE"], named(variables["POWERTOOLS_SERVICE_NAME"])
        if spoken != ("KivaRelay", "AWS::StackName"):
            yield f"{name} writes its metrics elsewhere: {spoken}"


def silence_of_housekeeping_is_a_fault(template: Template) -> Iterator[str]:
    """CloudWatch: without data it goes to INSUFFICIENT_DATA, where it also begins; only a change calls an action."""
    alarm = of_type(template, "AWS::CloudWatch::Alarm")["HousekeepingAlarm"]
    if alarm["TreatMissingData"] != "missing" or not alarm.get("InsufficientDataActions"):
        yield "HousekeepingAlarm stays quiet when nothing runs, or rings when the stack is created"
    if alarm["ComparisonOperator"] != "LessThanThreshold" or alarm["Threshold"] != 1 or not alarm.get("AlarmActions"):
        yield "HousekeepingAlarm stays quiet when each run fails"
    (expression,) = (it["Expression"] for it in alarm["Metrics"] if "Expression" in it)
    if expression != "invocations - FILL(errors, 0)":
        yield "HousekeepingAlarm takes a run that failed for one that ended well"
    periods = {it["MetricStat"]["Period"] for it in alarm["Metrics"] if "MetricStat" in it}
    if periods != {RUN_SECONDS} or alarm["EvaluationPeriods"] != QUARTER / RUN_SECONDS:
        yield "HousekeepingAlarm does not look at the runs of a quarter of an hour"


def the_dashboard_costs_nothing(template: Template) -> Iterator[str]:
    """CloudWatch, "Pricing": three dashboards of up to 50 metrics are free, each other one is 3 USD a month."""
    if (number := len([*_drawn(template)])) > FREE_METRICS:
        yield f"the dashboard draws {number} metrics"


def two_stacks_of_an_account_do_not_collide(template: Template) -> Iterator[str]:
    for kind, name, text in _names(template):
        if "AWS::StackName" not in text:
            yield f"{name} ({kind}) has the same name in every stack"


def every_name_has_room_for_the_longest_stack_name(template: Template) -> Iterator[str]:
    room = []
    for kind, name, text in _names(template):
        if kind not in NAMES:
            yield f"{name}: how long may the name of a {kind} be?"
            continue
        without = text.replace("${AWS::StackName}", "").replace("AWS::StackName", "")
        room.append(NAMES[kind] - len(without))
        if room[-1] < LONGEST_NAME:
            yield f"{name} has room for a stack name of {room[-1]} characters"
    if min(room) > LONGEST_NAME:
        yield f"a stack name may have {min(room)} characters"


NAMES = {
    "AWS::Lambda::Function": 64,  # Lambda API Reference, CreateFunction
    "AWS::Lambda::LayerVersion": 140,  # the same, PublishLayerVersion
    "AWS::SQS::Queue": 80,  # SQS API Reference, CreateQueue
    "AWS::Logs::LogGroup": 512,  # CloudWatch Logs API Reference, CreateLogGroup
    "AWS::KMS::Alias": 256,  # KMS API Reference, CreateAlias
    "AWS::SNS::Topic": 256,  # SNS API Reference, CreateTopic
    "AWS::Events::EventBus": 256,  # EventBridge API Reference, CreateEventBus
    "AWS::Events::Rule": 64,  # the same, PutRule
    "AWS::Scheduler::Schedule": 64,  # EventBridge Scheduler API Reference, CreateSchedule
    "AWS::ApiGateway::RestApi": 1024,  # it is a text
    "AWS::CloudWatch::Dashboard": 255,  # CloudWatch API Reference, PutDashboard: a few characters, and no more is said
    "AWS::IAM::Role": 512,  # of the path: IAM API Reference, CreateRole; CloudFormation cuts the name to what fits
}
"""Characters that a name may have, of each type that has one by us."""


def a_fresh_account_takes_the_log_role(template: Template) -> Iterator[str]:
    """API Gateway wants something of its own there before the setting, and the setting before an access log."""
    resources = template["Resources"]
    for name in of_type(template, "AWS::ApiGateway::Account"):
        before = listed(resources[name].get("DependsOn", []))
        keys = [resources[it] for it in before if resources.get(it, {}).get("Type") == "AWS::ApiGateway::ApiKey"]
        if not keys:
            yield f"{name} is refused where API Gateway was never used"
        if any(it["Properties"].get("Enabled") is not False for it in keys):
            yield f"{name} comes with a key that an API might take"
        for stage, it in of_type(template, "AWS::ApiGateway::Stage").items():
            if {"Ref": name} not in it.get("Variables", {}).values():
                yield f"{stage} may come before {name}"


def no_function_makes_the_log_group_that_went_with_the_stack(template: Template) -> Iterator[str]:
    """The next deployment under that name would find it there, and fail."""
    deny = {"Sid": "MakeNoLogGroup", "Effect": "Deny", "Action": "logs:CreateLogGroup", "Resource": "*"}
    denied = {name for name, statement in _statements(template) if statement == deny}
    for function in of_type(template, "AWS::Lambda::Function"):
        if f"{function}Role" not in denied:
            yield f"{function} may make its log group anew"


def everything_is_described(template: Template) -> Iterator[str]:
    for section in ("Parameters", "Outputs"):
        for name, it in template[section].items():
            if not it.get("Description", "").endswith("."):
                yield f"{name} is not described"


def _statements(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every role with each statement of its policies, apart from AWS's own."""
    policies = of_type(template, "AWS::IAM::ManagedPolicy")
    for name, role in of_type(template, "AWS::IAM::Role").items():
        attached = [policies[it] for it in map(named, role.get("ManagedPolicyArns", [])) if it in policies]
        for policy in [*role.get("Policies", []), *attached]:
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement


def _names(template: Template) -> Iterator[tuple[str, str, str]]:
    """Type, logical id, and the name that we give it, of every resource that has one; the path of a role is one too."""
    for name, it in template["Resources"].items():
        if it["Type"] == "AWS::ApiGateway::Stage":  # within its API
            continue
        noun = it["Type"].rpartition("::")[2].removesuffix("Version")
        keys = {"AWS::IAM::Role": ["RoleName", "Path"]}.get(it["Type"], ["Name", f"{noun}Name"])
        for key in keys:
            if key in it["Properties"]:
                yield it["Type"], name, named(it["Properties"][key])


def _mappings(template: Template) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every event source mapping of a queue: its name, itself, and its queue."""
    queues = of_type(template, "AWS::SQS::Queue")
    for name, mapping in of_type(template, "AWS::Lambda::EventSourceMapping").items():
        if (source := named(mapping["EventSourceArn"]).removesuffix(".Arn")) in queues:
            yield name, mapping, queues[source]


def _of_the_stream(template: Template) -> dict[str, Any]:
    """The event source mapping of the ledger's stream."""
    mappings = of_type(template, "AWS::Lambda::EventSourceMapping").values()
    (found,) = (it for it in mappings if named(it["EventSourceArn"]) == "LedgerTable.StreamArn")
    return found


def _watched(alarm: dict[str, Any]) -> Iterator[Metric]:
    """Every metric of an alarm, also where it calculates with several."""
    parts = [it["MetricStat"]["Metric"] for it in alarm.get("Metrics", []) if "MetricStat" in it]
    for it in parts or [alarm]:
        dimensions = tuple(sorted((each["Name"], named(each["Value"])) for each in it["Dimensions"]))
        yield it["Namespace"], it["MetricName"], dimensions


def _widgets(template: Template) -> list[dict[str, Any]]:
    dashboard = of_type(template, "AWS::CloudWatch::Dashboard")["Dashboard"]
    widgets: list[dict[str, Any]] = json.loads(dashboard["DashboardBody"]["Fn::Sub"])["widgets"]
    return widgets


def _drawn(template: Template) -> Iterator[Metric]:
    """Every metric of the dashboard; references in words, as `named` says them."""
    for widget in _widgets(template):
        for namespace, name, *rest in widget["properties"].get("metrics", []):
            texts = [re.sub(r"\$\{(.+)\}", r"\1", it) for it in rest if isinstance(it, str)]
            yield namespace, name, tuple(sorted(zip(texts[::2], texts[1::2], strict=True)))


def _limit(template: Template, value: Any, limit: str) -> int:
    """A number, or how small or large the parameter may be that gives it."""
    number: int = template["Parameters"][named(value)][limit] if isinstance(value, dict) else value
    return number


def _behind_queues(template: Template) -> set[str]:
    return {named(mapping["FunctionName"]) for _, mapping, _ in _mappings(template)}


def _sources(template: Template) -> dict[str, dict[str, Any]]:
    """The queues that functions read."""
    names = {named(mapping["EventSourceArn"]).removesuffix(".Arn") for _, mapping, _ in _mappings(template)}
    return {name: it for name, it in of_type(template, "AWS::SQS::Queue").items() if name in names}


def _receives(queue: dict[str, Any]) -> float:
    """How often a queue gives a message before it becomes a dead letter."""
    number: float = queue.get("RedrivePolicy", {}).get("maxReceiveCount", math.inf)
    return number


def _denies_plain_http(statement: dict[str, Any], action: str, resources: list[str]) -> bool:
    return {
        "Effect": statement["Effect"],
        "Principal": statement["Principal"],
        "Action": statement["Action"],
        "Resource": [*map(named, listed(statement["Resource"]))],
        "Condition": statement.get("Condition"),
    } == {
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": resources,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
