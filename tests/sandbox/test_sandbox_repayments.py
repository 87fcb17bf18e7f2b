import pytest

from kiva_sandbox.data import REPAYABLE, portfolio


def report(kiva, *rows):
    answer = kiva.post("repayments", {"repayments": list(rows)})
    assert answer.status_code == 200
    return answer.json()


def row(loan_id="L-70011-1", amount=100.0, **more):
    return {"loan_id": loan_id, "amount": amount, **more}


def id_of(status):
    return next(loan["internal_loan_id"] for loan in portfolio() if loan["status"] == status)


def test_a_clean_report_becomes_an_upload_without_problems(kiva):
    answer = report(kiva, row(amount=42000.00, client_id="C-18011"), row("L-70018-1", 7500.50, client_id=None))
    assert isinstance(answer["upload_id"], int)
    assert answer == {
        "code": "api.success",
        "message": "2 row(s) received",
        "upload_id": answer["upload_id"],
        "problems": [],
    }
    upload = kiva.seen("uploads")["data"][0]
    assert upload["upload_id"] == answer["upload_id"]
    assert upload["rows"] == [
        {"loan_id": "L-70011-1", "client_id": "C-18011", "amount": 42000.0, "recorded": True},
        {"loan_id": "L-70018-1", "client_id": None, "amount": 7500.5, "recorded": True},
    ]


@pytest.mark.parametrize("status", sorted({loan["status"] for loan in portfolio()} - REPAYABLE))
def test_a_loan_that_awaits_no_repayment_is_an_error_and_not_recorded(kiva, status):
    answer = report(kiva, row(id_of(status)))
    assert [(problem["loan_id"], problem["severity"]) for problem in answer["problems"]] == [(id_of(status), "error")]
    assert [kept["recorded"] for kept in kiva.seen("uploads")["data"][0]["rows"]] == [False]


@pytest.mark.parametrize("status", sorted(REPAYABLE))
def test_loans_paying_back_and_loans_defaulted_both_take_repayments(kiva, status):
    assert report(kiva, row(id_of(status)))["problems"] == []


def test_an_unknown_loan_is_an_error_that_leaves_its_neighbours_alone(kiva):
    answer = report(kiva, row("L-00000-9", client_id="C-00000"), row())
    assert answer["problems"] == [
        {
            "loan_id": "L-00000-9",
            "details": "No loan with this id is expecting a repayment",
            "code": "repayment.loan_not_found",
            "severity": "error",
        }
    ]
    assert [kept["recorded"] for kept in kiva.seen("uploads")["data"][0]["rows"]] == [False, True]


def test_a_members_id_is_an_error_that_asks_for_the_groups(kiva):
    answer = report(kiva, row("L-70010-1-A"), row("L-70010-1"))
    assert answer["problems"] == [
        {
            "loan_id": "L-70010-1-A",
            "details": "This is one member's id; the group's repayment is reported by the group's id",
            "code": "repayment.member_of_group",
            "severity": "error",
        }
    ]
    assert [kept["recorded"] for kept in kiva.seen("uploads")["data"][0]["rows"]] == [False, True]


def test_a_loan_under_another_clients_id_is_an_error(kiva):
    assert report(kiva, row(client_id="C-18012"))["problems"][0]["severity"] == "error"


def test_an_amount_that_fell_is_a_warning_and_recorded(kiva):
    report(kiva, row(amount=500.25))
    assert report(kiva, row(amount=500.25))["problems"] == []
    fallen = report(kiva, row(amount=500.24))["problems"]
    assert [(problem["code"], problem["severity"]) for problem in fallen] == [
        ("repayment.amount_below_expected", "warning")
    ]
    assert report(kiva, row(amount=500.24))["problems"] == []
    assert kiva.seen("uploads")["total"] == 4


def test_more_than_300_rows_are_taken_with_a_warning_about_the_call(kiva):
    payable = [loan["internal_loan_id"] for loan in portfolio() if loan["status"] in REPAYABLE]
    assert report(kiva, *map(row, payable[:300]))["problems"] == []
    answer = report(kiva, *map(row, payable[:301]))
    assert [(problem["loan_id"], problem["severity"]) for problem in answer["problems"]] == [("", "warning")]
    assert all(kept["recorded"] for kept in kiva.seen("uploads")["data"][1]["rows"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"repayments": [{"amount": 1}]}, "repayments.0.loan_id is required"),
        ({"repayments": [{"loan_id": "L-70011-1"}]}, "repayments.0.amount is required"),
        ({"repayments": [{"loan_id": "L-70011-1", "amount": None}]}, "repayments.0.amount is required"),
        ({"repayments": []}, "repayments must not be empty"),
        ({}, "repayments is required"),
    ],
)
def test_a_report_without_a_required_field_is_refused_whole(kiva, body, message):
    refused = kiva.post("repayments", body)
    assert (refused.status_code, refused.json()) == (400, {"code": "api.error", "message": message})
    assert kiva.seen("uploads")["total"] == 0


def test_an_amount_beyond_all_numbers_is_refused_also_as_text(kiva, no_amount):
    assert kiva.post("repayments", {"repayments": [row(amount=no_amount)]}).status_code == 400
    assert kiva.seen("uploads")["total"] == 0
