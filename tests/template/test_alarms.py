"""An alarm is worth what it leads to: a heading that exists, and a metric that somebody counts."""

import re

from template.cloudformation import ROOT, of_type, read

ALARMS = of_type(read(), "AWS::CloudWatch::Alarm")


def headings(page):
    return set(re.findall(r"^## (.+)$", (ROOT / "docs" / page).read_text(), re.MULTILINE))


def test_every_alarm_leads_to_its_heading_and_every_heading_has_an_alarm():
    named = {re.search(r'docs/runbook\.md: "(.+)"$', each["AlarmDescription"])[1] for each in ALARMS.values()}
    assert named == headings("runbook.md")


def test_every_metric_of_ours_that_an_alarm_watches_is_one_that_is_documented():
    watched = {each["MetricName"] for each in ALARMS.values() if each["Namespace"] == "KivaRelay"}
    assert watched == {"SubmissionUnknown", "Misconfigured"}
    documented = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "architecture.md").read_text()))
    assert watched <= documented
