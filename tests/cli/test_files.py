"""Reading files of events: every bad line is named by its number, and none by what it says."""

import json
import re
import unicodedata
from copy import replace
from datetime import date
from decimal import Decimal
from itertools import chain

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from borrowers import draft
from cli.files import MAX_BODY_BYTES, ROWS_PER_MESSAGE, Bad, WrongUse, far_off, read
from images import data_uri, png
from kiva_partner.messages import MAX_MESSAGE_BYTES, MAX_ROWS, Kind, parse
from kiva_partner.settings import AmountMode


@pytest.fixture
def instalments(two_columns):
    return replace(two_columns, amount_mode=AmountMode.INSTALMENT)


@pytest.fixture
def report(write):
    return lambda content: write("report.csv", content)


def rows_of(ready):
    documents = [json.loads(each.body, parse_float=Decimal) for each in ready]
    return list(chain.from_iterable(it.get("repayments") or it["journals"] for it in documents))


def lines_of(bad):
    return [f"line {each.number}{f' to {each.last}' if each.last else ''}: {each.rule}" for each in bad]


# --- repayments -------------------------------------------------------------------------------------------------------


def test_two_and_three_columns_are_told_apart_by_the_first_line(report, rules, two_columns):
    two = read([report("loan_id,amount\nL-1,10.50\n")], two_columns, period="2026-09")
    three = read([report("loan_id,client_id,amount\nL-1,C-1,10\n")], rules, period="2026-09")

    assert [json.loads(it.body) for it in two[0]] == [
        {"period": "2026-09", "repayments": [{"loan_id": "L-1", "amount": 10.5}]}
    ]
    assert rows_of(three[0]) == [{"loan_id": "L-1", "client_id": "C-1", "amount": 10}]
    assert two[1] == three[1] == []


def test_what_spreadsheets_add_does_not_matter(report, two_columns):
    file = report(b'\xef\xbb\xbfloan_id, amount\r\n"L-1", 10.50 \r\n\r\n')

    assert rows_of(read([file], two_columns, period="2026-09")[0]) == [{"loan_id": "L-1", "amount": Decimal("10.50")}]


def test_an_amount_never_passes_through_a_float(report, two_columns):
    (ready,), _ = read([report("loan_id,amount\nL-1,999999999999.99\nL-2,0.10\n")], two_columns, period="2026-09")

    assert b"999999999999.99" in ready.body
    assert b"0.10" in ready.body


NUMBERS = ("1.23457E+11", "1,23457e+11", "1E+15", "1.2E-05", "123.0", "123.00")
DATES = ("Jan-26", "26-Jan", "1-Jan-26", "01-Jan-2026", "10/12", "1/5/26", "10/12/2026", "2026-01-05", "05.01.2026")
DATES += ("2026/1/5", "2026-01-05 00:00:00", "ene-26", "janv.-26", "Янв.26", "1 Feb 2026", "MAY-26")
TOTALS = ("Total", "TOTAL", "total:", "Totals", "Grand Total", "Sub-total", "Suma", "Итого", "Total 2", "Jumla")
TOTALS += ("Total: 2 loans", "TOTAL KES", "Gesamt")
DASHES = "\xad\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"


@pytest.mark.parametrize(
    ("lines", "mistakes"),
    [
        (["L-1,1,2"], ["line 2: must have 2 columns and has 3"]),
        (["L-1"], ["line 2: must have 2 columns and has 1"]),
        (["L-1,1", "L-2,2", "L-1,1.00"], ["line 4: is the same as line 2"]),
        ([" ,1"], ["line 2: loan_id is missing"]),
        (["L" * 65 + ",1"], ["line 2: loan_id must be str of length <= 64"]),
        (["L\a1,1"], ["line 2: loan_id holds U+0007, a control character; type it without it"]),
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
        ([], ["line 1: holds no line after the one with the columns"]),
        (["", ","], ["line 1: holds no line after the one with the columns"]),
        (['"L-1,1'], ["line 2: not read, because a quote mark opens a cell that no other closes"]),
        (['"L-\n1",x'], ["line 2 to 3: amount must be digits, with a point and up to two decimals where needed"]),
    ],
)
def test_every_bad_line_is_named_by_its_number(report, two_columns, lines, mistakes):
    _, bad = read([report("\n".join(["loan_id,amount", *lines]))], two_columns, period="2026-09")

    assert lines_of(bad) == mistakes


