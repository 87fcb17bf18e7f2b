"""What may be deployed with which settings, and what reaches the functions of it."""

import fnmatch
import re
import tomllib

import pytest

from kiva_partner import runtime
from kiva_partner.settings import Settings
from template.cloudformation import ROOT, as_deployed, defaults, named, of_type, read, refusals, translate
from template.rules import OUR_PARAMETER

PRODUCTION = {"KivaEnvironment": "production", "KivaPartnerId": "63"}
STAGE = {"KivaEnvironment": "stage", "KivaPartnerId": "63"}
SANDBOX = {
    "KivaEnvironment": "sandbox",
    "KivaPartnerId": "9001",
    "KivaTokenUrl": "http://127.0.0.1:8080/oauth/token",
    "KivaAudience": "https://partner-api-stage.dk1.kiva.org",
    "KivaApiBaseUrl": "http://127.0.0.1:8080",
}
SAMCONFIG = tomllib.loads((ROOT / "samconfig.toml").read_text())

EVERY_FUNCTION = {
    "KIVA_ENVIRONMENT", "KIVA_PRODUCTION_CONFIRMED", "KIVA_TOKEN_URL", "KIVA_AUDIENCE", "KIVA_API_BASE_URL",
    "KIVA_PARTNER_ID", "KIVA_CREDENTIALS_SECRET", "TOKEN_STORE", "TOKEN_STORE_NAME", "LEDGER_TABLE", "PAYLOAD_BUCKET",
    "ENCRYPTION_KEY",
    "CSV_COLUMNS", "REPAYMENT_AMOUNT_MODE", "KIVA_CONNECT_TIMEOUT_SECONDS", "KIVA_READ_TIMEOUT_SECONDS",
    "REPAYMENTS_PER_CALL", "JOURNALS_PER_CALL", "PARALLEL_CALLS", "MAX_IMAGE_BYTES", "AWS_ENDPOINT_URL",
    "POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_LOG_LEVEL", "PYTHONWARNINGS",
}  # fmt: skip
HOUSEKEEPING = {
    "LOAN_DRAFT_UNKNOWN_POLICY", "JOURNAL_UPDATE_UNKNOWN_POLICY", "REPAYMENT_UNKNOWN_POLICY",
    "LOAN_DRAFT_QUEUE_URL", "JOURNAL_UPDATE_QUEUE_URL", "REPAYMENT_QUEUE_URL",
    "LOAN_DRAFT_DEAD_LETTER_QUEUE_URL", "JOURNAL_UPDATE_DEAD_LETTER_QUEUE_URL", "REPAYMENT_DEAD_LETTER_QUEUE_URL",
    "OUTCOMES_DEAD_LETTER_QUEUE_URL",
}  # fmt: skip
QUEUE_FUNCTIONS = {
    "LoanDraftsFunction": "LoanDrafts",
    "JournalUpdatesFunction": "JournalUpdates",
    "RepaymentsFunction": "Repayments",
}


def test_production_is_refused_unless_it_is_confirmed():
    assert "KivaProductionConfirmed=yes" in refusals(read(), PRODUCTION)[0]
    assert refusals(read(), PRODUCTION | {"KivaProductionConfirmed": "no"})
    assert refusals(read(), PRODUCTION | {"KivaProductionConfirmed": "yes"}) == []


@pytest.mark.parametrize("almost", ["YES", "Yes", "true", "y", " yes", ""])
def test_only_the_exact_word_confirms_production(almost):
    assert refusals(read(), PRODUCTION | {"KivaProductionConfirmed": almost})


@pytest.mark.parametrize("environment", ["Production", "prod", "PRODUCTION", "staging", ""])
def test_no_other_spelling_of_an_environment_slips_past_the_rules(environment):
    assert refusals(read(), STAGE | {"KivaEnvironment": environment})


def test_stage_needs_nothing_but_a_partner():
    assert refusals(read(), STAGE) == []


@pytest.mark.parametrize("url", ["KivaTokenUrl", "KivaAudience", "KivaApiBaseUrl"])
def test_the_sandbox_has_no_address_of_its_own(url):
    assert refusals(read(), SANDBOX) == []
    assert url in " ".join(refusals(read(), SANDBOX | {url: ""}))


@pytest.mark.parametrize("real", [STAGE, PRODUCTION | {"KivaProductionConfirmed": "yes"}])
def test_a_local_aws_is_refused_where_credentials_are_real(real):
    assert "AwsEndpointUrl" in refusals(read(), real | {"AwsEndpointUrl": "http://127.0.0.1:4566"})[0]
    assert refusals(read(), SANDBOX | {"AwsEndpointUrl": "http://127.0.0.1:4566"}) == []


