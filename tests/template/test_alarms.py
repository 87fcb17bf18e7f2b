"""An alarm is worth what it leads to: a heading that exists, and a metric that somebody counts."""

import ast
import json
import re

from cli.app import app
from local.cases import CASES
from template.cloudformation import ROOT, as_deployed, of_type, read, translate

STAGE = {"KivaEnvironment": "stage", "KivaPartnerId": "9001"}
TOPIC = "arn:aws:sns:eu-west-1:123456789012:alarms"

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


FORM = re.compile(
    r"\n\n\* \*\*Urgent\?\*\* (?:Yes|No|Today|Within \w+ ?\w*)\b[^\n]+\.\n"
    r"\* \*\*Anything lost\?\*\* [^\n]+\.\n"
    r"\* \*\*First command:\*\* `relay (\w+)(?: [^`\n]+)? --stage STAGE`\n\n"
)


def named():
    """The headings that alarms name."""
    return {re.search(r'docs/runbook\.md: "(.+)"$', each["AlarmDescription"])[1] for each in ALARMS.values()}


def test_every_alarm_leads_to_a_heading_of_the_runbook():
    assert named() <= headings("runbook.md")


def test_every_heading_begins_with_how_urgent_it_is_what_is_lost_and_a_command_that_exists():
    commands = {(each.name or each.callback.__name__) for each in app.registered_commands}
    _, *chapters = re.split(r"^## ", (ROOT / "docs" / "runbook.md").read_text(), flags=re.MULTILINE)
    first = {
        heading: FORM.match(text) for heading, text in (re.match(r"(.+)((?s:.+))", it).groups() for it in chapters)
    }
    assert [heading for heading, found in first.items() if not found] == []
    assert {found[1] for found in first.values()} <= commands
    assert len(first) >= len(named())


NOT_ON_THIS_MACHINE = {"A function fails", "Functions are throttled"}
"""Nothing in the embedded AWS makes these, and it has not the alarms."""


def test_every_heading_that_an_alarm_leads_to_names_the_line_that_makes_its_case():
    text = (ROOT / "docs" / "runbook.md").read_text()
    chapters = dict(re.findall(r"^###? (.+)\n((?:(?!##).*\n)*)", text, re.MULTILINE))
    told = {heading: re.findall(r"`make case NAME=([a-z-]+)`", said) for heading, said in chapters.items()}
    assert {heading: names for heading, names in told.items() if names} == {it.heading: [it.name] for it in CASES}
    assert named() - {it.heading for it in CASES} == NOT_ON_THIS_MACHINE


def test_every_metric_of_ours_that_is_watched_or_drawn_is_one_that_is_documented():
    assert {*watched(), *drawn()} <= {*documented()}


def test_the_dashboard_says_what_to_do_first_under_each_heading():
    (text,) = [it["properties"]["markdown"] for it in WIDGETS if it["type"] == "text"]
    rows = re.findall(r"^\| (.+) \| .+ \|$", text, re.MULTILINE)[1:]
    assert {heading for row in rows for heading in row.split(", ")} == named()


def published():
    """The metrics that the code writes, of the whole stack or by kind: the first argument of whatever writes them."""
    for path in [*(ROOT / "layers").rglob("*.py"), *(ROOT / "functions").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                match node.func.attr, node.args:
                    case ("count", [ast.Constant(str(name)), *rest]) if name.isidentifier():
                        of_kind = len(rest) > 1 or any(each.arg == "kind" for each in node.keywords)
                        yield name, frozenset({"service", "kind"} if of_kind else {"service"})
                    case ("_add", [ast.Constant(str(name)), _, _, ast.Constant(None)]):
                        yield name, frozenset({"service"})
                    case ("stands", [ast.Dict() as counts, _]):
                        yield from ((key.value, frozenset({"service"})) for key in counts.keys)


def test_every_metric_of_ours_that_an_alarm_watches_is_one_that_the_code_writes_with_these_dimensions():
    assert {*watched()} <= {*published()}
    assert ("DeadLetters", frozenset({"service"})) in {*watched()}


def test_what_is_documented_of_the_whole_stack_is_what_the_code_writes_of_it():
    ours = {name for name, dimensions in published() if dimensions == {"service"}}
    assert {name for name, dimensions in documented() if dimensions == {"service"}} == ours


def test_an_alarm_without_a_topic_has_no_action_and_with_one_tells_it():
    for topic, actions in (("", {"Ref": "AWS::NoValue"}), (TOPIC, [{"Ref": "AlarmTopicArn"}])):
        stack = as_deployed(translate(read()), STAGE | {"AlarmTopicArn": topic})
        for alarm in of_type(stack, "AWS::CloudWatch::Alarm").values():
            assert alarm["AlarmActions"] == actions
