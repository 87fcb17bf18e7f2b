"""`relay verify` on the stack of this machine: what it finds and leaves where all is well, and that it sees a fault."""

import json

import pytest

from cli.stacks import local_stack
from cli.verify import NOT_EMBEDDED, Verification


@pytest.fixture
def stack(world):
    running = json.loads(world.state_file("stack.json"))
    return local_stack("kiva-relay-local", running["endpoint"], running["api"], "us-east-1")


@pytest.fixture
def others_letter(world):
    """The id of a dead letter that is not of this run."""
    (sent,) = world.put("repayment", {"nonsense": 1})
    world.dead_letter("repayment", sent)
    return sent


def left(world):
    """What a run could leave behind: queues, rules, rows."""
    bus, table = world.stack.physical_id("EventBus"), world.stack.physical_id("LedgerTable")
    rules = world.stack.client("events").list_rules(EventBusName=bus)["Rules"]
    rows = world.stack.client("dynamodb").scan(TableName=table)["Items"]
    return {
        "queues": sorted(world.stack.client("sqs").list_queues().get("QueueUrls", [])),
        "rules": sorted(rule["Name"] for rule in rules),
        "rows": [row["pk"]["S"] for row in rows if "#repayment#relay-verify" in row["pk"]["S"]],
    }


def test_a_stack_that_is_well_is_found_so_and_left_as_it_was(world, stack, others_letter):
    before = left(world)
    verification = Verification(stack)
    steps = {step.name: step for step in verification.lines(draft=True)}
    assert {name: step.detail for name, step in steps.items() if step.verdict == "bad"} == {}
    assert {name: step.detail for name, step in steps.items() if step.verdict == "unseen"} == NOT_EMBEDDED
    assert left(world) == {**before, "rows": []}
    assert others_letter in world.dead_letters("repayment")
    (draft,) = world.at_kiva("loan_draft", verification.id)
    assert "Please delete" in json.dumps(draft)


def test_a_queue_that_nobody_works_on_is_seen(world, stack):
    client = world.stack.client("lambda")
    mapping = world.stack.physical_id("RepaymentsFromQueue")
    client.update_event_source_mapping(UUID=mapping, Enabled=False)
    try:
        verification = Verification(stack, seconds=3)
        with verification.made:
            step = verification._line("invalid", verification._invalid("repayment"))
    finally:
        client.update_event_source_mapping(UUID=mapping, Enabled=True)
    assert (step.verdict, step.detail) == ("bad", "it is no dead letter after 3 s")