@pytest.mark.parametrize("first", ["", "amount,loan_id", "L-1,10", "loan_id,client_id,amount,name"])
def test_the_first_line_must_name_the_columns(report, two_columns, first):
    ready, (bad,) = read([report(f"{first}\nL-1,1\n")], two_columns, period="2026-09")

    assert bad.number == 1
    assert bad.rule.startswith("must name the columns: loan_id,amount, or ")
    assert bad.rule.endswith("; nothing of this file was read")
    assert ready == []


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("sep=;\r\nloan_id;amount\r\nL-1;1", "is a hint for Excel (sep=) and no list of columns: remove it, and"),
        (
            "loan_id;amount\nL-1;1,50",
            "separates the columns by semicolons: save the file with commas, and amounts with",
        ),
        ("loan_id\tamount\nL-1\t1", "separates the columns by tabs: save the file with commas"),
        ("loan_id|amount\nL-1|1", "separates the columns by |: save the file with commas"),
        ("Loan ID;Client-Id;Amount\nL-1;C-1;1", "separates the columns by semicolons"),
        ("Loan_ID,Client ID,Amount\nL-1,C-1,1", "must name the columns loan_id,client_id,amount, letter for letter"),
        ("Loan ID,Amount\rL-1,1\r", "must name the columns loan_id,amount, letter for letter"),
        ("loan_id,,amount\nL-1,,1", "has no name for column 2: remove the column, or name it"),
        (
            "loan_id,amount\nL-1,1".encode("utf-16-le"),
            "is UTF-16; save the file as UTF-8 (in a spreadsheet: «CSV UTF-8»)",
        ),
        ("loan_id,amount\nL-1,1".encode("utf-16-be"), "is UTF-16; save the file as UTF-8"),
        ("loan_id,amount\nL-1,1".encode("utf-16"), "is UTF-16; save the file as UTF-8"),
    ],
)
def test_a_file_of_another_form_is_told_what_to_change_and_that_nothing_was_read(report, two_columns, content, rule):
    ready, (bad,) = read([report(content)], two_columns, period="2026-09")

    assert ready == []
    assert bad.rule.startswith(rule)
    assert bad.rule.endswith("; nothing of this file was read")
    assert bad.whole


def test_another_encoding_is_named_by_its_first_line(report, two_columns):
    _, (bad,) = read([report("loan_id,amount\nL-1,1\nL-ñ,2\n".encode("latin-1"))], two_columns, period="2026-09")

    assert bad.number == 3
    assert bad.rule.startswith("is not UTF-8")


def test_a_complaint_repeats_nothing_of_the_report(report, two_columns):
    file = report("loan_id,amount\ncanary,secret-amount\ncanary,1\n\acanary,2")

    _, bad = read([file], two_columns, period="2026-09")

    assert len(bad) == 2
    assert "canary" not in str(bad)
    assert "secret" not in str(bad)


def test_a_line_without_what_the_stack_wants_is_bad(report, rules):
    _, bad = read([report("loan_id,amount\nL-1,1\nL-2,2")], rules, period="2026-09")

    assert lines_of(bad) == [
        f"line {line}: client_id is missing; this partner reports with client ids" for line in (2, 3)
    ]


def test_a_long_report_becomes_several_messages_that_hold_each_row_once(report, two_columns):
    lines = [f"L-{number},{number}.05" for number in range(ROWS_PER_MESSAGE + 1)]

    ready, _ = read([report("\n".join(["loan_id,amount", *lines]))], two_columns, period="2026-09")

    assert [each.submissions for each in ready] == [ROWS_PER_MESSAGE, 1]
    assert [f"{row['loan_id']},{row['amount']}" for row in rows_of(ready)] == lines


def test_the_longest_message_passes_the_relays_checks(report, rules):
    lines = [f"{'€' * 60}{number:04},{'€' * 64},{'9' * 12}.99" for number in range(ROWS_PER_MESSAGE)]

    (ready,), _ = read([report("\n".join(["loan_id,client_id,amount", *lines]))], rules, period="2026-09")

    message = parse(Kind.REPAYMENT, ready.body.decode(), rules)
    assert [f"{each.content['amount']}" for each in message.submissions] == ["999999999999.99"] * ROWS_PER_MESSAGE


@pytest.mark.parametrize("options", [{}, {"period": "2026-13"}, {"period": "2026-09", "reference": "no such"}])
def test_an_option_that_is_missing_or_wrong_is_no_fault_of_the_file(report, two_columns, options):
    with pytest.raises(WrongUse, match=r"^--(period|reference) "):
        read([report("loan_id,amount\nL-1,1\n")], two_columns, **options)


