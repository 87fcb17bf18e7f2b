"""An alarm is worth what it leads to: a heading that exists, and a metric that somebody counts."""

import json
import re

import pytest

from template.cloudformation import ROOT, Template, of_type, read

ALARMS = of_type(read(), "AWS::CloudWatch::Alarm")
WIDGETS = json.loads(of_type(read(), "AWS::CloudWatch::Dashboard")["Dashboard"]["DashboardBody"]["Fn::Sub"])["widgets"]


def headings(page):
    return set(re.findall(r"^## (.+)$", (ROOT / "docs" / page).read_text(), re.MULTILINE))


def watched():
    """The metrics of ours that alarms watch: each with the names of its dimensions."""
    for alarm in ALARMS.values():
        for it in [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", []) if "MetricStat" in each] or [
            alarm
        ]:
            if it["Namespace"] == "KivaRelay":
                yield it["MetricName"], frozenset(each["Name"] for each in it["Dimensions"])


def drawn():
    """The metrics of ours on the dashboard."""
    for widget in WIDGETS:
        for namespace, name, *rest in widget["properties"].get("metrics", []):
            if namespace == "KivaRelay":
                yield name, frozenset([it for it in rest if isinstance(it, str)][::2])


def documented():
    """The table of docs/architecture.md: each metric with its dimensions."""
    _, table = (ROOT / "docs" / "architecture.md").read_text().split("Metrics, namespace `KivaRelay`", 1)
    for names, by_kind in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (yes|no) \|", table, re.MULTILINE):
        for name in re.findall(r"\w+", names):
            yield name, frozenset({"service", "kind"} if by_kind == "yes" else {"service"})


def test_every_alarm_leads_to_its_heading_and_every_heading_has_an_alarm():
    named = {re.search(r'docs/runbook\.md: "(.+)"$', each["AlarmDescription"])[1] for each in ALARMS.values()}
    assert named == headings("runbook.md")


def test_every_metric_of_ours_that_is_watched_or_drawn_is_one_that_is_documented():
    assert {*watched(), *drawn()} <= {*documented()}


def test_the_dashboard_says_what_to_do_first_under_each_heading():
    (text,) = [it["properties"]["markdown"] for it in WIDGETS if it["type"] == "text"]
    rows = re.findall(r"^\| (.+) \| .+ \|$", text, re.MULTILINE)[1:]
    assert {heading for row in rows for heading in row.split(", ")} == headings("runbook.md")


def rings(alarm: Template, rejected: float, accepted: float | None) -> bool:
    """Whether an alarm on a share rings, by what CloudWatch's functions do: SUM passes over what has no points."""
    functions = {
        "IF": lambda condition, then, otherwise: then if condition else otherwise,
        "SUM": lambda values: sum(it for it in values if it is not None),
        "FILL": lambda value, instead: instead if value is None else value,
    }
    (expression,) = [it["Expression"] for it in alarm["Metrics"] if "Expression" in it]
    return eval(expression, functions, {"rejected": rejected, "accepted": accepted}) > alarm["Threshold"]  # noqa: S307 ours


@pytest.mark.parametrize("name", ["LoanDraftsRejectedAlarm", "JournalUpdatesRejectedAlarm", "RepaymentsRejectedAlarm"])
@pytest.mark.parametrize(
    ("rejected", "accepted", "expected"),
    [(9, None, False), (10, None, True), (10, 40, False), (11, 40, True), (100, 1000, False)],
)
def test_kiva_refuses_many_when_ten_at_least_are_more_than_a_fifth(name, rejected, accepted, expected):
    assert rings(ALARMS[name], rejected, accepted) is expected
