"""The template keeps every rule of ours, and each rule catches at least one template that breaks it."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from template import rules
from template.cloudformation import Template, as_deployed, read, translate

Rule = Callable[[Template], Iterator[str]]
Mutation = Callable[[Template], object]

RULES = [it for _, it in inspect.getmembers(rules, inspect.isfunction) if it.__module__ == rules.__name__]
RULES = [it for it in RULES if not it.__name__.startswith("_")]

STAGE = {"KivaEnvironment": "stage", "KivaPartnerId": "9001", "CoordinatorEmail": "coordinator@example.org"}


def of(template: Template, name: str) -> dict[str, Any]:
    """A resource's properties."""
    properties: dict[str, Any] = template["Resources"][name].setdefault("Properties", {})
    return properties


def environment(template: Template) -> dict[str, Any]:
    variables: dict[str, Any] = template["Globals"]["Function"]["Environment"]["Variables"]
    return variables


def statements(template: Template, function: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = of(template, function)["Policies"][1]["Statement"]
    return found


def statement_of(template: Template, function: str, sid: str) -> dict[str, Any]:
    """A statement of a function's own policy."""
    policy = of(template, function)["Policies"][-1]
    found: dict[str, Any] = next(it for it in policy["Statement"] if it.get("Sid") == sid)
    return found


def leading_keys(template: Template, function: str, sid: str) -> list[Any]:
    condition = statement_of(template, function, sid)["Condition"]
    found: list[Any] = condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
    return found


def key_statement(template: Template, sid: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = of(template, "StackKey")["KeyPolicy"]["Statement"]
    return next(it for it in found if it["Sid"] == sid)


def of_readers(template: Template) -> dict[str, Any]:
    """The condition by which the functions that read the credentials are told from all others."""
    (statement,) = of(template, "OnlyFunctionsReadCredentials")["ResourcePolicy"]["Statement"]
    found: dict[str, Any] = statement["Condition"]
    return found


def lifecycle(template: Template, prefix: str) -> dict[str, Any]:
    """What becomes of the objects below a prefix of the bucket."""
    found: list[dict[str, Any]] = of(template, "PayloadBucket")["LifecycleConfiguration"]["Rules"]
    return next(it for it in found if it.get("Prefix") == prefix)


def on_the_dashboard(template: Template, text: str, instead: str) -> None:
    """Replace a text of the dashboard's body everywhere."""
    body = of(template, "Dashboard")["DashboardBody"]
    assert text in body["Fn::Sub"]
    body["Fn::Sub"] = body["Fn::Sub"].replace(text, instead)


def allow(action: str, resource: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource}


URL_OF_FUNCTION = {
    "Type": "AWS::Lambda::Url",
    "Properties": {"AuthType": "NONE", "TargetFunctionArn": {"Ref": "ConsoleFunction"}},
}
OPEN_TO_ALL = {
    "Type": "AWS::Lambda::Permission",
    "Properties": {"Action": "lambda:InvokeFunction", "FunctionName": {"Ref": "ConsoleFunction"}, "Principal": "*"},
}
FILTER = {"Filters": [{"Pattern": '{"body": {"kind": ["loan_draft"]}}'}]}

MUTANTS: list[tuple[Rule, str, Mutation]] = [
    (
        rules.timeouts_cover_kivas_slowest_answers,
        "a minute for every function",
        lambda it: it["Globals"]["Function"].update(Timeout=60),
    ),
    (
        rules.timeouts_cover_kivas_slowest_answers,
        "Kiva may take a second longer, the function may not",
        lambda it: it["Parameters"]["KivaReadTimeoutSeconds"].update(MaxValue=121),
    ),
    (
        rules.timeouts_cover_kivas_slowest_answers,
        "a second longer to connect, and as long to send",
        lambda it: it["Parameters"]["KivaConnectTimeoutSeconds"].update(MaxValue=11),
    ),
    (
        rules.timeouts_cover_kivas_slowest_answers,
        "a second too short",
        lambda it: it["Globals"]["Function"].update(Timeout=299),
    ),
    (
        rules.readers_answer_before_the_gateway_gives_up,
        "the console waits as long as a submission",
        lambda it: of(it, "ConsoleFunction")["Environment"]["Variables"].update(KIVA_READ_TIMEOUT_SECONDS="120"),
    ),
    (
        rules.readers_answer_before_the_gateway_gives_up,
        "the console is cut off",
        lambda it: of(it, "ConsoleFunction").update(Timeout=10),
    ),
    (
        rules.every_function_logs_to_a_group_that_forgets,
        "a log group for ever",
        lambda it: of(it, "ConsoleLogGroup").pop("RetentionInDays"),
    ),
    (
        rules.every_function_logs_to_a_group_that_forgets,
        "the group that Lambda makes by itself",
        lambda it: of(it, "ConsoleFunction").pop("LoggingConfig"),
    ),
    (
        rules.every_function_logs_to_a_group_that_forgets,
        "two functions write into one group",
        lambda it: of(it, "ConsoleFunction")["LoggingConfig"].update(LogGroup={"Ref": "HousekeepingLogGroup"}),
    ),
    (
        rules.every_function_logs_to_a_group_that_forgets,
        "plain text",
        lambda it: it["Globals"]["Function"]["LoggingConfig"].update(LogFormat="Text"),
    ),
    (
        rules.every_function_has_its_own_role,
        "the console borrows a role",
        lambda it: of(it, "ConsoleFunction").update(Role={"Fn::GetAtt": ["LoanDraftsFunctionRole", "Arn"]}),
    ),
    (
        rules.messages_stay_hidden_while_a_function_has_them,
        "a second too short",
        lambda it: of(it, "LoanDraftsQueue").update(VisibilityTimeout=1859),
    ),
    (
        rules.messages_stay_hidden_while_a_function_has_them,
        "the batching window forgotten",
        lambda it: of(it, "RepaymentsQueue").update(VisibilityTimeout=1800),
    ),
    (
        rules.messages_stay_hidden_while_a_function_has_them,
        "a window that may be longer",
        lambda it: it["Parameters"]["JournalUpdatesBatchingWindowSeconds"].update(MaxValue=61),
    ),
    (
        rules.messages_stay_hidden_while_a_function_has_them,
        "a longer timeout with the old visibility",
        lambda it: it["Globals"]["Function"].update(Timeout=400),
    ),
    (
        rules.one_bad_message_does_not_bring_its_batch_back,
        "the answer's list is not looked at",
        lambda it: of(it, "RepaymentsFromQueue").pop("FunctionResponseTypes"),
    ),
    (
        rules.no_message_is_filtered_away,
        "a filter on the kind",
        lambda it: of(it, "LoanDraftsFromQueue").update(FilterCriteria=FILTER),
    ),
    (
        rules.no_deployment_resumes_what_is_paused,
        "a queue that is received whatever was said",
        lambda it: of(it, "RepaymentsFromQueue").update(Enabled=True),
    ),
    (
        rules.no_outcome_is_given_up_before_the_stream_loses_it,
        "the answer's list is not looked at",
        lambda it: of(it, "OutcomesFromLedger").pop("FunctionResponseTypes"),
    ),
    (
        rules.no_outcome_is_given_up_before_the_stream_loses_it,
        "three attempts",
        lambda it: of(it, "OutcomesFromLedger").update(MaximumRetryAttempts=3),
    ),
    (
        rules.no_outcome_is_given_up_before_the_stream_loses_it,
        "a hundred fall with one",
        lambda it: of(it, "OutcomesFromLedger").pop("BisectBatchOnFunctionError"),
    ),
    (
        rules.no_outcome_is_given_up_before_the_stream_loses_it,
        "an hour",
        lambda it: of(it, "OutcomesFromLedger").update(MaximumRecordAgeInSeconds=3600),
    ),
    (
        rules.no_outcome_is_given_up_before_the_stream_loses_it,
        "until the stream has lost it",
        lambda it: of(it, "OutcomesFromLedger").update(MaximumRecordAgeInSeconds=-1),
    ),
    (
        rules.no_outcome_is_given_up_before_the_stream_loses_it,
        "nobody is told",
        lambda it: of(it, "OutcomesFromLedger").pop("DestinationConfig"),
    ),
    (
        rules.no_outcome_is_given_up_before_the_stream_loses_it,
        "from now on",
        lambda it: of(it, "OutcomesFromLedger").update(StartingPosition="LATEST"),
    ),
    (
        rules.outcomes_and_nothing_else_wake_their_function,
        "new images alone",
        lambda it: of(it, "LedgerTable")["StreamSpecification"].update(StreamViewType="NEW_IMAGE"),
    ),
    (
        rules.outcomes_and_nothing_else_wake_their_function,
        "every change",
        lambda it: of(it, "OutcomesFromLedger").pop("FilterCriteria"),
    ),
    (
        rules.outcomes_and_nothing_else_wake_their_function,
        "another filter beside it",
        lambda it: of(it, "OutcomesFromLedger")["FilterCriteria"]["Filters"].append({"Pattern": "{}"}),
    ),
    (
        rules.one_function_alone_mails_the_coordinator,
        "any function",
        lambda it: of(it, "DigestTopicPolicy")["PolicyDocument"]["Statement"][0].pop("Condition"),
    ),
    (
        rules.one_function_alone_mails_the_coordinator,
        "all of the account",
        lambda it: it["Resources"].pop("DigestTopicPolicy"),
    ),
    (
        rules.one_function_alone_mails_the_coordinator,
        "everybody",
        lambda it: of(it, "DigestTopicPolicy")["PolicyDocument"]["Statement"].append(
            {"Effect": "Allow", "Principal": "*", "Action": "sns:Publish", "Resource": {"Ref": "DigestTopic"}}
        ),
    ),
    (
        rules.one_function_alone_mails_the_coordinator,
        "a rule of the bus as well",
        lambda it: it["Resources"].update(Rule={"Type": "AWS::Events::Rule", "Properties": {"Targets": []}}),
    ),
    (
        rules.every_queue_has_a_valve_towards_kiva,
        "as many environments as Lambda likes",
        lambda it: of(it, "LoanDraftsFromQueue").pop("ScalingConfig"),
    ),
    (
        rules.every_queue_has_a_valve_towards_kiva,
        "one environment, which AWS refuses",
        lambda it: it["Parameters"]["RepaymentsMaximumConcurrency"].update(MinValue=1, Default=1),
    ),
    (
        rules.ten_environments_are_enough_for_a_stack,
        "four environments for repayments",
        lambda it: it["Parameters"]["RepaymentsMaximumConcurrency"].update(Default=4),
    ),
    (
        rules.ten_environments_are_enough_for_a_stack,
        "four environments for a shard",
        lambda it: of(it, "OutcomesFromLedger").update(ParallelizationFactor=4),
    ),
    (
        rules.ten_environments_are_enough_for_a_stack,
        "one kept for housekeeping",
        lambda it: of(it, "HousekeepingFunction").update(ReservedConcurrentExecutions=1),
    ),
    (
        rules.large_batches_have_a_window,
        "1,000 messages at once",
        lambda it: of(it, "RepaymentsFromQueue").update(MaximumBatchingWindowInSeconds=0),
    ),
    (
        rules.large_batches_have_a_window,
        "no window allowed, and batches of 100",
        lambda it: it["Parameters"]["LoanDraftsBatchingWindowSeconds"].update(MinValue=0),
    ),
    (
        rules.every_queue_has_its_own_dead_letter_queue,
        "a queue that lost it",
        lambda it: of(it, "LoanDraftsQueue").pop("RedrivePolicy"),
    ),
    (
        rules.every_queue_has_its_own_dead_letter_queue,
        "two queues share one",
        lambda it: of(it, "RepaymentsQueue")["RedrivePolicy"].update(
            deadLetterTargetArn={"Fn::GetAtt": ["LoanDraftsDeadLetterQueue", "Arn"]}
        ),
    ),
    (
        rules.every_queue_has_its_own_dead_letter_queue,
        "any queue of the account may use it",
        lambda it: of(it, "RepaymentsDeadLetterQueue").pop("RedriveAllowPolicy"),
    ),
    (
        rules.every_queue_has_its_own_dead_letter_queue,
        "it serves another queue's name",
        lambda it: of(it, "RepaymentsQueue").update(QueueName={"Fn::Sub": "${AWS::StackName}-payments"}),
    ),
    (
        rules.every_queue_has_its_own_dead_letter_queue,
        "both keep messages for 7 days",
        lambda it: of(it, "RepaymentsDeadLetterQueue").update(MessageRetentionPeriod=604800),
    ),
    (
        rules.the_largest_message_fits_into_every_queue,
        "the 256 KiB of before 2025",
        lambda it: of(it, "RepaymentsDeadLetterQueue").update(MaximumMessageSize=262144),
    ),
    (
        rules.the_largest_message_fits_into_every_queue,
        "whatever SQS thinks best",
        lambda it: of(it, "LoanDraftsQueue").pop("MaximumMessageSize"),
    ),
    (
        rules.the_largest_message_fits_into_every_queue,
        "more than SQS takes",
        lambda it: of(it, "LoanDraftsQueue").update(MaximumMessageSize=2**20 + 1),
    ),
    (
        rules.an_outage_of_kiva_reaches_no_dead_letter_queue,
        "the 5 receives of the textbook",
        lambda it: of(it, "LoanDraftsQueue")["RedrivePolicy"].update(maxReceiveCount=5),
    ),
    (
        rules.no_message_expires_unseen,
        "as many receives as SQS allows",
        lambda it: of(it, "LoanDraftsQueue")["RedrivePolicy"].update(maxReceiveCount=1000),
    ),
    (
        rules.no_message_expires_unseen,
        "the 4 days of SQS's default",
        lambda it: of(it, "LoanDraftsQueue").update(MessageRetentionPeriod=345600),
    ),
    (
        rules.what_is_stuck_is_told_by_the_numbers_of_the_queues,
        "one receive less",
        lambda it: of(it, "LoanDraftsQueue")["RedrivePolicy"].update(maxReceiveCount=99),
    ),
    (
        rules.what_is_stuck_is_told_by_the_numbers_of_the_queues,
        "a day longer",
        lambda it: of(it, "RepaymentsQueue").update(MessageRetentionPeriod=691200),
    ),
    (
        rules.queues_and_bucket_speak_only_tls,
        "a dead-letter queue forgotten",
        lambda it: of(it, "QueuesOnlyOverTls")["Queues"].remove({"Ref": "RepaymentsDeadLetterQueue"}),
    ),
    (
        rules.queues_and_bucket_speak_only_tls,
        "the bucket but not what is in it",
        lambda it: of(it, "PayloadBucketPolicy")["PolicyDocument"]["Statement"][0]["Resource"].pop(),
    ),
    (
        rules.queues_and_bucket_speak_only_tls,
        "a condition that never applies",
        lambda it: of(it, "QueuesOnlyOverTls")["PolicyDocument"]["Statement"][0].update(
            Condition={"Bool": {"aws:SecureTransport": "true"}}
        ),
    ),
    (
        rules.queues_and_bucket_speak_only_tls,
        "the policies only on a developer's machine",
        lambda it: it["Conditions"].update(OnAws={"Fn::Not": [it["Conditions"]["OnAws"]]}),
    ),
    (
        rules.everything_that_is_kept_is_encrypted_with_the_stacks_key,
        "a queue with SQS's own key",
        lambda it: of(it, "RepaymentsDeadLetterQueue").update(KmsMasterKeyId="alias/aws/sqs"),
    ),
    (
        rules.everything_that_is_kept_is_encrypted_with_the_stacks_key,
        "a topic in plain text",
        lambda it: of(it, "DigestTopic").pop("KmsMasterKeyId"),
    ),
    (
        rules.everything_that_is_kept_is_encrypted_with_the_stacks_key,
        "a bucket with S3's own key",
        lambda it: of(it, "PayloadBucket").pop("BucketEncryption"),
    ),
    (
        rules.everything_that_is_kept_is_encrypted_with_the_stacks_key,
        "a table with DynamoDB's own key",
        lambda it: of(it, "LedgerTable")["SSESpecification"].update(SSEEnabled=False),
    ),
    (
        rules.everything_that_is_kept_is_encrypted_with_the_stacks_key,
        "a secret with the account's key",
        lambda it: of(it, "CredentialsSecret").pop("KmsKeyId"),
    ),
    (
        rules.everything_that_is_kept_is_encrypted_with_the_stacks_key,
        "a log in plain text",
        lambda it: of(it, "HousekeepingLogGroup").pop("KmsKeyId"),
    ),
    (
        rules.everything_that_is_kept_is_encrypted_with_the_stacks_key,
        "a parameter with the account's key",
        lambda it: environment(it).update(ENCRYPTION_KEY="alias/aws/ssm"),
    ),
    (
        rules.the_key_is_lent_to_services_alone,
        "the account may do everything with it",
        lambda it: key_statement(it, "Administer").update(Action="kms:*"),
    ),
    (
        rules.the_key_is_lent_to_services_alone,
        "whoever administers it may decrypt",
        lambda it: key_statement(it, "Administer")["Action"].append("kms:Decrypt"),
    ),
    (
        rules.the_key_is_lent_to_services_alone,
        "without a service in between",
        lambda it: key_statement(it, "UseThroughServices").pop("Condition"),
    ),
    (
        rules.the_key_is_lent_to_services_alone,
        "lent to anybody",
        lambda it: key_statement(it, "LendToDynamoDb")["Condition"].pop("Bool"),
    ),
    (
        rules.the_key_is_lent_to_services_alone,
        "the logs of every stack",
        lambda it: key_statement(it, "KeepLogs").pop("Condition"),
    ),
    (
        rules.the_key_is_lent_to_services_alone,
        "SNS and whoever else there is",
        lambda it: key_statement(it, "LendToSns").pop("Condition"),
    ),
    (
        rules.the_key_is_lent_to_services_alone,
        "another account",
        lambda it: key_statement(it, "UseThroughServices").update(Principal={"AWS": "*"}),
    ),
    (rules.the_key_is_lent_to_services_alone, "no rotation", lambda it: of(it, "StackKey").pop("EnableKeyRotation")),
    (
        rules.only_the_functions_that_call_kiva_read_secrets,
        "whoever administers the account reads the token",
        lambda it: it["Resources"].pop("OnlyFunctionsReadToken"),
    ),
    (
        rules.only_the_functions_that_call_kiva_read_secrets,
        "a person as well",
        lambda it: of_readers(it)["ArnNotLike"].update(
            {"aws:PrincipalArn": [of_readers(it)["ArnNotLike"]["aws:PrincipalArn"], "arn:aws:iam::1:user/somebody"]}
        ),
    ),
    (
        rules.only_the_functions_that_call_kiva_read_secrets,
        "the functions alone cannot",
        lambda it: of_readers(it).update(ArnLike=of_readers(it).pop("ArnNotLike")),
    ),
    (
        rules.only_the_functions_that_call_kiva_read_secrets,
        "whoever's role has the stack's name in its own",
        lambda it: of_readers(it)["ArnNotLike"].update(
            {"aws:PrincipalArn": {"Fn::Sub": "arn:*:iam::${AWS::AccountId}:role/${AWS::StackName}*"}}
        ),
    ),
    (
        rules.only_the_functions_that_call_kiva_read_secrets,
        "a function forgotten",
        lambda it: of(it, "ConsoleFunction").pop("RolePath"),
    ),
    (
        rules.only_the_functions_that_call_kiva_read_secrets,
        "the function that never calls Kiva",
        lambda it: of(it, "OutcomesFunction").update(RolePath={"Fn::Sub": "/${AWS::StackName}/"}),
    ),
    (
        rules.only_the_functions_that_call_kiva_read_secrets,
        "open to the public",
        lambda it: of(it, "OnlyFunctionsReadCredentials").update(BlockPublicPolicy=False),
    ),
    (
        rules.only_the_functions_that_call_kiva_read_secrets,
        "a right for somebody",
        lambda it: of(it, "OnlyFunctionsReadToken")["ResourcePolicy"]["Statement"][0].update(Effect="Allow"),
    ),
    (
        rules.only_the_functions_that_call_kiva_decrypt_a_token_in_ssm,
        "whoever administers the account reads it",
        lambda it: key_statement(it, "OnlyFunctionsReadToken").update(Sid="Nothing", Effect="Allow"),
    ),
    (
        rules.only_the_functions_that_call_kiva_decrypt_a_token_in_ssm,
        "the parameter has moved",
        lambda it: key_statement(it, "OnlyFunctionsReadToken")["Condition"]["StringEquals"].update(
            {"kms:EncryptionContext:PARAMETER_ARN": {"Fn::Sub": "arn:*:ssm:*:*:parameter/${AWS::StackName}/kiva-token"}}
        ),
    ),
    (
        rules.only_the_functions_that_call_kiva_decrypt_a_token_in_ssm,
        "the functions alone cannot, and so nothing is ever sent",
        lambda it: key_statement(it, "OnlyFunctionsReadToken")["Condition"].pop("ArnNotLike"),
    ),
    (
        rules.no_secret_lies_in_a_plain_parameter,
        "the token as a String",
        lambda it: it["Resources"].update(
            Token={"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Value": "none yet"}}
        ),
    ),
    (
        rules.reserved_environments_are_enough_for_the_queues,
        "as many as the queue may take",
        lambda it: of(it, "RepaymentsFunction").update(ReservedConcurrentExecutions=1000),
    ),
    (
        rules.the_api_lets_in_its_own_account_alone,
        "no policy",
        lambda it: of(it, "RelayApi")["Auth"].pop("ResourcePolicy"),
    ),
    (
        rules.the_api_lets_in_its_own_account_alone,
        "one account too many",
        lambda it: it["Parameters"]["ApiAllowedAccounts"].update(Default="123456789012"),
    ),
    (
        rules.the_bucket_is_private,
        "a public policy is possible",
        lambda it: of(it, "PayloadBucket")["PublicAccessBlockConfiguration"].update(BlockPublicPolicy=False),
    ),
    (
        rules.borrowers_photos_are_forgotten,
        "photos for ever",
        lambda it: of(it, "PayloadBucket")["LifecycleConfiguration"]["Rules"].pop(0),
    ),
    (
        rules.borrowers_photos_are_forgotten,
        "photos gone before their dead letter",
        lambda it: of(it, "PayloadBucket")["LifecycleConfiguration"]["Rules"][0].update(ExpirationInDays=21),
    ),
    (
        rules.borrowers_photos_are_forgotten,
        "everything else expires as photos do",
        lambda it: of(it, "PayloadBucket")["LifecycleConfiguration"]["Rules"][0].pop("Prefix"),
    ),
    (
        rules.borrowers_photos_are_forgotten,
        "deleted photos live on as versions",
        lambda it: of(it, "PayloadBucket")["LifecycleConfiguration"]["Rules"].pop(),
    ),
    (
        rules.borrowers_photos_are_forgotten,
        "no versions",
        lambda it: of(it, "PayloadBucket").pop("VersioningConfiguration"),
    ),
    (
        rules.borrowers_photos_are_forgotten,
        "what waits for a decision goes by itself",
        lambda it: lifecycle(it, "photos/").update(Prefix="unknown/"),
    ),
    (
        rules.what_held_data_outlives_the_stack,
        "the ledger goes",
        lambda it: it["Resources"]["LedgerTable"].pop("DeletionPolicy"),
    ),
    (
        rules.what_held_data_outlives_the_stack,
        "the key goes, and with it the meaning of all the rest",
        lambda it: it["Resources"]["StackKey"].pop("DeletionPolicy"),
    ),
    (
        rules.what_held_data_outlives_the_stack,
        "a replaced queue goes",
        lambda it: it["Resources"]["RepaymentsQueue"].update(UpdateReplacePolicy="Delete"),
    ),
    (
        rules.what_held_data_outlives_the_stack,
        "the bus goes, and fails where somebody has a rule on it",
        lambda it: it["Resources"]["EventBus"].pop("DeletionPolicy"),
    ),
    (
        rules.what_held_data_outlives_the_stack,
        "the credentials stay, and whoever administers the account reads them",
        lambda it: it["Resources"]["OnlyFunctionsReadCredentials"].pop("DeletionPolicy"),
    ),
    (
        rules.what_held_data_outlives_the_stack,
        "a bucket of nobody",
        lambda it: of(it, "PayloadBucket").pop("Tags"),
    ),
    (
        rules.a_failed_first_deployment_can_be_rolled_back,
        "a ledger that refuses to go",
        lambda it: it["Parameters"]["DeletionProtection"].update(Default="on"),
    ),
    (
        rules.a_failed_first_deployment_can_be_rolled_back,
        "a queue whose name is then taken",
        lambda it: it["Resources"]["RepaymentsQueue"].update(DeletionPolicy="Retain"),
    ),
    (
        rules.a_failed_first_deployment_can_be_rolled_back,
        "a role for API Gateway after each attempt",
        lambda it: it["Resources"]["ApiGatewayLogsRole"].update(DeletionPolicy="Retain"),
    ),
    (
        rules.the_ledger_is_as_agreed_and_can_be_recovered,
        "no recovery",
        lambda it: of(it, "LedgerTable").update(PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False}),
    ),
    (
        rules.the_ledger_is_as_agreed_and_can_be_recovered,
        "rows never expire",
        lambda it: of(it, "LedgerTable").update(TimeToLiveSpecification={"AttributeName": "ttl", "Enabled": True}),
    ),
    (
        rules.the_ledger_is_as_agreed_and_can_be_recovered,
        "an index fewer",
        lambda it: of(it, "LedgerTable")["GlobalSecondaryIndexes"].pop(),
    ),
    (
        rules.the_ledger_is_as_agreed_and_can_be_recovered,
        "an index of keys only",
        lambda it: of(it, "LedgerTable")["GlobalSecondaryIndexes"][0].update(
            Projection={"ProjectionType": "KEYS_ONLY"}
        ),
    ),
    (
        rules.the_ledger_is_as_agreed_and_can_be_recovered,
        "amounts of a month are not to be found",
        lambda it: of(it, "LedgerTable")["GlobalSecondaryIndexes"][1].update(
            Projection={"ProjectionType": "INCLUDE", "NonKeyAttributes": ["client_id"]}
        ),
    ),
    (
        rules.every_route_needs_a_signature,
        "one route open",
        lambda it: of(it, "ConsoleFunction")["Events"]["ListLoans"]["Properties"].update(Auth={"Authorizer": "NONE"}),
    ),
    (
        rules.every_route_needs_a_signature,
        "an API key is no signature",
        lambda it: of(it, "RelayApi").update(
            Auth={"ApiKeyRequired": True, "DefaultAuthorizer": "AWS_IAM", "InvokeRole": "NONE"}
        ),
    ),
    (
        rules.every_route_needs_a_signature,
        "callers need the right to invoke",
        lambda it: of(it, "RelayApi")["Auth"].pop("InvokeRole"),
    ),
    (
        rules.nothing_but_the_api_is_open_to_callers,
        "a function URL",
        lambda it: it["Resources"].update(ConsoleUrl=URL_OF_FUNCTION),
    ),
    (
        rules.nothing_but_the_api_is_open_to_callers,
        "anybody may invoke",
        lambda it: it["Resources"].update(Everybody=OPEN_TO_ALL),
    ),
    (
        rules.the_api_is_throttled_and_traced,
        "one route throttled",
        lambda it: of(it, "RelayApi")["MethodSettings"][0].update(ResourcePath="/loans"),
    ),
    (
        rules.the_api_is_throttled_and_traced,
        "bodies in the log",
        lambda it: of(it, "RelayApi")["MethodSettings"][0].update(DataTraceEnabled=True),
    ),
    (rules.the_api_is_throttled_and_traced, "untraced", lambda it: of(it, "RelayApi").pop("TracingEnabled")),
    (
        rules.access_logs_tell_nothing_about_borrowers,
        "the path, with the reference in it",
        lambda it: of(it, "RelayApi")["AccessLogSetting"].update(Format='{"path":"$context.path"}'),
    ),
    (
        rules.access_logs_tell_nothing_about_borrowers,
        "no access log",
        lambda it: of(it, "RelayApi").pop("AccessLogSetting"),
    ),
    (
        rules.access_logs_tell_nothing_about_borrowers,
        "an access log for ever",
        lambda it: of(it, "RelayApiLogGroup").pop("RetentionInDays"),
    ),
    (
        rules.no_right_is_given_on_everything,
        "every secret",
        lambda it: statements(it, "ConsoleFunction").append(allow("secretsmanager:GetSecretValue", "*")),
    ),
    (
        rules.no_right_is_given_on_everything,
        "every queue whose name fits",
        lambda it: statements(it, "ConsoleFunction").append(
            allow("sqs:SendMessage", {"Fn::Sub": "arn:aws:sqs:*:*:${AWS::StackName}-*"})
        ),
    ),
    (
        rules.no_right_is_given_on_everything,
        "every action on the ledger",
        lambda it: statements(it, "ConsoleFunction").append(
            allow("dynamodb:*", {"Fn::GetAtt": ["LedgerTable", "Arn"]})
        ),
    ),
    (
        rules.no_right_is_given_on_everything,
        "everything but one bucket",
        lambda it: statements(it, "ConsoleFunction").append(
            {"Effect": "Allow", "Action": "s3:GetObject", "NotResource": {"Fn::GetAtt": ["PayloadBucket", "Arn"]}}
        ),
    ),
    (
        rules.no_right_is_given_on_everything,
        "the shared policy on every parameter",
        lambda it: of(it, "KivaTokenPolicy")["PolicyDocument"]["Statement"].append(allow("ssm:GetParameter", "*")),
    ),
    (
        rules.no_right_is_given_on_everything,
        "a policy of AWS's own",
        lambda it: of(it, "ConsoleFunction")["Policies"].append("arn:aws:iam::aws:policy/AmazonSQSFullAccess"),
    ),
    (
        rules.no_right_is_given_on_everything,
        "the queue as an event, for which SAM adds a right on every queue",
        lambda it: of(it, "LoanDraftsFunction")["Events"].update(
            Queue={"Type": "SQS", "Properties": {"Queue": {"Fn::GetAtt": ["LoanDraftsQueue", "Arn"]}}}
        ),
    ),
    (
        rules.every_row_is_reached_by_its_key,
        "the whole table",
        lambda it: statement_of(it, "ConsoleFunction", "Read").pop("Condition"),
    ),
    (
        rules.every_row_is_reached_by_its_key,
        "another partner's decisions",
        lambda it: leading_keys(it, "HousekeepingFunction", "CloseAndDecide").append("*#submission#*"),
    ),
    (
        rules.every_row_is_reached_by_its_key,
        "a whole index",
        lambda it: statement_of(it, "OutcomesFunction", "SearchLedger").pop("Condition"),
    ),
    (
        rules.secrets_are_nowhere_in_the_template,
        "the client secret as a parameter",
        lambda it: it["Parameters"].update(KivaClientSecret={"Type": "String"}),
    ),
    (
        rules.secrets_are_nowhere_in_the_template,
        "a hidden parameter",
        lambda it: it["Parameters"].update(KivaKey={"Type": "String", "NoEcho": True}),
    ),
    (
        rules.secrets_are_nowhere_in_the_template,
        "a first value in the template",
        lambda it: of(it, "CredentialsSecret").update(SecretString="{}"),
    ),
    (
        rules.secrets_are_nowhere_in_the_template,
        "the secret resolved into the environment",
        lambda it: environment(it).update(CLIENT={"Fn::Sub": "{{resolve:secretsmanager:${CredentialsSecret}}}"}),
    ),
    (rules.every_alarm_says_what_to_do, "no description", lambda it: of(it, "ApiErrorsAlarm").pop("AlarmDescription")),
    (
        rules.every_alarm_says_what_to_do,
        "no heading",
        lambda it: of(it, "ApiErrorsAlarm").update(AlarmDescription="The API answers with 5xx."),
    ),
    (
        rules.everything_that_goes_wrong_raises_an_alarm,
        "queues that nobody empties",
        lambda it: it["Resources"].pop("QueuesNotEmptiedAlarm"),
    ),
    (
        rules.everything_that_goes_wrong_raises_an_alarm,
        "outcomes may be late for a day",
        lambda it: it["Resources"].pop("OutcomesLateAlarm"),
    ),
    (
        rules.everything_that_goes_wrong_raises_an_alarm,
        "messages laid aside are counted, and those that SQS moves are not",
        lambda it: of(it, "DeadLettersAlarm").update(MetricName="DeadLetter"),
    ),
    (
        rules.everything_that_goes_wrong_raises_an_alarm,
        "SQS's age, which leaves out what was received three times",
        lambda it: of(it, "MessagesWaitAlarm").update(MetricName="ApproximateAgeOfOldestMessage"),
    ),
    (
        rules.everything_that_goes_wrong_raises_an_alarm,
        "all stacks of an account share an alarm",
        lambda it: of(it, "MisconfiguredAlarm").update(Dimensions=[{"Name": "service", "Value": "kiva-relay"}]),
    ),
    (
        rules.everything_that_goes_wrong_raises_an_alarm,
        "one kind instead of their sum",
        lambda it: of(it, "UnknownAlarm")["Dimensions"].append({"Name": "kind", "Value": "repayment"}),
    ),
    (
        rules.everything_that_goes_wrong_raises_an_alarm,
        "a function that may fail for ever",
        lambda it: of(it, "ErrorsAlarm")["Metrics"].pop(),
    ),
    (
        rules.everything_that_goes_wrong_raises_an_alarm,
        "a function without room to run",
        lambda it: of(it, "ThrottledAlarm")["Metrics"].pop(),
    ),
    (
        rules.a_metric_of_ours_is_silent_when_all_is_well,
        "silence rings",
        lambda it: of(it, "DeadLettersAlarm").update(TreatMissingData="breaching"),
    ),
    (
        rules.a_metric_of_ours_is_silent_when_all_is_well,
        "what housekeeping said once holds for ever",
        lambda it: of(it, "UnknownAlarm").update(TreatMissingData="ignore"),
    ),
    (
        rules.a_metric_of_ours_is_silent_when_all_is_well,
        "three runs make three of one",
        lambda it: of(it, "RefusedAlarm").update(Statistic="Sum"),
    ),
    (
        rules.a_metric_of_ours_is_silent_when_all_is_well,
        "nobody hears that Kiva is back",
        lambda it: of(it, "BreakerAlarm").pop("OKActions"),
    ),
    (
        rules.a_metric_of_ours_is_silent_when_all_is_well,
        "an outage is over because nobody tries",
        lambda it: of(it, "KivaUnavailableAlarm").update(OKActions=[]),
    ),
    (
        rules.a_gauge_holds_until_housekeeping_comes_again,
        "a flash of five minutes",
        lambda it: of(it, "UnknownAlarm").update(Period=300),
    ),
    (
        rules.a_gauge_holds_until_housekeeping_comes_again,
        "each of three runs, and none may be late",
        lambda it: of(it, "QueuesNotEmptiedAlarm").update(EvaluationPeriods=3),
    ),
    (
        rules.a_gauge_holds_until_housekeeping_comes_again,
        "minutes without housekeeping",
        lambda it: of(it, "BreakerAlarm").update(Period=60),
    ),
    (
        rules.an_old_message_rings_until_it_is_received_again,
        "an hour, at whose end a message is received again",
        lambda it: of(it, "MessagesWaitAlarm").update(EvaluationPeriods=12),
    ),
    (
        rules.an_old_message_rings_until_it_is_received_again,
        "five minutes, as of a metric that SQS tells each minute",
        lambda it: of(it, "MessagesWaitAlarm").update(EvaluationPeriods=1),
    ),
    (
        rules.an_old_message_rings_until_it_is_received_again,
        "a window of ten minutes, when a minute is over in which it waits for others",
        lambda it: it["Parameters"]["RepaymentsBatchingWindowSeconds"].update(MaxValue=300),
    ),
    (
        rules.an_old_message_rings_until_it_is_received_again,
        "two messages",
        lambda it: of(it, "MessagesWaitAlarm").update(DatapointsToAlarm=2),
    ),
    (
        rules.an_old_message_rings_until_it_is_received_again,
        "two hours",
        lambda it: of(it, "MessagesWaitAlarm").update(Threshold=7200),
    ),
    (
        rules.an_outage_rings_within_a_quarter_of_an_hour_for_a_single_message,
        "two in a row, between which a message may not come",
        lambda it: of(it, "KivaUnavailableAlarm").update(EvaluationPeriods=2),
    ),
    (
        rules.an_outage_rings_within_a_quarter_of_an_hour_for_a_single_message,
        "three of three",
        lambda it: of(it, "KivaUnavailableAlarm").update(DatapointsToAlarm=3),
    ),
    (
        rules.an_outage_rings_within_a_quarter_of_an_hour_for_a_single_message,
        "periods of ten minutes",
        lambda it: of(it, "KivaUnavailableAlarm").update(Period=600),
    ),
    (
        rules.an_outage_rings_within_a_quarter_of_an_hour_for_a_single_message,
        "a hiccup",
        lambda it: of(it, "KivaUnavailableAlarm").update(DatapointsToAlarm=1),
    ),
    (
        rules.an_outage_rings_within_a_quarter_of_an_hour_for_a_single_message,
        "a longer window for batches",
        lambda it: it["Parameters"]["RepaymentsBatchingWindowSeconds"].update(MaxValue=120),
    ),
    (
        rules.the_dashboard_fits_the_screen,
        "a widget beside the screen",
        lambda it: on_the_dashboard(it, '"x": 18, "y": 29', '"x": 19, "y": 29'),
    ),
    (
        rules.the_dashboard_fits_the_screen,
        "two widgets in one place",
        lambda it: on_the_dashboard(it, '"x": 6, "y": 29', '"x": 5, "y": 29'),
    ),
    (
        rules.the_dashboard_draws_what_there_is,
        "a metric that SQS has not",
        lambda it: on_the_dashboard(it, '"NumberOfMessagesSent"', '"MessagesSent"'),
    ),
    (
        rules.the_dashboard_draws_what_there_is,
        "a queue as a function",
        lambda it: on_the_dashboard(it, '"Duration", "FunctionName"', '"Duration", "Queue"'),
    ),
    (
        rules.the_dashboard_shows_every_alarm_and_what_it_watches,
        "an alarm forgotten",
        lambda it: on_the_dashboard(it, '"${ErrorsAlarm.Arn}",', ""),
    ),
    (
        rules.the_dashboard_shows_every_alarm_and_what_it_watches,
        "the gauge of another stack",
        lambda it: on_the_dashboard(
            it, '"UnknownWaiting", "service", "${AWS::StackName}"', '"UnknownWaiting", "service", "kiva-relay"'
        ),
    ),
    (
        rules.the_dashboard_costs_nothing,
        "one metric more",
        lambda it: on_the_dashboard(
            it,
            '["AWS/ApiGateway", "Count"',
            '["AWS/ApiGateway", "Latency", "ApiName", "x"], ["AWS/ApiGateway", "Count"',
        ),
    ),
    (
        rules.alarms_listen_where_the_functions_speak,
        "another namespace",
        lambda it: environment(it).update(POWERTOOLS_METRICS_NAMESPACE="Kiva"),
    ),
    (
        rules.alarms_listen_where_the_functions_speak,
        "a service name per function",
        lambda it: of(it, "ConsoleFunction")["Environment"]["Variables"].update(POWERTOOLS_SERVICE_NAME="console"),
    ),
    (
        rules.silence_of_housekeeping_is_a_fault,
        "no data, no alarm",
        lambda it: of(it, "HousekeepingAlarm").update(TreatMissingData="notBreaching"),
    ),
    (
        rules.silence_of_housekeeping_is_a_fault,
        "no data rings, also before there can be any",
        lambda it: of(it, "HousekeepingAlarm").update(TreatMissingData="breaching"),
    ),
    (
        rules.silence_of_housekeeping_is_a_fault,
        "nobody is told that there is no data",
        lambda it: of(it, "HousekeepingAlarm").pop("InsufficientDataActions"),
    ),
    (
        rules.silence_of_housekeeping_is_a_fault,
        "nobody is told that each run fails",
        lambda it: of(it, "HousekeepingAlarm").pop("AlarmActions"),
    ),
    (
        rules.silence_of_housekeeping_is_a_fault,
        "a run that is killed half way is as good as one",
        lambda it: of(it, "HousekeepingAlarm")["Metrics"][0].update(Expression="invocations"),
    ),
    (
        rules.silence_of_housekeeping_is_a_fault,
        "an hour",
        lambda it: of(it, "HousekeepingAlarm").update(EvaluationPeriods=12),
    ),
    (
        rules.two_stacks_of_an_account_do_not_collide,
        "the name that SAM gives to a schedule",
        lambda it: of(it, "HousekeepingFunction")["Events"]["EveryFiveMinutes"]["Properties"].pop("Name"),
    ),
    (
        rules.two_stacks_of_an_account_do_not_collide,
        "a queue's name in plain words",
        lambda it: of(it, "LoanDraftsQueue").update(QueueName="loan-drafts"),
    ),
    (
        rules.two_stacks_of_an_account_do_not_collide,
        "one dashboard for all stacks",
        lambda it: of(it, "Dashboard").update(DashboardName="kiva-relay"),
    ),
    (
        rules.two_stacks_of_an_account_do_not_collide,
        "the name that SAM gives to a layer",
        lambda it: of(it, "KivaPartnerLayer").pop("LayerName"),
    ),
    (
        rules.two_stacks_of_an_account_do_not_collide,
        "a path for the roles of every stack",
        lambda it: of(it, "ConsoleFunction").update(RolePath="/kiva-relay/"),
    ),
    (
        rules.every_name_has_room_for_the_longest_stack_name,
        "a function with a longer name",
        lambda it: of(it, "JournalUpdatesFunction").update(
            FunctionName={"Fn::Sub": "${AWS::StackName}-all-journals-ever"}
        ),
    ),
    (
        rules.every_name_has_room_for_the_longest_stack_name,
        "names that have become shorter",
        lambda it: of(it, "JournalUpdatesFunction").update(FunctionName={"Fn::Sub": "${AWS::StackName}-journals"}),
    ),
    (
        rules.every_name_has_room_for_the_longest_stack_name,
        "a name of which nobody knows how long it may be",
        lambda it: of(it, "LedgerTable").update(TableName={"Fn::Sub": "${AWS::StackName}-ledger"}),
    ),
    (
        rules.a_fresh_account_takes_the_log_role,
        "the setting is the first thing of API Gateway",
        lambda it: it["Resources"]["ApiGatewayAccount"].pop("DependsOn"),
    ),
    (
        rules.a_fresh_account_takes_the_log_role,
        "a key that is good for something",
        lambda it: of(it, "ApiGatewayWasHere").update(Enabled=True),
    ),
    (
        rules.a_fresh_account_takes_the_log_role,
        "an access log before its role",
        lambda it: of(it, "RelayApi").pop("Variables"),
    ),
    (
        rules.no_function_makes_the_log_group_that_went_with_the_stack,
        "those that call Kiva",
        lambda it: of(it, "KivaTokenPolicy")["PolicyDocument"]["Statement"].pop(0),
    ),
    (
        rules.no_function_makes_the_log_group_that_went_with_the_stack,
        "the one that does not",
        lambda it: of(it, "OutcomesFunction")["Policies"][0]["Statement"].pop(0),
    ),
    (
        rules.everything_is_described,
        "a parameter without a word",
        lambda it: it["Parameters"]["CsvColumns"].pop("Description"),
    ),
    (rules.everything_is_described, "an output without a word", lambda it: it["Outputs"]["ApiUrl"].pop("Description")),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_template_keeps_the_rule(rule):
    assert list(rule(as_deployed(translate(read()), STAGE))) == []


@pytest.mark.parametrize(
    ("rule", "name", "mutate"), MUTANTS, ids=[f"{rule.__name__}: {name}" for rule, name, _ in MUTANTS]
)
def test_a_template_that_breaks_the_rule_is_caught(rule, name, mutate):
    broken = read()
    mutate(broken)
    assert list(rule(as_deployed(translate(broken), STAGE))), name


def test_every_rule_has_a_template_that_breaks_it():
    assert {rule for rule, _, _ in MUTANTS} == set(RULES)
