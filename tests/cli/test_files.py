"""Reading files of events: every bad line is named by its number, and none by what it says."""

import json
from copy import replace
from decimal import Decimal
from itertools import chain

import pytest

from borrowers import draft
from cli.files import MAX_BODY_BYTES, ROWS_PER_MESSAGE, Bad, WrongUse, read
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
    return [f"line {each.number}: {each.rule}" for each in bad]


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


ID = "must be an id of 1 to 64 characters without spaces at its ends and without control characters"


@pytest.mark.parametrize(
    ("lines", "mistakes"),
    [
        (["L-1,1,2"], ["line 2: must have 2 columns and has 3"]),
        (["L-1"], ["line 2: must have 2 columns and has 1"]),
        (["L-1,1", "L-1,2"], ["line 3: has the same loan_id as line 2"]),
        ([" ,1"], ["line 2: loan_id is missing"]),
        (["L" * 65 + ",1"], ["line 2: loan_id must be str of length <= 64"]),
        (["L\a1,1"], [f"line 2: loan_id {ID}"]),
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
        (['"L-1,1'], ["line 2: unexpected end of data"]),
        (['"L-\n1",x'], ["line 2: amount must be digits, with a point and up to two decimals where needed"]),
    ],
)
def test_every_bad_line_is_named_by_its_number(report, two_columns, lines, mistakes):
    _, bad = read([report("\n".join(["loan_id,amount", *lines]))], two_columns, period="2026-09")

    assert lines_of(bad) == mistakes


@pytest.mark.parametrize("first", ["", "loan_id;amount", "amount,loan_id", "L-1,10", "loan_id,client_id,amount,name"])
def test_the_first_line_must_name_the_columns(report, two_columns, first):
    ready, (bad,) = read([report(f"{first}\nL-1,1\n")], two_columns, period="2026-09")

    assert bad.number == 1
    assert bad.rule.startswith("must name the columns: loan_id,amount, or ")
    assert ready == []


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

    assert [row["payment_id"] for row in rows_of(ready)] == ["P-1", "P-2"]
    assert lines_of(bad) == [
        "line 4: is the same as line 2",
        "line 5: payment_id is missing; instalments need it, or a reference",
    ]


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
