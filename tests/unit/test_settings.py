import pytest

from deployment import AT_KIVA
from kiva_partner.errors import Misconfigured
from kiva_partner.settings import KINDS, AmountMode, PartnerRules, Settings, UnknownPolicy

STAGE = {
    **AT_KIVA["stage"],
    "KIVA_PARTNER_ID": "9001",
    "KIVA_CREDENTIALS_SECRET": "arn:aws:secretsmanager:us-east-1:123456789012:secret:credentials-AbCdEf",
    "TOKEN_STORE": "ssm",
    "TOKEN_STORE_NAME": "/kiva-relay/kiva-relay-stage/token",
    "ENCRYPTION_KEY": "arn:aws:kms:us-east-1:123456789012:key/a-key",
    "LEDGER_TABLE": "ledger",
    "PAYLOAD_BUCKET": "payloads",
    "CSV_COLUMNS": "3",
    "REPAYMENT_AMOUNT_MODE": "principal_outstanding",
    "KIVA_CONNECT_TIMEOUT_SECONDS": "5",
    "KIVA_READ_TIMEOUT_SECONDS": "120",
    "REPAYMENTS_PER_CALL": "200",
    "JOURNALS_PER_CALL": "50",
    "PARALLEL_CALLS": "4",
    "MAX_IMAGE_BYTES": "5242880",
}
PRODUCTION = STAGE | AT_KIVA["production"]
SANDBOX = STAGE | {
    "KIVA_ENVIRONMENT": "sandbox",
    "KIVA_TOKEN_URL": "http://127.0.0.1:8080/oauth/token",
    "KIVA_API_BASE_URL": "http://127.0.0.1:8080",
}
PRODUCTION_HOSTS = (
    "auth.k1.kiva.org",
    "partner-api.k1.kiva.org",
    "partnerapi.production.kiva.org",
    "partner-api.kiva.org",
    "partnerapi.kiva.org",
)
"""Every one that Kiva has published."""
NUMBERS = (
    "KIVA_CONNECT_TIMEOUT_SECONDS",
    "KIVA_READ_TIMEOUT_SECONDS",
    "REPAYMENTS_PER_CALL",
    "JOURNALS_PER_CALL",
    "PARALLEL_CALLS",
    "MAX_IMAGE_BYTES",
)
URLS = ("KIVA_TOKEN_URL", "KIVA_AUDIENCE", "KIVA_API_BASE_URL")


def mistakes(environment):
    with pytest.raises(Misconfigured) as caught:
        Settings.from_environment(environment)
    return str(caught.value).removeprefix("settings: ").split("; ")


def test_a_complete_environment_is_read_whole():
    queue = {"QUEUE_URL": "https://sqs.test/queue", "DEAD_LETTER_QUEUE_URL": "https://sqs.test/dead-letters"}

    assert Settings.from_environment(STAGE | queue) == Settings(
        environment="stage",
        token_url="https://auth.staging.kiva.org/oauth/token",
        audience="https://partner-api-stage.dk1.kiva.org",
        api_base_url="https://partnerapi.staging.kiva.org",
        partner_id="9001",
        credentials_secret="arn:aws:secretsmanager:us-east-1:123456789012:secret:credentials-AbCdEf",
        token_store="ssm",
        token_store_name="/kiva-relay/kiva-relay-stage/token",
        encryption_key="arn:aws:kms:us-east-1:123456789012:key/a-key",
        ledger_table="ledger",
        payload_bucket="payloads",
        connect_timeout=5,
        read_timeout=120,
        repayments_per_call=200,
        journals_per_call=50,
        parallel_calls=4,
        rules=PartnerRules(
            needs_client_id=True, amount_mode=AmountMode.PRINCIPAL_OUTSTANDING, max_image_bytes=5_242_880
        ),
        strict_drafts=False,
        queue_url="https://sqs.test/queue",
        dead_letter_queue_url="https://sqs.test/dead-letters",
        unknown_policies=dict.fromkeys(KINDS, UnknownPolicy.HOLD),
        queue_urls=dict.fromkeys(KINDS, ""),
        dead_letter_queue_urls=dict.fromkeys([*KINDS, "outcomes"], ""),
        event_bus="",
        digest_topic="",
    )


def test_housekeeping_knows_the_policy_and_the_queue_of_each_kind():
    settings = Settings.from_environment(
        STAGE | {"REPAYMENT_UNKNOWN_POLICY": "resend", "JOURNAL_UPDATE_QUEUE_URL": "https://sqs.test/journals"}
    )
    assert [settings.unknown_policies[kind] for kind in KINDS] == ["hold", "hold", "resend"]
    assert settings.queue_urls["journal_update"] == "https://sqs.test/journals"