def test_what_nobody_knows_about_is_held_unless_somebody_says_otherwise():
    policies = [name for name in read()["Parameters"] if name.endswith("UnknownPolicy")]
    assert [defaults(read())[it] for it in policies] == ["hold"] * 3
    assert refusals(read(), STAGE | dict.fromkeys(policies, "resend")) == []


@pytest.mark.parametrize("policy", ["", "Resend", "retry", "abandon"])
def test_a_policy_for_the_unknown_is_to_hold_or_to_resend(policy):
    assert refusals(read(), STAGE | {"LoanDraftsUnknownPolicy": policy})


def test_an_instalment_is_never_sent_twice_by_a_policy():
    resend = STAGE | {"RepaymentsUnknownPolicy": "resend"}
    assert refusals(read(), resend | {"RepaymentAmountMode": "cumulative_principal"}) == []
    assert refusals(read(), resend | {"RepaymentAmountMode": "principal_outstanding"}) == []
    assert "a second payment" in refusals(read(), resend | {"RepaymentAmountMode": "instalment"})[0]
    others = {"LoanDraftsUnknownPolicy": "resend", "JournalUpdatesUnknownPolicy": "resend"}
    assert refusals(read(), STAGE | others | {"RepaymentAmountMode": "instalment"}) == []


@pytest.mark.parametrize("partner", ["", "63/../64", "63%2f", "٦٣", "63\n", "12345678901", "-1"])
def test_a_partner_is_up_to_ten_digits_and_nothing_else(partner):
    assert refusals(read(), STAGE | {"KivaPartnerId": partner}) == [f"KivaPartnerId does not take {partner}"]


@pytest.mark.parametrize(
    "url", ["ftp://kiva.org", "https://user@kiva.org", "https://kiva.org/?a=b", "kiva.org", "https://a b"]
)
def test_an_address_is_http_without_user_or_query(url):
    assert refusals(read(), STAGE | {"KivaApiBaseUrl": url})


def test_the_addresses_are_those_that_kiva_publishes():
    assert {stage: read()["Mappings"]["Kiva"][stage] for stage in ("stage", "production")} == {
        "stage": {
            "TokenUrl": "https://auth.staging.kiva.org/oauth/token",
            "Audience": "https://partner-api-stage.dk1.kiva.org",
            "ApiBaseUrl": "https://partnerapi.staging.kiva.org",
        },
        "production": {
            "TokenUrl": "https://auth.k1.kiva.org/oauth/token",
            "Audience": "https://partner-api.k1.kiva.org",
            "ApiBaseUrl": "https://partner-api.k1.kiva.org",
        },
    }


@pytest.mark.parametrize(
    ("variable", "parameter", "key"),
    [
        ("KIVA_TOKEN_URL", "KivaTokenUrl", "TokenUrl"),
        ("KIVA_AUDIENCE", "KivaAudience", "Audience"),
        ("KIVA_API_BASE_URL", "KivaApiBaseUrl", "ApiBaseUrl"),
    ],
)
def test_each_address_comes_from_the_mapping_unless_it_alone_is_given(variable, parameter, key):
    from_mapping = {"Fn::FindInMap": ["Kiva", {"Ref": "KivaEnvironment"}, key]}
    given = {parameter: "https://example.org"}
    assert environment_of("ConsoleFunction", STAGE)[variable] == from_mapping
    assert environment_of("ConsoleFunction", STAGE | given)[variable] == {"Ref": parameter}
    others = {"KIVA_TOKEN_URL", "KIVA_AUDIENCE", "KIVA_API_BASE_URL"} - {variable}
    assert all("Fn::FindInMap" in environment_of("ConsoleFunction", STAGE | given)[it] for it in others)


def environment_of(function, parameters):
    return of_type(as_deployed(translate(read()), parameters), "AWS::Lambda::Function")[function]["Environment"][
        "Variables"
    ]


def test_every_function_gets_exactly_the_variables_that_settings_reads():
    functions = of_type(translate(read()), "AWS::Lambda::Function")
    own = {name: {"QUEUE_URL", "DEAD_LETTER_QUEUE_URL"} for name in QUEUE_FUNCTIONS}
    own["LoanDraftsFunction"] |= {"STRICT_DRAFTS"}
    own["HousekeepingFunction"] = HOUSEKEEPING
    own["OutcomesFunction"] = {"EVENT_BUS", "DIGEST_TOPIC", "DEAD_LETTER_QUEUE_URL"}
    for name, function in functions.items():
        assert function["Environment"]["Variables"].keys() == EVERY_FUNCTION | own.get(name, set()), name


