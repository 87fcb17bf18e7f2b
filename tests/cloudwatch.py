"""CloudWatch's alarms, as far as ours on one metric need them: when they ring, and when that is over.

Evaluated each minute on a window that slides; silence is taken for good. Sources: Amazon CloudWatch User Guide, "Alarm
evaluation" and "Configuring how CloudWatch alarms treat missing data". There it is also said that CloudWatch looks a
few periods farther back where points are missing: an alarm may last longer than here, and never rings later.
"""

import json
import math
from dataclasses import dataclass

from template.cloudformation import of_type, read

STATISTICS = {"Maximum": max, "Sum": sum}


@dataclass(frozen=True)
class Point:
    """A value of a metric; `at` in epoch seconds."""

    at: float
    value: float


def points(out, metric):
    """What the functions wrote of a metric of the whole stack, read from the lines of their embedded metrics."""
    found = []
    for line in out.splitlines():
        if line.startswith('{"_aws"'):
            told = json.loads(line)
            if metric in told and "kind" not in told:
                found += [Point(told["_aws"]["Timestamp"] / 1000, value) for value in told[metric]]
    return found


def alarm(name):
    """An alarm of the template."""
    return of_type(read(), "AWS::CloudWatch::Alarm")[name]


def ringing(alarm, points, until):
    """The spans (epoch seconds) in which an alarm rings, to the minute."""
    spans = []
    minute = math.floor(min((each.at for each in points), default=until) / 60) * 60
    while minute <= until:
        if _rings(alarm, points, minute):
            if not spans or spans[-1][1] < minute:
                spans.append([minute, minute])
            spans[-1][1] = minute + 60
        minute += 60
    return [tuple(span) for span in spans]


def _rings(alarm, points, now):
    assert alarm["TreatMissingData"] == "notBreaching"
    assert alarm["ComparisonOperator"] == "GreaterThanThreshold"
    breaching = 0
    for number in range(alarm["EvaluationPeriods"]):
        end = now - number * alarm["Period"]
        values = [each.value for each in points if end - alarm["Period"] <= each.at < end]
        breaching += bool(values) and STATISTICS[alarm["Statistic"]](values) > alarm["Threshold"]
    return breaching >= alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])