def test_a_policy_that_is_none_is_named():
    assert mistakes(STAGE | {"LOAN_DRAFT_UNKNOWN_POLICY": "perhaps"}) == [
        "LOAN_DRAFT_UNKNOWN_POLICY must be one of hold, resend"
    ]


def test_drafts_are_judged_strictly_only_where_that_is_said():
    assert Settings.from_environment(STAGE | {"STRICT_DRAFTS": "yes"}).strict_drafts
    assert not Settings.from_environment(STAGE | {"STRICT_DRAFTS": "no"}).strict_drafts
    assert mistakes(STAGE | {"STRICT_DRAFTS": "Yes"}) == ["STRICT_DRAFTS must be one of no, yes"]


def test_an_instalment_is_never_sent_again_by_policy():
    assert mistakes(STAGE | {"REPAYMENT_UNKNOWN_POLICY": "resend", "REPAYMENT_AMOUNT_MODE": "instalment"}) == [
        "REPAYMENT_UNKNOWN_POLICY is resend but REPAYMENT_AMOUNT_MODE is instalment"
    ]


@pytest.mark.parametrize("environment", [STAGE, PRODUCTION, SANDBOX], ids=["stage", "production", "sandbox"])
def test_a_function_without_a_queue_needs_no_queue(environment):
    assert Settings.from_environment(environment).queue_url == ""


def test_a_two_column_partner_needs_no_client_ids():
    assert not Settings.from_environment(STAGE | {"CSV_COLUMNS": "2"}).rules.needs_client_id


@pytest.mark.parametrize("name", URLS)
def test_a_slash_at_the_end_of_a_url_is_dropped_because_kiva_compares_the_audience_as_text(name):
    assert Settings.from_environment(STAGE | {name: STAGE[name] + "/"}) == Settings.from_environment(STAGE)


def test_two_stages_and_two_partners_are_kept_apart_in_a_table():
    environments = [STAGE, SANDBOX, STAGE | {"KIVA_PARTNER_ID": "9002"}]

    assert len({Settings.from_environment(environment).ledger_scope for environment in environments}) == 3


@pytest.mark.parametrize("name", STAGE)
def test_each_missing_variable_is_named(name):
    absent = {other: value for other, value in STAGE.items() if other != name}

    assert mistakes(absent) == [f"{name} is missing"]
    assert mistakes(absent | {name: ""}) == [f"{name} is missing"]


def test_an_empty_environment_names_them_all_at_once():
    assert sorted(mistakes({})) == sorted(f"{name} is missing" for name in STAGE)


def test_all_mistakes_are_in_one_message():
    assert mistakes(STAGE | {"KIVA_PARTNER_ID": "sixty", "TOKEN_STORE": "redis", "PARALLEL_CALLS": "0"}) == [
        "KIVA_PARTNER_ID must match [0-9]{1,10}",
        "TOKEN_STORE must be one of secrets-manager, ssm",
        "PARALLEL_CALLS must match [1-9][0-9]{0,8}",
    ]


@pytest.mark.parametrize(
    "partner_id",
    ["63/../64", "63\n", "\n63", "\uff16\uff13", "٦٣", "-63", "+63", "6 3", "63?", "63#", "%36", "1" * 11, "0x3f"],
)
def test_a_partner_id_cannot_lead_out_of_its_place_in_the_path(partner_id):
    assert mistakes(STAGE | {"KIVA_PARTNER_ID": partner_id}) == ["KIVA_PARTNER_ID must match [0-9]{1,10}"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KIVA_ENVIRONMENT", "prod"),
        ("KIVA_ENVIRONMENT", "Production"),
        ("TOKEN_STORE", "SSM"),
        ("CSV_COLUMNS", "4"),
        ("CSV_COLUMNS", "three"),
        ("REPAYMENT_AMOUNT_MODE", "interest"),
    ],
)
def test_a_choice_is_one_of_those_there_are(name, value):
    (mistake,) = mistakes(STAGE | {name: value})

    assert mistake.startswith(f"{name} must be one of ")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "1e3", "many", "\uff15", "5\n", "9" * 10])
def test_a_number_is_a_whole_number_above_0(name, value):
    assert mistakes(STAGE | {name: value}) == [f"{name} must match [1-9][0-9]{{0,8}}"]


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize(
    "value",
    [
        "partnerapi.staging.kiva.org",
        "ftp://partnerapi.staging.kiva.org",
        "https://user:pass@partnerapi.staging.kiva.org",
        "https://partnerapi.staging.kiva.org?partner=1",
        "https://partnerapi.staging.kiva.org#top",
        "https://partnerapi.staging.kiva.org\n",
        "https://",
        "https://[::1]/",
    ],
)
def test_a_url_is_a_plain_one(name, value):
    (mistake,) = mistakes(STAGE | {name: value})

    assert mistake.startswith(f"{name} must match ")