def test_a_reference_names_one_message(report, two_columns):
    lines = [f"L-{number},1" for number in range(MAX_ROWS + 1)]

    (ready,), _ = read([report("\n".join(["loan_id,amount", *lines[:-1]]))], two_columns, reference="R7")
    assert json.loads(ready.body)["reference"] == "R7"
    with pytest.raises(WrongUse, match="a reference names one"):
        read([report("\n".join(["loan_id,amount", *lines]))], two_columns, reference="R7")


def test_instalments_of_a_loan_differ_by_their_payment_id(report, instalments):
    file = report("loan_id,amount,payment_id\nL-1,10,P-1\nL-1,10,P-2\nL-1,12,P-1\nL-1,12,\n")

    ready, bad = read([file], instalments)

    assert [row["payment_id"] for row in rows_of(ready)] == ["P-2"]
    assert lines_of(bad) == [
        f"line 2: reports 10.00, and {file}, line 4 reports 12.00 for the same loan; remove the wrong one",
        f"line 4: reports 12.00, and {file}, line 2 reports 10.00 for the same loan; remove the wrong one",
        "line 5: payment_id is missing; instalments need it, or a reference",
    ]


# --- no row is lost ---------------------------------------------------------------------------------------------------


def test_after_a_row_with_a_broken_quote_the_next_ones_are_read(report, two_columns):
    file = report('loan_id,amount\nL-1,1\n"L-2"x,2\nL-3,3\nL-4,4')

    ready, bad = read([file], two_columns, period="2026-09")

    assert [row["loan_id"] for row in rows_of(ready)] == ["L-1", "L-3", "L-4"]
    (broken,) = lines_of(bad)
    assert broken.startswith("line 3: not read, because a quote mark closes a cell that goes on; ")


def test_lines_that_an_open_quote_has_swallowed_are_named(report, two_columns):
    to_the_end = report('loan_id,amount\nL-1,1\nL-2,"2\nL-3,3\nL-4,4\n')
    assert lines_of(read([to_the_end], two_columns, period="2026-09")[1]) == [
        "line 3 to 5: not read, because a quote mark opens a cell that no other closes"
    ]

    to_the_next_quote = report('loan_id,amount\nL-1,1\n"L-2,2\nL-3,3\n"L-4",4\nL-5,5')
    ready, bad = read([to_the_next_quote], two_columns, period="2026-09")
    assert [row["loan_id"] for row in rows_of(ready)] == ["L-1", "L-5"]
    assert [(each.number, each.last) for each in bad] == [(3, 5)]

    legally = report('loan_id,amount\nL-1,1\n"L-2,2\nL-3,3\n",4\nL-5,5')
    ready, bad = read([legally], two_columns, period="2026-09")
    assert [row["loan_id"] for row in rows_of(ready)] == ["L-1", "L-5"]
    assert [(each.number, each.last) for each in bad] == [(3, 5)]


def test_the_tail_of_a_cell_of_two_lines_is_no_row(report, two_columns):
    """A wrapped id ends in what looks like another loan's row."""
    ready, bad = read([report('loan_id,amount\n"L-\n12",500\n"L-\n13,500')], two_columns, period="2026-09")

    assert ready == []
    assert [(each.number, each.last) for each in bad] == [(2, 3), (4, 5)]


def test_a_cell_longer_than_the_reader_takes_loses_no_other_row(report, two_columns):
    lines = [f"L-{number},{number}.00" for number in range(1, 15_000)]
    lines[1] = 'L-2,"2.00'

    ready, bad = read([report("\n".join(["loan_id,amount", *lines]))], two_columns, period="2026-09")

    (broken,) = bad
    assert broken.rule.startswith("not read, because a cell has more than 131072 characters")
    assert broken.number == 3
    assert len(rows_of(ready)) == len(lines) - (broken.last - broken.number + 1)


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_every_end_of_a_line_is_one(report, two_columns, end):
    ready, bad = read([report(f"loan_id,amount{end}L-1,1{end}L-2,x{end}L-3,3")], two_columns, period="2026-09")

    assert [row["loan_id"] for row in rows_of(ready)] == ["L-1", "L-3"]
    assert [each.number for each in bad] == [3]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\0"])
def test_what_some_take_for_the_end_of_a_line_loses_no_row(report, two_columns, separator):
    ready, bad = read([report(f"loan_id,amount\nL-1,1{separator}L-2,2\nL-3,3")], two_columns, period="2026-09")

    assert [row["loan_id"] for row in rows_of(ready)] == ["L-3"]
    assert lines_of(bad) == ["line 2: must have 2 columns and has 3"]


