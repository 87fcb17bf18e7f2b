import pytest

from bench import cost, counted
from bench.goals import GOALS
from template.cloudformation import as_deployed, read, translate

POINT = {"cpu_ms": 0.1, "kiva_calls": 0.004, "aws_calls": 0.021, "wru": 8.0, "rru": 0.001}
STREAM = {"EventSourceArn": {"Fn::GetAtt": ["LedgerTable", "StreamArn"]}}


@pytest.fixture(scope="module")
def run():
    return counted.idle_run()


@pytest.fixture(scope="module")
def follows():
    return counted.followed()


@pytest.fixture
def template():
    return as_deployed(translate(read()), cost.STACK)


def test_a_month_at_rest_costs_at_most_what_is_promised(template, run):
    (goal,) = (each for each in GOALS["At rest"] if each.metric == "usd_a_month_at_rest")
    assert goal.gate
    assert sum(cost.usd_at_rest(template, run).values()) <= goal.at_most == 5


def test_at_rest_no_custom_metric_is_written_and_no_s3_object_is_read(run):
    assert run.metrics == set()
    assert run.calls["S3.ListObjectsV2"] == 1
    assert run.calls["SecretsManager.GetSecretValue"] == 1
    assert run.calls["SQS.GetQueueAttributes"] == 7


@pytest.mark.parametrize(
    ("what", "item", "usd"),
    [
        ({"Type": "AWS::SecretsManager::Secret", "Properties": {}}, "secrets", 0.40),
        ({"Type": "AWS::KMS::Key", "Properties": {}}, "key", 1.00),
        ({"Type": "AWS::CloudWatch::Alarm", "Properties": {"MetricName": "x"}}, "alarms", 0.10),
        (
            {
                "Type": "AWS::CloudWatch::Alarm",
                "Properties": {"Metrics": [{"Expression": "a - b"}, {"MetricStat": {}}, {"MetricStat": {}}]},
            },
            "alarms",
            0.20,
        ),
        (
            {
                "Type": "AWS::Lambda::EventSourceMapping",
                "Properties": {"EventSourceArn": {"Fn::GetAtt": ["RepaymentsQueue", "Arn"]}},
            },
            "polling of the queues",
            0.2592,
        ),
        ({"Type": "AWS::Lambda::EventSourceMapping", "Properties": STREAM}, "polling of the queues", 0),
    ],
    ids=["a secret", "a key", "an alarm", "an alarm that calculates", "a queue", "a stream"],
)
def test_each_thing_that_costs_at_rest_is_counted_in_the_template(template, run, what, item, usd):
    before = cost.usd_at_rest(template, run)
    template["Resources"]["Another"] = what
    after = cost.usd_at_rest(template, run)
    assert after[item] - before[item] == pytest.approx(usd)
    assert sum(after.values()) - sum(before.values()) == pytest.approx(usd)


def test_a_dashboard_beyond_fifty_metrics_costs(template, run):
    body = template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]
    body["Fn::Sub"] = body["Fn::Sub"].replace(
        '["AWS/ApiGateway", "Count"', '["AWS/x", "y"], ["AWS/ApiGateway", "Count"'
    )
    assert cost.usd_at_rest(template, run)["dashboard"] == 3


def test_an_event_and_a_row_for_each_repayment_are_priced(follows):
    with_all = cost.usd_per_million_with_all(POINT, follows)
    assert with_all.items() >= cost.usd_per_million(POINT, **cost.OURS).items()
    assert with_all["events"] == 1
    # 0.25 USD for a GB and month, of some 1.6 KB each with its copies in the indexes, for 400 days.
    assert with_all["400 days of storage"] == pytest.approx(1600 * 1e6 / 2**30 * 0.25 * 400 / 30, rel=0.1)
    assert 0 < with_all["backups"] < with_all["400 days of storage"]
    assert 0.1 < with_all["logs"] < 0.5


def test_what_follows_a_repayment_is_counted_where_it_is_written(follows):
    assert follows.events == 1
    assert 300 < follows.logged_bytes < 600
    assert follows.index_bytes > follows.row_bytes > 400
