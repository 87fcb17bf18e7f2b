from collections import Counter

from kiva_sandbox.data import CONFIG, portfolio

ALL_STATUSES = {
    "inactive", "inactive_expired", "issue", "issue_revising", "issue_approving", "reviewed", "fundRaising", "raised",
    "payingBack", "defaulted", "ended", "expired", "refunded", "deleted",
}  # fmt: skip


def test_a_bigger_portfolio_begins_with_the_same_loans():
    assert portfolio(2000)[:500] == portfolio(500)


def test_500_loans_show_all_fourteen_statuses_and_most_are_paying_back():
    statuses = Counter(loan["status"] for loan in portfolio())
    assert set(statuses) == ALL_STATUSES
    assert (statuses["payingBack"], statuses["defaulted"]) == (350, 30)


def test_no_two_loans_share_an_id():
    loans = portfolio(2000)
    for key in ("kiva_id", "uuid", "internal_loan_id", "internal_client_id"):
        assert len({loan[key] for loan in loans}) == len(loans)


def test_every_loan_is_typed_as_kiva_types_it():
    for loan in portfolio():
        for key in ("kiva_id", "uuid", "internal_loan_id", "internal_client_id", "partner_id", "loan_currency"):
            assert isinstance(loan[key], str)
        assert float(loan["loan_price"]) > 0
        assert float(loan["loan_local_price"]) > 0
        assert isinstance(loan["delinquent"], bool)
        assert all(isinstance(loan[key], int) for key in loan if key.endswith("_time"))
        assert 0 <= loan["fundedAmount"] <= float(loan["loan_price"])


def test_every_loan_is_where_and_in_what_the_partner_lends():
    places = {row["full_name"] for row in CONFIG["locations"]}
    currencies = {row["currency"] for row in CONFIG["locales"]}
    assert {loan["location"] for loan in portfolio()} <= places
    assert {loan["loan_currency"] for loan in portfolio()} <= currencies


def test_only_loans_that_ended_or_failed_say_when():
    for loan in portfolio():
        for status in ("ended", "refunded", "expired", "defaulted"):
            assert (f"{status}_time" in loan) == (loan["status"] == status)


def test_some_loans_belong_to_groups():
    assert {loan["borrower_count"] > 1 for loan in portfolio()} == {True, False}