def test_blank_rows_do_no_harm_and_are_not_counted(report, two_columns):
    file = report('loan_id,amount\r\nL-1,1\r\n,\r\n , \r\n,,,\r\n"",\r\n\r\nL-2,x\r\n,\r\n')

    ready, bad = read([file], two_columns, period="2026-09")

    assert [row["loan_id"] for row in rows_of(ready)] == ["L-1"]
    assert [each.number for each in bad] == [8]


def test_a_separator_at_the_end_of_every_line_is_taken_and_nothing_may_stand_behind_it(report, two_columns):
    ready, bad = read([report("loan_id,amount,\nL-1,100,\nL-2,100,00\nL-3,100\n")], two_columns, period="2026-09")

    assert rows_of(ready) == [{"loan_id": "L-1", "amount": 100}]
    assert lines_of(bad) == [
        "line 3: has something in column 3, which has no name",
        "line 4: must have 3 columns and has 2",
    ]


PIECES = st.one_of(
    st.sampled_from(['"', '""', ",", "\n", "\r", "\r\n", "\0", "\u2028", " ", ";", "'", "=", "1.50", "x"]),
    st.sampled_from(["\nL-{},1.50", '\n"L-{}",1.50', "\nL-{},A visit,We came", '\nL-{},A visit,"We\ncame"']),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(PIECES, max_size=40), columns=st.sampled_from(["loan_id,amount", "internal_loan_id,subject,body"])
)
def test_every_row_is_sent_or_named(report, two_columns, pieces, columns):
    """Each line of the file is marked, whatever breaks it; its mark is in a message, or the line is named."""
    ends = re.split("(\r\n|\r|\n)", "".join(pieces))
    lines = [f"{line.replace('{}', str(at))}m{at}m" if line else "" for at, line in enumerate(ends[::2], start=2)]
    text = "".join(chain.from_iterable(zip(lines, [*ends[1::2], ""], strict=True)))

    ready, bad = read([report(f"{columns}\n{text}")], two_columns, period="2026-09")

    sent = "".join(each.body.decode() for each in ready)
    named = {at for each in bad for at in range(each.number, max(each.number, each.last) + 1)}
    if not any(each.whole for each in bad):
        for at, line in enumerate(lines, start=2):
            assert (f"m{at}m" in sent) != (at in named) or not line, (text, bad, sent)


# --- ids that a spreadsheet has changed -------------------------------------------------------------------------------

RETYPE = "format the column as text and type the id again"


@pytest.mark.parametrize(
    ("cell", "rule"),
    [
        *((it, f"looks like a number that a spreadsheet has rewritten; {RETYPE}") for it in NUMBERS),
        *((it, f"looks like a date that a spreadsheet has made of an id; {RETYPE}") for it in DATES),
        *((it, f"is a formula or an error of the spreadsheet; {RETYPE}") for it in ("=A1", "#N/A", "#REF!", "###")),
        *((it, f"holds a quote mark; {RETYPE}, without the mark") for it in ("'001", "\u2019001", '"""001"""', 'L"1')),
        *((f"L{it}1", f"holds a dash that is no hyphen (U+{ord(it):04X}); type it as -") for it in DASHES),
        *((it, "is a word for a total; leave out rows that are no loan") for it in TOTALS),
    ],
)
@pytest.mark.parametrize("column", ["loan_id", "client_id"])
def test_an_id_that_a_spreadsheet_has_changed_is_refused_with_the_way_to_fix_it(report, rules, cell, rule, column):
    row = {"loan_id": "L-1", "client_id": "C-1", column: cell if '"' in cell else f'"{cell}"'}

    ready, (bad,) = read([report(f"loan_id,client_id,amount\n{','.join(row.values())},5\n")], rules, period="2026-09")

    assert bad.rule.startswith(f"{column} {rule}")
    assert ready == []


@pytest.mark.parametrize(
    "loan",
    [
        *("TOTAL-1", "total7", "SUM26", "L-1", "00123", "123456789012345", "KIV/2026/001", "10-12", "01-02-0003"),
        *("12/345", "LOAN-26", "1E5", "2026-1", "Ñ-1", "L'1", "123.45", "#12", "9/2026"),
    ],
)
def test_an_id_that_is_only_a_little_like_that_is_taken(report, two_columns, loan):
    ready, bad = read([report(f"loan_id,amount\n{loan},5")], two_columns, period="2026-09")

    assert [row["loan_id"] for row in rows_of(ready)] == [loan]
    assert bad == []


