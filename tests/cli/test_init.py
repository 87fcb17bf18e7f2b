"""relay init: questions, and what of the answers stands in samconfig.toml afterwards."""

import shutil
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app as command
from cli import deploy, templates

ROOT = Path(__file__).parents[2]
PARAMETERS = templates.parameters_of(templates.read(ROOT / "template.yaml"))
TOPIC = "arn:aws:sns:us-east-1:123456789012:alarms"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("samconfig.toml", "template.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def init(folder, somebody):
    def run(stage, *answers):
        return CliRunner().invoke(command.app, ["init", "--stage", stage], input="".join(f"{it}\n" for it in answers))

    return run


def samconfig(folder):
    return (folder / "samconfig.toml").read_text()


def comments(text):
    return [line for line in text.splitlines() if line.startswith("#")]


def test_what_is_asked_is_written_and_can_be_deployed(init, folder):
    before = samconfig(folder)

    ran = init("stage", "af-south-1", "63", "3", "principal_outstanding", "a@b.test", TOPIC)

    assert ran.exit_code == 0, ran.output
    after = samconfig(folder)
    assert comments(after) == comments(before)
    assert templates.given("stage", after) == {
        "KivaEnvironment": "stage",
        "KivaPartnerId": "63",
        "CsvColumns": "3",
        "RepaymentAmountMode": "principal_outstanding",
        "CoordinatorEmail": "a@b.test",
        "AlarmTopicArn": TOPIC,
    }
    assert tomllib.loads(after)["stage"]["global"]["parameters"]["region"] == "af-south-1"
    assert list(deploy.objections("kiva-relay-stage", PARAMETERS, templates.given("stage", after))) == []
    assert "relay deploy --stage stage" in ran.stderr
    unchanged = tomllib.loads(before) | {"stage": tomllib.loads(after)["stage"]}
    assert tomllib.loads(after) == unchanged


def test_said_again_it_proposes_what_stands_there_and_changes_nothing(init, folder):
    init("prod", "", "63", "3", "instalment", "a@b.test", TOPIC)
    once = samconfig(folder)

    ran = init("prod", "", "", "", "", "", "")

    assert ran.exit_code == 0
    assert samconfig(folder) == once
    assert "[instalment]" in ran.stderr


def test_production_is_deployable_after_it_and_not_confirmed_by_it(init, folder):
    init("prod", "", "63", "2", "cumulative_principal", "", "")

    given = templates.given("prod", samconfig(folder))
    assert list(deploy.objections("kiva-relay-prod", PARAMETERS, given)) == []
    assert given["KivaProductionConfirmed"] == "no"
    assert {"CoordinatorEmail", "AlarmTopicArn"}.isdisjoint(given)


def test_what_was_agreed_with_kiva_is_not_proposed(init):
    ran = init("stage", "", "63", "", "2", "", "cumulative_principal", "", "")

    assert ran.exit_code == 0
    assert "[2]" not in ran.stderr
    assert "[cumulative_principal]" not in ran.stderr


def test_a_value_that_cloudformation_would_refuse_is_asked_for_again(init, folder):
    ran = init("stage", "here", "us-east-1", "x", "63", "4", "3", "instalment", "nobody", "a@b.test", "topic", TOPIC)

    assert ran.exit_code == 0, ran.output
    assert "KivaPartnerId must be 1 to 10 digits" in ran.stderr
    assert "region must be a region" in ran.stderr
    assert list(templates.refusals(PARAMETERS, templates.given("stage", samconfig(folder)))) == []


def test_none_takes_away_what_may_be_left_out(init, folder):
    init("stage", "", "63", "2", "instalment", "a@b.test", TOPIC)
    init("stage", "", "", "", "", "none", "")

    assert "CoordinatorEmail" not in templates.given("stage", samconfig(folder))
    assert templates.given("stage", samconfig(folder))["AlarmTopicArn"] == TOPIC


def test_another_partner_gets_an_environment_and_a_stack_of_its_own(init, folder):
    ran = init("stage-nakuru", "eu-west-1", "", "stage", "64", "2", "instalment", "", "")

    assert ran.exit_code == 0, ran.output
    made = tomllib.loads(samconfig(folder))["stage-nakuru"]
    assert made["global"]["parameters"] == {"region": "eu-west-1"}
    assert made["deploy"]["parameters"]["stack_name"] == "kiva-relay-stage-nakuru"
    assert (
        made["deploy"]["parameters"].keys() == tomllib.loads(samconfig(folder))["stage"]["deploy"]["parameters"].keys()
    )
    given = templates.given("stage-nakuru", samconfig(folder))
    assert list(deploy.objections("kiva-relay-stage-nakuru", PARAMETERS, given)) == []
    assert comments(samconfig(folder)) == comments((ROOT / "samconfig.toml").read_text())


def test_parameters_that_stand_in_one_text_become_a_list(init, folder):
    text = samconfig(folder)
    start, end = (
        text.index("[stage.deploy"),
        text.index("# ---------------------------------------------------------------- Kiva's production"),
    )
    text_form = 'parameter_overrides = "KivaEnvironment=stage LogRetentionDays=7"'
    one = f'[stage.deploy.parameters]\nstack_name = "s"\n{text_form}\n'
    (folder / "samconfig.toml").write_text(text[:start] + one + text[end:])

    assert init("stage", "", "63", "2", "instalment", "", "").exit_code == 0
    given = templates.given("stage", samconfig(folder))
    assert (given["LogRetentionDays"], given["KivaPartnerId"]) == ("7", "63")


def test_nothing_is_written_before_the_last_answer(init, folder):
    before = samconfig(folder)

    assert init("stage", "eu-west-1", "63").exit_code == 130
    assert samconfig(folder) == before


@pytest.mark.parametrize("stage", ["local", "a b", "a.b", ""])
def test_local_and_names_that_toml_would_take_apart_are_refused(init, stage):
    assert init(stage).exit_code == 2


def test_nobody_to_ask_means_nothing_is_written(folder):
    ran = CliRunner().invoke(command.app, ["init", "--stage", "stage"], input="\n" * 9)

    assert ran.exit_code == 2
    assert samconfig(folder) == (ROOT / "samconfig.toml").read_text()
