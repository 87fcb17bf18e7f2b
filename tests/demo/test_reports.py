"""Reading a repayment report: every bad line is named by its number, and none by what it says."""

import json
from decimal import Decimal
from itertools import chain

import pytest
from local.reports import ROWS_PER_MESSAGE, BadReport, messages, read_report

from kiva_partner.messages import Kind, parse


@pytest.fixture
def report(tmp_path):
    def write(content):
        file = tmp_path / "report.csv"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return write


def test_two_and_three_columns_are_told_apart_by_the_first_line(report):
    assert read_report(report("loan_id,amount\nL-1,10.50\n")) == [{"loan_id": "L-1", "amount": 10.5}]
    assert read_report(report("loan_id,client_id,amount\nL-1,C-1,10\n")) == [
        {"loan_id": "L-1", "client_id": "C-1", "amount": 10}
    ]


def test_what_spreadsheets_add_does_not_matter(report):
    rows = read_report(report(b'\xef\xbb\xbfloan_id, amount\r\n"L-1", 10.50 \r\n\r\n'))

    assert rows == [{"loan_id": "L-1", "amount": 10.5}]


@pytest.mark.parametrize(
    ("lines", "mistakes"),
    [
        (["L-1,1,2"], ["line 2: must have 2 columns and has 3"]),
        (["L-1"], ["line 2: must have 2 columns and has 1"]),
        (["L-1,1", "L-1,2"], ["line 3: has the same loan_id as line 2"]),
        ([" ,1"], ["line 2: loan_id must have 1 to 64 characters"]),
        (["L" * 65 + ",1"], ["line 2: loan_id must have 1 to 64 characters"]),
        *(
            ([f"L-1,{amount}"], ["line 2: amount must be digits, with a point and up to two decimals where needed"])
            for amount in ("", "-1", "1.234", '"1,000"', "1e3", "NaN", "1.", "٣", "1" * 13)
        ),
        (
            ["L-1,1", "", "L-2", "L-3,3", "L-4,x"],
            [
                "line 4: must have 2 columns and has 1",
                "line 6: amount must be digits, with a point and up to two decimals where needed",
            ],
        ),
        ([], ["holds no line after the one with the columns"]),
        (['"L-1,1'], ["line 2: unexpected end of data"]),
    ],
)
def test_every_bad_line_is_named_by_its_number(report, lines, mistakes):
    with pytest.raises(BadReport) as caught:
        read_report(report("\n".join(["loan_id,amount", *lines])))

    assert list(caught.value.mistakes) == mistakes


@pytest.mark.parametrize("first", ["", "loan_id;amount", "amount,loan_id", "L-1,10", "loan_id,client_id,amount,name"])
def test_the_first_line_must_name_the_columns(report, first):
    with pytest.raises(BadReport, match=r"^line 1: must name the columns"):
        read_report(report(f"{first}\nL-1,1\n"))


def test_another_encoding_is_named_by_its_first_line(report):
    with pytest.raises(BadReport, match=r"^line 3: is not UTF-8"):
        read_report(report("loan_id,amount\nL-1,1\nL-ñ,2\n".encode("latin-1")))


def test_a_complaint_repeats_nothing_of_the_report(report):
    with pytest.raises(BadReport) as caught:
        read_report(report("loan_id,amount\ncanary,secret-amount\ncanary,1\n"))

    assert "canary" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_long_report_becomes_several_messages_that_hold_each_row_once(report):
    lines = [f"L-{number},{number}.05" for number in range(ROWS_PER_MESSAGE + 1)]
    file = report("\n".join(["loan_id,amount", *lines]))

    found = [json.loads(text, parse_float=Decimal) for text in messages(read_report(file), "2026-09")]

    assert [len(message["repayments"]) for message in found] == [ROWS_PER_MESSAGE, 1]
    rows = chain.from_iterable(message["repayments"] for message in found)
    assert [f"{row['loan_id']},{row['amount']}" for row in rows] == lines


def test_the_longest_message_passes_the_relays_checks(report, rules):
    lines = [f"{'€' * 60}{number:04},{'€' * 64},{'9' * 12}.99" for number in range(ROWS_PER_MESSAGE)]
    file = report("\n".join(["loan_id,client_id,amount", *lines]))
    # One less than the largest amount that a column of twelve digits can hold is what the relay allows.
    (text,) = messages(read_report(file), "2026-09")

    message = parse(Kind.REPAYMENT, text, rules)

    assert [f"{each.content['amount']}" for each in message.submissions] == ["999999999999.99"] * ROWS_PER_MESSAGE