@pytest.mark.parametrize("loan", ["00123", "Jan-26", "1E+11", "Total", "L\u20131"])
@pytest.mark.parametrize("cell", ['="{}"', '"=""{}"""', ' ="{} "'])
def test_a_cell_that_is_marked_as_text_is_taken_as_it_is(report, two_columns, loan, cell):
    ready, bad = read([report(f"loan_id,amount\n{cell.format(loan)},5")], two_columns, period="2026-09")

    assert [row["loan_id"] for row in rows_of(ready)] == [loan]
    assert bad == []


def test_an_amount_that_is_marked_as_text_is_refused(report, two_columns):
    _, bad = read([report('loan_id,amount\nL-1,="5.00"\nL-2,="5,00"')], two_columns, period="2026-09")

    assert [each.number for each in bad] == [2, 3]


# --- journals ---------------------------------------------------------------------------------------------------------


def test_journals_are_recognised_by_their_columns_and_may_have_texts_of_several_lines(write, two_columns):
    file = write(
        "visits.csv",
        'internal_loan_id,subject,body,image_url\nL-1,A visit,"One\nTwo",\nL-1,Another,x,http://x.test/\nL-1,Third,y,',
    )

    (ready,), bad = read([file], two_columns, period="2026-09")

    assert json.loads(ready.body) == {
        "journals": [
            {"internal_loan_id": "L-1", "subject": "A visit", "body": "One\nTwo"},
            {"internal_loan_id": "L-1", "subject": "Third", "body": "y"},
        ]
    }
    assert lines_of(bad) == ["line 4: image_url must be a public https URL"]


def test_one_journal_twice_is_bad_and_two_of_a_loan_are_not(write, rules):
    head = "internal_loan_id,internal_client_id,subject,body"
    file = write("visits.csv", f"{head}\nL-1,C-1,A,x\nL-1,C-1,B,x\nL-1,C-1,A,x\n")

    _, bad = read([file], rules)

    assert lines_of(bad) == ["line 4: is the same as line 2"]


def test_of_journals_the_rest_is_named_after_a_broken_quote_for_it_may_be_a_text(write, two_columns):
    """Its lines may be the text that the broken cell began, and would be published as journals."""
    content = (
        'internal_loan_id,subject,body\nL-1,A,x\nL-2,"A "good" visit,"We came\nL-9, to the market, twice"\nL-3,B,y\n'
    )

    ready, bad = read([write("visits.csv", content)], two_columns)

    assert [row["internal_loan_id"] for row in rows_of(ready)] == ["L-1"]
    assert [(each.number, each.last) for each in bad] == [(3, 5)]


def test_a_row_within_a_text_is_named_and_a_line_of_a_text_is_none(write, two_columns):
    head = "internal_loan_id,subject,body"
    swallowed = write("a.csv", f'{head}\nL-1,A visit,"We came\nL-2,A visit,5"\nL-3,B,y')
    plain = write("c.csv", f'{head}\n00123,A visit,"We came\nHello, dear, friends\nthere"\n00124,B,y')
    text = write(
        "b.csv", f'{head}\nL-1,A visit,"We came, Mary and I\nto her, and she, she\nsold 7, or 8, mats"\nL-3,B,y'
    )

    ready, bad = read([swallowed], two_columns)
    assert [row["internal_loan_id"] for row in rows_of(ready)] == ["L-3"]
    assert [(each.number, each.last) for each in bad] == [(2, 3)]
    assert "line 3 looks like a row within a text" in bad[0].rule
    assert read([text, plain], two_columns)[1] == []


def test_long_texts_make_more_messages(write, two_columns):
    lines = [f"L-{number},A visit,{'x' * 15_000}" for number in range(100)]

    ready, _ = read([write("visits.csv", "\n".join(["internal_loan_id,subject,body", *lines]))], two_columns)

    assert len(ready) == 2
    assert len(rows_of(ready)) == 100
    for each in ready:
        assert len(each.body) <= MAX_MESSAGE_BYTES
        parse(Kind.JOURNAL_UPDATE, each.body.decode(), two_columns)


# --- JSON -------------------------------------------------------------------------------------------------------------

JOURNALS = {"journals": [{"internal_loan_id": "L-1", "subject": "A visit", "body": "x"}]}
REPAYMENTS = {"period": "2026-09", "repayments": [{"loan_id": "L-1", "amount": 10.5}]}


def test_the_kind_of_a_message_is_seen_by_what_it_holds(write, two_columns):
    file = write("all.json", [draft(), JOURNALS, REPAYMENTS])

    ready, bad = read([file], two_columns)

    assert [each.kind for each in ready] == [Kind.LOAN_DRAFT, Kind.JOURNAL_UPDATE, Kind.REPAYMENT]
    assert [json.loads(each.body) for each in ready] == [draft(), JOURNALS, REPAYMENTS]
    assert [each.where for each in ready] == [f"{file}, message {number}" for number in (1, 2, 3)]
    assert bad == []


