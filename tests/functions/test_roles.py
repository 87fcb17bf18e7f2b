"""The watch over the functions' rights, which every test here is under, sees what it is to see."""

import boto3
import pytest

from deployment import TABLE
from kiva_partner import runtime
from roles import allows, calls

KEY = "sandbox#9001#"
GET = ("dynamodb:GetItem", "LedgerTable.Arn")
UPDATE = ("dynamodb:UpdateItem", "LedgerTable.Arn")
QUERY = ("dynamodb:Query", "${LedgerTable.Arn}/index/by_state")


@pytest.mark.parametrize(
    ("function", "call", "allowed"),
    [
        ("LoanDraftsFunction", (*UPDATE, (f"{KEY}submission#loan_draft#L-1",)), True),
        ("LoanDraftsFunction", (*UPDATE, (f"{KEY}submission#repayment#L-1",)), False),
        ("LoanDraftsFunction", (*UPDATE, ("sandbox#9002#submission#loan_draft#L-1",)), False),
        ("LoanDraftsFunction", (*UPDATE, ("stage#9001#submission#loan_draft#L-1",)), False),
        ("LoanDraftsFunction", (*UPDATE, (f"{KEY}sending",)), True),
        ("LoanDraftsFunction", (*UPDATE, (f"{KEY}sending#of-all",)), False),
        ("LoanDraftsFunction", (*GET, (f"{KEY}catalogue",)), True),
        ("LoanDraftsFunction", (*UPDATE, (f"{KEY}catalogue",)), False),
        ("RepaymentsFunction", (*GET, (f"{KEY}catalogue",)), False),
        ("RepaymentsFunction", (*QUERY, (f"{KEY}repayment#UNKNOWN",)), False),
        ("ConsoleFunction", (*QUERY, (f"{KEY}repayment#UNKNOWN",)), True),
        ("ConsoleFunction", (*QUERY, ("sandbox#9002#repayment#UNKNOWN",)), False),
        ("ConsoleFunction", (*UPDATE, (f"{KEY}lease#token",)), False),
        ("ConsoleFunction", (*UPDATE, (f"{KEY}done#loan_draft#u-1",)), False),
        ("HousekeepingFunction", (*UPDATE, (f"{KEY}run#housekeeping",)), False),
        ("OutcomesFunction", (*UPDATE, (f"{KEY}sending",)), False),
        ("OutcomesFunction", (*UPDATE, (f"{KEY}run#digest",)), True),
        ("OutcomesFunction", (*GET, (f"{KEY}submission#loan_draft#L-1", f"{KEY}lease#token")), False),
        ("OutcomesFunction", ("dynamodb:DeleteItem", "LedgerTable.Arn", (f"{KEY}lease#token",)), False),
        ("JournalUpdatesFunction", ("dynamodb:DeleteItem", "LedgerTable.Arn", (f"{KEY}lease#token",)), True),
    ],
)
def test_a_role_reaches_its_own_rows_and_no_others(function, call, allowed):
    assert allows(function, call) is allowed


def test_a_transaction_is_allowed_item_by_item():
    key = {"Key": {"pk": {"S": "a"}}}
    request = {"TransactItems": [{"Update": key}, {"Put": {"Item": {"pk": {"S": "b"}}}}]}
    assert list(calls("TransactWriteItems", request)) == [
        ("dynamodb:UpdateItem", "LedgerTable.Arn", ("a",)),
        ("dynamodb:PutItem", "LedgerTable.Arn", ("b",)),
    ]


def test_what_a_function_may_not_is_noticed_also_where_moto_allows_it(drafts, allowed, monkeypatch):
    drafts.batch(drafts.message("L-1"))
    assert allowed() == set()
    boto3.client("dynamodb").get_item(TableName=TABLE, Key={"pk": {"S": f"{KEY}lease#token"}})  # no function asks
    assert allowed() == set()
    monkeypatch.setenv("KIVA_PARTNER_ID", "9002")
    runtime.forget()
    drafts.batch(drafts.message("L-2"))
    assert {name for name, *_ in allowed()} == {"LoanDraftsFunction"}
    allowed().clear()
