"""What Kiva finds is never dropped, and never believed of a row that it may not be about."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiva_partner.findings import MAX_WORDING, Finding, Weight, read_findings, wording


def rows(*loans, client="C-1"):
    return [{"loan_id": loan, "client_id": client, "amount": 5} for loan in loans]


def problem(loan_id, severity="error", **more):
    return {"loan_id": loan_id, "severity": severity, "code": "x", "details": "No loan with this id"} | more


def about(problems, found_in):
    """The loans that findings were read as being about; and why nobody can tell, if so."""
    findings = read_findings({"problems": problems}, found_in)
    return [row["loan_id"] for row, of_row in zip(found_in, findings.of_rows, strict=True) if of_row], findings.doubt


FITS_NONE = "it names a problem that fits no row of this call"


@pytest.mark.parametrize(
    "loan_id",
    ["00123", 123, 123.0, "123", " 00123", "00123 ", "\t00123\n"],
)
def test_a_row_is_found_although_a_program_took_its_id_for_a_number(loan_id):
    assert about([problem(loan_id)], rows("00123", "L-8")) == (["00123"], "")


@pytest.mark.parametrize("loan_id", ["L-8", "l-8", " L-8 ", "l-8\n"])
def test_a_row_is_found_although_its_id_was_trimmed_or_is_in_other_capitals(loan_id):
    assert about([problem(loan_id)], rows("L-8", "L-80")) == (["L-8"], "")


def test_french_pages_call_the_ids_as_loans_do():
    found = {"internal_loan_id": "L-1", "internal_client_id": "C-1", "severity": "error"}
    assert about([found], rows("L-1", "L-2")) == (["L-1"], "")


@pytest.mark.parametrize(("loan_id", "row"), [("123", "123"), ("00123", "00123")])
def test_of_two_ids_that_are_alike_the_one_that_is_named_exactly_is_meant(loan_id, row):
    assert about([problem(loan_id)], rows("123", "00123")) == ([row], "")


def test_of_two_ids_that_are_alike_neither_is_meant_by_a_third_form():
    assert about([problem(123)], rows("123", "00123")) == ([], FITS_NONE)
    assert about([problem("0123")], rows("123", "00123")) == ([], FITS_NONE)


def test_where_one_of_two_is_named_exactly_the_other_is_meant_by_what_is_like_it():
    assert about([problem("123"), problem("0123", "warning")], rows("123", "00123")) == (["123", "00123"], "")


def test_a_row_that_is_named_exactly_is_not_meant_by_anything_like_it():
    found = read_findings({"problems": [problem("00123", "warning"), problem(123)]}, rows("00123"))
    assert [[each.severity for each in of_row] for of_row in found.of_rows] == [["warning"]]
    assert found.doubt == FITS_NONE


def test_a_client_id_that_contradicts_makes_it_another_loan():
    assert about([problem(123, client_id="C-2")], rows("00123")) == ([], FITS_NONE)
    assert about([problem(123, client_id="c-1 ")], rows("00123")) == (["00123"], "")
    assert about([problem(123, client_id="C-2")], [{"loan_id": "00123", "amount": 5}]) == (["00123"], "")


@pytest.mark.parametrize(
    "nameless",
    [
        *(problem(name) for name in (None, "", " ", True, [], {}, ["L-1"], 1.5, "L-99", "L-1 not found")),
        {"severity": "error"},
        "L-1 not found",
        1,
        None,
        [],
        ["L-1"],
        {},
    ],
    ids=repr,
)
def test_what_fits_no_row_leaves_a_doubt_about_all_of_them(nameless):
    findings = read_findings({"problems": [nameless]}, rows("L-1", "L-2"))
    assert findings.doubt == FITS_NONE
    assert (findings.of_rows, len(findings.of_call)) == ([[], []], 1)


@pytest.mark.parametrize("problems", [{}, problem("L-1"), {"L-1": problem("L-1")}, "", "none", 0, False, True, 1.5])
def test_problems_that_are_no_list_leave_a_doubt(problems):
    findings = read_findings({"problems": problems}, rows("L-1"))
    assert (findings.of_rows, len(findings.of_call)) == ([[]], 1)
    assert findings.doubt == "its problems are not a list"


@pytest.mark.parametrize("answer", [{}, {"problems": None}, {"problems": []}, {"problems": [], "errors": []}])
def test_nothing_found_is_no_doubt(answer):
    findings = read_findings(answer, rows("L-1"))
    assert (findings.of_rows, findings.of_call, findings.doubt) == ([[]], [], "")


def test_a_warning_that_names_nothing_stands_with_the_call():
    findings = read_findings({"problems": [problem("", "warning")]}, rows("L-1"))
    assert ([each.details for each in findings.of_call], findings.doubt) == (["No loan with this id"], "")


def test_warnings_about_loans_of_another_call_alone_leave_a_doubt():
    assert about([problem("M-1", "warning")], rows("L-1")) == ([], "its problems are about loans of another call")
    assert about([problem("M-1", "warning"), problem("L-1", "warning")], rows("L-1")) == (["L-1"], "")


@pytest.mark.parametrize("field", ["errors", "error", "violations"])
def test_a_success_that_names_errors_leaves_a_doubt_whatever_it_is_about(field):
    findings = read_findings({field: [{"field": "loan_id", "default_message": "is closed"}]}, rows("L-1"))
    assert [each.details for each in findings.of_call] == ["loan_id: is closed"]
    assert findings.doubt == FITS_NONE


@pytest.mark.parametrize("word", ["warning", "WARNING", "Warn", " info ", "INFORMATION", "notice"])
def test_known_mild_words_mean_that_the_row_was_taken(word):
    assert Finding("L", word, "", "").weight is Weight.MILD


@pytest.mark.parametrize("word", ["error", "ERROR", "Error ", "fatal", "CRITICAL", "severe"])
def test_known_grave_words_mean_that_the_row_was_refused(word):
    assert Finding("L", word, "", "").weight is Weight.GRAVE


@pytest.mark.parametrize("word", ["", " ", "odd", "warnings", "none", "0", "low", "attention"])
def test_a_word_that_nobody_knows_or_none_leaves_a_doubt(word):
    assert Finding("L", word, "", "").weight is Weight.UNCLEAR


@pytest.mark.parametrize("severity", [None, 1, True, [], {}, ["warning"]])
def test_a_severity_that_is_no_word_leaves_a_doubt(severity):
    (of_row,) = read_findings({"problems": [problem("L-1", severity)]}, rows("L-1")).of_rows
    assert [each.weight for each in of_row] == [Weight.UNCLEAR]


ids = st.one_of(st.sampled_from(["1", "01", " 1", "a", "A", 1, None, ""]), st.text(max_size=3), st.integers(0, 9))
found = st.one_of(ids, st.fixed_dictionaries({"loan_id": ids, "severity": st.sampled_from(["error", "warning", "?"])}))


@given(
    st.lists(found, max_size=6), st.lists(st.sampled_from(["1", "01", "001", "a", "A", "b"]), unique=True, min_size=1)
)
def test_every_finding_stands_somewhere_and_none_twice(problems, loans):
    findings = read_findings({"problems": problems}, rows(*loans))
    assert sum(map(len, findings.of_rows)) + len(findings.of_call) == len(problems)
    assert not any(each.weight is not Weight.MILD for each in findings.of_call) or findings.doubt


# --- wording ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"message": "no such location"}, "no such location"),
        ({"detail": "no such location", "title": "Bad Request"}, "no such location; Bad Request"),
        ({"error": "invalid_request", "error_description": "no body"}, "no body; invalid_request"),
        ({"error": {"message": "no such location", "code": 7}}, "no such location"),
        ({"error": {"error": {"detail": "nested"}}}, "nested"),
        (
            {"message": "Validation failed", "errors": [{"field": "location", "default_message": "is unknown"}]},
            "Validation failed; location: is unknown",
        ),
        ({"errors": ["first", "second", "first"]}, "first; second"),
        (
            {"errors": {"entreps[0].amount": ["is too small", "is odd"]}},
            "entreps[0].amount: is too small; entreps[0].amount: is odd",
        ),
        ({"errors": [{"pointer": "/location", "detail": "is unknown"}]}, "/location: is unknown"),
        ([{"message": "first"}, {"message": "second"}], "first; second"),
        ({"violations": [{"property": "amount", "message": "is odd"}]}, "amount: is odd"),
        ({"message": " on\n two\tlines "}, "on two lines"),
        ("in plain words", "in plain words"),
        ({}, ""),
        (None, ""),
        ({"message": 5, "errors": 7}, ""),
    ],
)
def test_kivas_words_are_read_in_whatever_form_a_server_writes_them(answer, said):
    assert wording(answer) == said


def test_words_without_end_are_cut():
    assert len(wording({"errors": ["x" * 5000] * 10 + [{"message": "y" * 5000}]})) == MAX_WORDING
    deep = "bottom"
    for _ in range(900):
        deep = {"error": deep}
    assert wording(deep) == ""