def test_json_lines_are_messages_of_their_own(write, two_columns):
    file = write("all.jsonl", f"{json.dumps(draft())}\n\n{{\n{json.dumps({'entreps': []})}\n[1]")

    (ready,), bad = read([file], two_columns)

    assert ready.where == f"{file}, line 1"
    assert [(each.unit, each.number) for each in bad] == [("line", 3), ("line", 4), ("line", 5)]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("", "$ is not JSON (line 1, column 1)"),
        ('{"repayments": [', "$ is not JSON (line 1, column 17)"),
        ("[]", "$ is an empty list"),
        ('"canary"', "$ must hold entreps (a loan draft), journals or repayments"),
        ({"canary": 1}, "$ must hold entreps (a loan draft), journals or repayments"),
        ({**REPAYMENTS, "period": "canary"}, "$.period must be a month (YYYY-MM)"),
        ({**REPAYMENTS, "canary<": 1}, "$.(unprintable) is not a field of this kind of message"),
        (draft(photo={"file": "canary.jpg"}), "$.photo.file names no file in the folder of the message"),
        (draft(photo={"file": "../canary.jpg"}), "$.photo.file names no file in the folder of the message"),
        (draft(photo={"file": "."}), "$.photo.file names no file in the folder of the message"),
        (draft(photo={"file": "canary.jpg", "s3_key": "photos/x"}), "$.photo.file is not a field of this kind of"),
        ({**JOURNALS, "journals": JOURNALS["journals"] * 2}, "$.journals[1].internal_loan_id is twice in this message"),
        (
            {"journals": [{**JOURNALS["journals"][0], "subject": f"{at}", "body": "x" * 20_000} for at in range(51)]},
            f"$ must be at most {MAX_MESSAGE_BYTES} bytes; send several messages",
        ),
    ],
)
def test_a_message_that_breaks_a_rule_is_named_by_field_and_rule(write, two_columns, content, rule):
    ready, bad = read([write("a.json", content)], two_columns)

    assert ready == []
    assert bad[0].rule.startswith(rule)
    assert bad[0].number == 0
    assert "canary" not in "".join(each.rule for each in bad)


def test_a_photo_inside_may_be_larger_than_a_queue_takes_but_not_than_the_api_does(write, two_columns):
    fits, too_long = (data_uri(png(rest=bytes(size))) for size in (2_000_000, 5_000_000))

    ready, bad = read([write("a.json", [draft(image_encoded=it) for it in (fits, too_long)])], two_columns)

    assert len(ready) == 1
    assert len(ready[0].body) < MAX_BODY_BYTES
    assert [(each.number, each.rule.partition(";")[0]) for each in bad] == [(2, "$.image_encoded is too long")]


# --- photos -----------------------------------------------------------------------------------------------------------


def test_a_photo_beside_its_message_is_named_by_its_content(write, two_columns):
    photo = write("akinyi.jpg", png(rest=b"canary"))
    file = write("a.json", draft(photo={"file": "akinyi.jpg"}))

    (ready,), bad = read([file], two_columns)

    ((key, path),) = ready.photos.items()
    assert key.endswith(".png")  # by what it is, not by what it is called
    assert path.samefile(photo)
    assert json.loads(ready.body)["photo"] == {"s3_key": key}
    assert bad == []


def test_a_photo_elsewhere_is_not_looked_at(write, two_columns, tmp_path):
    (tmp_path / "drafts").mkdir()
    write("secret.png", png())
    file = write("drafts/a.json", draft(photo={"file": "../secret.png"}))
    linked = tmp_path / "drafts" / "linked.png"
    linked.symlink_to(tmp_path / "secret.png")

    _, bad = read([file, write("drafts/b.json", draft(photo={"file": "linked.png"}))], two_columns)

    assert [each.rule for each in bad] == ["$.photo.file names no file in the folder of the message"] * 2


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"%PDF-1.7", "$.photo.file must hold a PNG, JPEG or GIF"),
        (b"", "$.photo.file must hold a PNG, JPEG or GIF"),
        (png(rest=bytes(5 * 2**20)), "$.photo.file must be at most 5242880 bytes when decoded"),
        (png(30_000, 30_000), "$.photo.file must have at most 25000000 pixels"),
    ],
)
def test_a_photo_that_kiva_would_not_take_is_bad(write, two_columns, content, rule):
    write("akinyi.jpg", content)

    _, bad = read([write("a.json", draft(photo={"file": "akinyi.jpg"}))], two_columns)

    assert bad == [Bad(bad[0].file, rule, 0, "message")]