def test_no_mistake_shows_a_value():
    told = "; ".join(mistakes(dict.fromkeys(STAGE, "canary\n")))

    assert "canary" not in told
    assert all(name in told for name in STAGE)


# --- production ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("confirmed", ["no", "", "Yes", "true", "yes "])
def test_production_is_refused_until_it_is_confirmed(confirmed):
    assert mistakes(PRODUCTION | {"KIVA_PRODUCTION_CONFIRMED": confirmed}) == [
        "KIVA_ENVIRONMENT is production but KIVA_PRODUCTION_CONFIRMED is not yes"
    ]


def test_production_is_refused_when_nothing_is_said_of_its_confirmation():
    unconfirmed = {name: value for name, value in PRODUCTION.items() if name != "KIVA_PRODUCTION_CONFIRMED"}

    assert mistakes(unconfirmed) == ["KIVA_ENVIRONMENT is production but KIVA_PRODUCTION_CONFIRMED is not yes"]


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize("environment", [STAGE, SANDBOX], ids=["stage", "sandbox"])
@pytest.mark.parametrize("host", [*PRODUCTION_HOSTS, "kiva.org", "new.kiva.org"])
def test_no_other_stage_can_reach_production(name, environment, host):
    stage = environment["KIVA_ENVIRONMENT"]

    for spelled in (host, host.upper(), host + "."):
        assert mistakes(environment | {name: f"https://{spelled}/oauth/token"}) == [
            f"{name} is a production host of Kiva but KIVA_ENVIRONMENT is {stage}"
        ]


@pytest.mark.parametrize("name", URLS)
def test_production_cannot_reach_a_test_host(name):
    assert mistakes(PRODUCTION | {name: STAGE[name]}) == [
        f"{name} is a test host of Kiva but KIVA_ENVIRONMENT is production"
    ]


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize("environment", [STAGE, PRODUCTION], ids=["stage", "production"])
@pytest.mark.parametrize("host", ["staging.kiva.org.example", "stagingkiva.org", "kiva.org.example", "10.0.0.1"])
def test_kivas_credentials_go_to_kiva_alone(name, environment, host):
    assert mistakes(environment | {name: f"https://{host}"}) == [
        f"{name} is no host of Kiva but KIVA_ENVIRONMENT is {environment['KIVA_ENVIRONMENT']}"
    ]


@pytest.mark.parametrize("name", ["KIVA_TOKEN_URL", "KIVA_API_BASE_URL"])
def test_an_imitation_is_not_at_kiva(name):
    assert mistakes(SANDBOX | {name: STAGE[name]}) == [f"{name} is a test host of Kiva but KIVA_ENVIRONMENT is sandbox"]


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SECRETS_MANAGER"])
@pytest.mark.parametrize("environment", [STAGE, PRODUCTION], ids=["stage", "production"])
def test_kivas_credentials_do_not_leave_aws(name, environment):
    assert mistakes(environment | {name: "http://127.0.0.1:4566"}) == [
        f"{name} leads to an imitation of AWS but KIVA_ENVIRONMENT is {environment['KIVA_ENVIRONMENT']}"
    ]
    assert Settings.from_environment(environment | {name: ""})
    assert Settings.from_environment(SANDBOX | {name: "http://127.0.0.1:4566"})


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize("environment", [STAGE, PRODUCTION], ids=["stage", "production"])
def test_only_the_sandbox_may_be_reached_without_tls(name, environment):
    plain = environment[name].replace("https://", "http://")

    assert mistakes(environment | {name: plain}) == [
        f"{name} is not https but KIVA_ENVIRONMENT is {environment['KIVA_ENVIRONMENT']}"
    ]
    assert Settings.from_environment(SANDBOX | {name: "http://127.0.0.1:8080"})


def test_every_contradiction_is_named():
    confused = PRODUCTION | {
        "KIVA_PRODUCTION_CONFIRMED": "no",
        "KIVA_AUDIENCE": STAGE["KIVA_AUDIENCE"],
        "KIVA_API_BASE_URL": "http://partner-api.k1.kiva.org",
    }

    assert mistakes(confused) == [
        "KIVA_ENVIRONMENT is production but KIVA_PRODUCTION_CONFIRMED is not yes",
        "KIVA_AUDIENCE is a test host of Kiva but KIVA_ENVIRONMENT is production",
        "KIVA_API_BASE_URL is not https but KIVA_ENVIRONMENT is production",
    ]
