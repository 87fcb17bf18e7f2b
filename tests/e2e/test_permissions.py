"""Permissions are checked: a function without a right is refused, and what it was to do waits until it has it again."""

import json
from contextlib import contextmanager

import pytest

from e2e.world import FINAL, loans


@contextmanager
def without_rights(world, function):
    """While a function's role has lost its own policy, and with it ledger, queue and bucket."""
    iam = world.stack.client("iam")
    role = world.stack.physical_id(f"{function}Role")
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    assert names
    policies = {name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names}
    for name in names:
        iam.delete_role_policy(RoleName=role, PolicyName=name)
    try:
        yield
    finally:
        for name, document in policies.items():
            text = document if isinstance(document, str) else json.dumps(document)
            iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=text)


def test_a_console_without_the_right_to_read_the_ledger_shows_nothing_of_it(world):
    _, reference = world.location_of(world.post("loan_draft", world.draft(), Prefer="wait"))
    path = f"/submissions/loan_draft/{reference}"
    with without_rights(world, "ConsoleFunction"):
        refused = world.stack.call("GET", path)
    assert (refused.status_code, "state" in refused.json()) == (503, False)
    assert "unexpected ClientError" in world.function_logs()
    assert world.stack.call("GET", path).json()["state"] in FINAL


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("LoanDraftsFunction", "loan_draft"),
        ("JournalUpdatesFunction", "journal_update"),
        ("RepaymentsFunction", "repayment"),
    ],
)
def test_a_function_without_the_right_to_claim_sends_nothing(world, function, kind):
    message = world.message(kind)
    with without_rights(world, function):
        refused = world.post(kind, message, Prefer="wait")
        assert refused.status_code == 503
        assert world.at_kiva(kind, loans(kind, message)[0]) == []
    assert world.post(kind, message, Prefer="wait").json()["state"] == "ACCEPTED"
    assert len(world.at_kiva(kind, loans(kind, message)[0])) == 1