@pytest.mark.parametrize(("said", "kept"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
@pytest.mark.parametrize("name", ["José Ñandú.png", "año/José.png"])
def test_a_photo_is_found_whichever_normal_form_its_name_has(write, two_columns, tmp_path, said, kept, name):
    file = tmp_path / unicodedata.normalize(kept, name)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(png())

    (ready,), bad = read([write("a.json", draft(photo={"file": unicodedata.normalize(said, name)}))], two_columns)

    assert bad == []
    assert [path.read_bytes() for path in ready.photos.values()] == [png()]


def test_two_photos_whose_names_look_the_same_are_not_chosen_from(write, two_columns):
    for form in ("NFC", "NFD"):
        write(unicodedata.normalize(form, "José.png"), png())

    _, bad = read([write("a.json", draft(photo={"file": "José.png"}))], two_columns)

    assert [each.rule for each in bad] == ["$.photo.file fits two files whose names look the same; rename one of them"]


def test_a_name_that_no_file_can_have_is_no_photo(write, two_columns):
    names = ["a\0b.png", "é\0.png", "x" * 5000, "é" * 300, "\0"]

    _, bad = read([write("a.json", [draft(photo={"file": it}) for it in names])], two_columns)

    assert {each.rule for each in bad} == {"$.photo.file names no file in the folder of the message"}


# --- of all files of a command ----------------------------------------------------------------------------------------


def report_of(*rows, **more):
    return {"period": "2026-09", "repayments": [{"loan_id": loan, "amount": amount} for loan, amount in rows], **more}


def test_two_amounts_of_a_loan_in_two_files_are_refused_by_both_places(write, two_columns):
    one, two = (
        write("one.csv", "loan_id,amount\nL-1,300\nL-2,5\n"),
        write("two.csv", "loan_id,amount\nL-3,1\nL-1,200\n"),
    )

    ready, bad = read([one, two], two_columns, period="2026-09")

    assert [(each.file, *lines_of([each])) for each in bad] == [
        (str(one), f"line 2: reports 300.00, and {two}, line 3 reports 200.00 for the same loan; remove the wrong one"),
        (str(two), f"line 3: reports 200.00, and {one}, line 2 reports 300.00 for the same loan; remove the wrong one"),
    ]
    assert [row["loan_id"] for row in rows_of(ready)] == ["L-2", "L-3"]


def test_two_amounts_of_a_loan_are_refused_in_any_two_places(write, two_columns):
    csv = write("a.csv", "loan_id,amount\nL-1,1\nL-2,1\nL-2,2\n")
    listed = write("b.json", [report_of(("L-3", 3)), report_of(("L-9", 9), ("L-1", 2)), report_of(("L-9", 8))])

    ready, bad = read([csv, listed], two_columns, period="2026-09")

    end = "for the same loan; remove the wrong one"
    assert sorted((each.unit, each.number, each.rule) for each in bad) == [
        ("line", 2, f"reports 1.00, and {listed}, message 2, $.repayments[1] reports 2.00 {end}"),
        ("line", 3, f"reports 1.00, and {csv}, line 4 reports 2.00 {end}"),
        ("line", 4, f"reports 2.00, and {csv}, line 3 reports 1.00 {end}"),
        ("message", 2, f"$.repayments[0] reports 9.00, and {listed}, message 3, $.repayments[0] reports 8.00 {end}"),
        ("message", 2, f"$.repayments[1] reports 2.00, and {csv}, line 2 reports 1.00 {end}"),
        ("message", 3, f"$.repayments[0] reports 8.00, and {listed}, message 2, $.repayments[0] reports 9.00 {end}"),
    ]
    assert [row["loan_id"] for row in rows_of(ready)] == ["L-3"]


def test_the_same_row_in_two_files_is_harmless_for_it_is_sent_once(write, two_columns):
    same = "loan_id,amount\nL-1,300\n"

    listed = write("three.json", [report_of(("L-1", 300), ("L-2", 1)), report_of(("L-1", 300))])

    ready, bad = read([write("one.csv", same), write("two.csv", same), listed], two_columns, period="2026-09")

    assert len(ready) == 4
    assert bad == []


@pytest.mark.parametrize(
    ("one", "two", "rule"),
    [
        (report_of(("L-1", 1)), report_of(("L-1", 1), reference="R7"), "is the same repayment as"),
        (report_of(("L-1", 1), reference="R6"), report_of(("L-1", 2), reference="R7"), "reports 1.00, and"),
        (draft(), draft(reference="R7"), "is the same loan draft as"),
        (draft(), draft(currency="UGX"), "has the reference of"),
        (JOURNALS, {**JOURNALS, "reference": "R7"}, "is the same journal update as"),
        ({**JOURNALS, "reference": "R7"}, {"reference": "R7", "journals": [{**JOURNALS["journals"][0], "body": "y"}]},
         "has the reference of"),
    ],
)  # fmt: skip
def test_what_would_be_sent_twice_or_contradict_itself_is_refused(write, two_columns, one, two, rule):
    ready, bad = read([write("a.json", [one, two])], two_columns)

    assert ready == []
    assert [each.number for each in bad] == [1, 2]
    assert rule in bad[0].rule
    assert "message 2, $" in bad[0].rule


@pytest.mark.parametrize(
    "two",
    [
        report_of(("L-1", 2), period="2026-08"),
        report_of(("L-1", 2), period=None, reference="september"),
        report_of(("L-2", 2)),
        {"journals": [{**JOURNALS["journals"][0], "body": "y"}]},
    ],
)
def test_what_may_both_be_true_goes(write, two_columns, two):
    """Of two reports without a month nobody knows that they are of the same one."""
    older = report_of(("L-1", 3), period=None, reference="august")

    ready, bad = read([write("a.json", [report_of(("L-1", 1)), JOURNALS, older, two])], two_columns)

    assert bad == []
    assert len(ready) == 4


# --- options and JSON -------------------------------------------------------------------------------------------------


def test_options_hold_for_json_where_it_says_nothing(write, two_columns):
    rows = {"repayments": [{"loan_id": "L-1", "amount": 5}]}

    (month,), _ = read([write("a.json", rows)], two_columns, period="2026-09")
    (both,), _ = read([write("a.json", [rows])], two_columns, period="2026-09", reference="R7")
    (named,), _ = read([write("a.jsonl", json.dumps({**rows, "reference": "R7"}))], two_columns, period="2026-09")
    (one_draft,), _ = read([write("a.json", draft())], two_columns, reference="R7")

    assert json.loads(month.body) == {"period": "2026-09", **rows}
    assert json.loads(both.body) == json.loads(named.body) == {"period": "2026-09", "reference": "R7", **rows}
    assert json.loads(one_draft.body)["reference"] == "R7"
    assert (month.period, one_draft.period) == ("2026-09", "")


def test_a_message_that_contradicts_an_option_is_refused_by_both_values(write, two_columns):
    file = write("a.json", {**REPAYMENTS, "reference": "R6"})

    ready, bad = read([file], two_columns, period="2026-10", reference="R7")

    assert ready == []
    assert [each.rule for each in bad] == [
        "$.period is 2026-09, and --period says 2026-10",
        "$.reference is R6, and --reference says R7",
    ]
    assert read([file], two_columns, period="2026-09", reference="R6")[1] == []


def test_a_month_that_is_none_is_not_repeated(write, two_columns):
    _, bad = read([write("a.json", {**REPAYMENTS, "period": "canary"})], two_columns, period="2026-10")

    assert [each.rule for each in bad] == ["$.period must be a month (YYYY-MM)"]


@pytest.mark.parametrize(("name", "between"), [("a.json", ","), ("a.jsonl", "\n")])
def test_a_reference_is_not_for_several_messages(write, two_columns, name, between):
    text = between.join([json.dumps(draft(1)), json.dumps(draft(2))])

    with pytest.raises(WrongUse, match=r"--reference names one message, and .* holds 2"):
        read([write(name, f"[{text}]" if between == "," else text)], two_columns, reference="R7")


@pytest.mark.parametrize("options", [{"period": "2026-13"}, {"period": "1999-12"}, {"reference": "R 7"}])
def test_an_option_is_checked_before_the_files_are_blamed(write, two_columns, options):
    with pytest.raises(WrongUse, match=r"^--(period|reference) must be"):
        read([write("a.json", {"repayments": REPAYMENTS["repayments"]})], two_columns, **options)


@pytest.mark.parametrize(
    ("period", "told"),
    [
        ("2062-10", "2062-10 is 431 months ahead"),
        ("2027-01", "2027-01 is 2 months ahead"),
        ("2026-12", ""),
        ("2026-11", ""),
        ("2025-11", ""),
        ("2025-10", "2025-10 is 13 months back"),
    ],
)
def test_a_month_is_far_off_beyond_the_next_one_and_the_last_year(period, told):
    assert far_off(period, date(2026, 11, 28)) == told