def as_run(function, parameters):
    """A function's variables with the values of a stack; another resource's name stands for its address."""
    template = read()
    given = defaults(template) | parameters

    def value(node):
        match node:
            case {"Fn::FindInMap": [mapping, {"Ref": parameter}, key]}:
                return template["Mappings"][mapping][given[parameter]][key]
            case {"Ref": name} if name in given:
                return given[name]
        return named(node)

    return {name: value(node) for name, node in environment_of(function, parameters).items()}


@pytest.mark.parametrize("parameters", [STAGE, SANDBOX, PRODUCTION | {"KivaProductionConfirmed": "yes"}])
@pytest.mark.parametrize("function", [*QUEUE_FUNCTIONS, "ConsoleFunction", "HousekeepingFunction", "OutcomesFunction"])
def test_the_layer_accepts_the_settings_of_every_stage(function, parameters):
    settings = Settings.from_environment(as_run(function, parameters))
    assert settings.environment == parameters["KivaEnvironment"]
    assert bool(settings.queue_url) == (function in QUEUE_FUNCTIONS)
    assert bool(settings.dead_letter_queue_url) == (function in {*QUEUE_FUNCTIONS, "OutcomesFunction"})
    assert bool(settings.event_bus) == (function == "OutcomesFunction")


def test_the_lease_that_the_layer_takes_is_one_that_the_policy_allows(monkeypatch):
    for name, value in as_run("ConsoleFunction", STAGE).items():
        monkeypatch.setenv(name, value)
    runtime.forget()
    lease = runtime.tokens()._lease._name
    runtime.forget()
    policy = of_type(translate(read()), "AWS::IAM::ManagedPolicy")["KivaTokenPolicy"]["PolicyDocument"]
    (lease_of,) = (it for it in policy["Statement"] if it.get("Sid") == "HoldLease")
    pattern = lease_of["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]["Fn::Sub"]
    allowed = pattern.replace("${KivaEnvironment}", "stage").replace("${KivaPartnerId}", "63")
    assert fnmatch.fnmatchcase(lease, allowed), lease


@pytest.mark.parametrize(("function", "kind"), QUEUE_FUNCTIONS.items())
def test_a_queue_function_knows_its_own_queues_and_how_many_calls_to_make(function, kind):
    variables = environment_of(function, STAGE)
    assert named(variables["QUEUE_URL"]) == f"{kind}Queue"
    assert named(variables["DEAD_LETTER_QUEUE_URL"]) == f"{kind}DeadLetterQueue"
    assert named(variables["PARALLEL_CALLS"]) == f"{kind}ParallelCalls"


def test_drafts_are_judged_as_the_parameter_says_and_not_strictly_unless_it_does():
    assert named(environment_of("LoanDraftsFunction", STAGE)["STRICT_DRAFTS"]) == "StrictDrafts"
    assert defaults(read())["StrictDrafts"] == "no"
    assert refusals(read(), STAGE | {"StrictDrafts": "Yes"})


def test_housekeeping_knows_every_queue_and_what_to_do_with_the_unknown():
    variables = environment_of("HousekeepingFunction", STAGE)
    kinds = {"LoanDrafts": "LOAN_DRAFT", "JournalUpdates": "JOURNAL_UPDATE", "Repayments": "REPAYMENT"}
    for name, kind in kinds.items():
        assert named(variables[f"{kind}_QUEUE_URL"]) == f"{name}Queue"
        assert named(variables[f"{kind}_DEAD_LETTER_QUEUE_URL"]) == f"{name}DeadLetterQueue"
        assert named(variables[f"{kind}_UNKNOWN_POLICY"]) == f"{name}UnknownPolicy"
    assert named(variables["OUTCOMES_DEAD_LETTER_QUEUE_URL"]) == "OutcomesDeadLetterQueue"


@pytest.mark.parametrize("function", ["ConsoleFunction", "LoanDraftsFunction"])
def test_the_token_is_where_the_parameter_says(function):
    in_secret = environment_of(function, STAGE | {"TokenStore": "secrets-manager"})
    in_parameter = environment_of(function, STAGE | {"TokenStore": "ssm"})
    assert named(in_secret["TOKEN_STORE_NAME"]) == "TokenSecret.Id"
    assert named(in_parameter["TOKEN_STORE_NAME"]) == OUR_PARAMETER.partition(":parameter")[2]
    assert "TokenSecret" not in as_deployed(translate(read()), STAGE | {"TokenStore": "ssm"})["Resources"]


@pytest.mark.parametrize(("asked", "protected"), [("on", True), ("off", False)])
def test_a_stack_that_is_there_protects_its_ledger_when_it_is_asked_to(asked, protected):
    stack = as_deployed(translate(read()), STAGE | {"DeletionProtection": asked})
    assert of_type(stack, "AWS::DynamoDB::Table")["LedgerTable"]["DeletionProtectionEnabled"] is protected


def test_the_digest_is_mailed_where_somebody_wants_it():
    assert environment_of("OutcomesFunction", STAGE)["DIGEST_TOPIC"] == ""
    wanted = environment_of("OutcomesFunction", STAGE | {"CoordinatorEmail": "coordinator@example.org"})
    assert named(wanted["DIGEST_TOPIC"]) == "DigestTopic"


def test_the_accounts_role_for_the_logs_of_apis_is_left_alone_when_others_have_set_it():
    kept = as_deployed(translate(read()), STAGE | {"ApiGatewayLogRole": "keep"})
    assert not {"ApiGatewayAccount", "ApiGatewayLogsRole", "ApiGatewayWasHere"} & kept["Resources"].keys()
    assert of_type(kept, "AWS::ApiGateway::Stage")["RelayApiv1Stage"]["Variables"] == {"LogRole": "kept"}
    assert defaults(read())["ApiGatewayLogRole"] == "create"


def test_the_api_has_the_routes_that_are_promised():
    paths = of_type(translate(read()), "AWS::ApiGateway::RestApi")["RelayApi"]["Body"]["paths"]
    assert {
        (method, path, integrated_with(it)) for path, methods in paths.items() for method, it in methods.items()
    } == {
        ("post", "/loan-drafts", "LoanDraftsFunction"),
        ("post", "/journal-updates", "JournalUpdatesFunction"),
        ("post", "/repayments", "RepaymentsFunction"),
        ("get", "/submissions", "ConsoleFunction"),
        ("get", "/submissions/{kind}/{reference}", "ConsoleFunction"),
        ("post", "/submissions/{kind}/{reference}/decision", "ConsoleFunction"),
        ("get", "/waiting", "ConsoleFunction"),
        ("post", "/waiting/{kind}/{reference}/done", "ConsoleFunction"),
        ("post", "/pause", "ConsoleFunction"),
        ("post", "/resume", "ConsoleFunction"),
        ("get", "/check", "ConsoleFunction"),
        ("get", "/health", "ConsoleFunction"),
        ("get", "/loans", "ConsoleFunction"),
        ("get", "/config/{name}", "ConsoleFunction"),
        ("get", "/openapi.json", "ConsoleFunction"),
    }


def integrated_with(method):
    return re.search(r"\$\{(\w+)\.Arn\}", named(method["x-amazon-apigateway-integration"]["uri"]))[1]


def overrides(environment):
    return dict(it.split("=", 1) for it in SAMCONFIG[environment]["deploy"]["parameters"]["parameter_overrides"])


def test_samconfig_has_the_three_environments_each_with_a_stack_of_its_own():
    environments = SAMCONFIG.keys() - {"version", "default"}
    assert environments == {"local", "stage", "prod"}
    stacks = {it: SAMCONFIG[it]["deploy"]["parameters"]["stack_name"] for it in environments}
    assert stacks == {it: f"kiva-relay-{it}" for it in environments}
    assert {it: overrides(it)["KivaEnvironment"] for it in environments} == {
        "local": "sandbox",
        "stage": "stage",
        "prod": "production",
    }


def test_local_deploys_as_it_stands():
    assert refusals(read(), overrides("local")) == []
    assert overrides("local")["KivaPartnerId"] == "9001"


def test_prod_is_refused_as_it_stands_even_with_a_partner():
    assert overrides("prod")["KivaProductionConfirmed"] == "no"
    assert "KivaProductionConfirmed=yes" in refusals(read(), overrides("prod") | {"KivaPartnerId": "63"})[0]


def test_stage_waits_for_a_partner_and_nothing_else():
    assert refusals(read(), overrides("stage")) == ["KivaPartnerId does not take your-partner-id"]


def test_samconfig_sets_only_parameters_that_exist():
    for environment in ("local", "stage", "prod"):
        assert overrides(environment).keys() <= read()["Parameters"].keys()


def test_only_production_and_stage_ask_before_they_change_a_stack():
    asks = {it: SAMCONFIG[it]["deploy"]["parameters"]["confirm_changeset"] for it in ("local", "stage", "prod")}
    assert asks == {"local": False, "stage": True, "prod": True}
