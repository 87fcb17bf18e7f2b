import base64
import gzip
import io
import json
import string
import textwrap
import unicodedata
from collections.abc import Iterator
from copy import replace
from decimal import Decimal
from typing import get_args
from urllib.parse import quote, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import images
from images import data_uri
from kiva_partner import messages
from kiva_partner.characters import in_id, in_name, in_text, normal
from kiva_partner.errors import InvalidMessage
from kiva_partner.messages import (
    MAX_MESSAGE_BYTES,
    Kind,
    Photo,
    parse,
    parse_json,
)
from kiva_partner.photos import read_image, sniff_image
from kiva_partner.settings import AmountMode, PartnerRules
from kiva_partner.strict_json import decode, encode

RULES = PartnerRules(needs_client_id=True, amount_mode=AmountMode.CUMULATIVE_PRINCIPAL, max_image_bytes=1000)
"""For the tests that hypothesis runs many times; the others take theirs from the fixtures."""

SCHEMA_PARTS = (
    messages.LoanDraft,
    messages.Entrep,
    messages.Instalment,
    messages.Photo,
    messages.JournalUpdates,
    messages.Journal,
    messages.Repayments,
    messages.Repayment,
)
DRAFT, JOURNALS, REPAYMENTS = Kind.LOAN_DRAFT, Kind.JOURNAL_UPDATE, Kind.REPAYMENT

PNG = images.png(rest=b"canary-pixels")
JPEG = images.jpeg(rest=b"canary-pixels")
GIF = images.gif(rest=b"canary-pixels")


def entrep(letter="A", **changes):
    return {
        "client_id": f"C-9{letter}",
        "loan_id": f"L-9{letter}",
        "first_name": "Quillaja",
        "last_name": "Saponaria",
        "gender": "female",
        "amount": 60000,
    } | changes


def individual(**changes):
    return {
        "activity_id": 61,
        "theme_type_id": 48,
        "description_language_id": 1,
        "location": "Kisumu: Kenya",
        "currency": "KES",
        "loanuse": "to restock her stall.",
        "description": "Quillaja has run a food stall for six years.",
        "client_waiver_signed": True,
        "disburse_time": "2026-12-15",
        "entreps": [entrep()],
        "schedule": [
            {"date": "2027-01-15", "principal": 30000, "interest": 900},
            {"date": "2027-02-15", "principal": 30000, "interest": 450},
        ],
        "image_encoded": data_uri(PNG),
    } | changes


def group(**changes):
    members = [entrep("A", amount=20000), entrep("B", amount=25000), entrep("C", amount=15000)]
    return individual(
        entreps=members,
        group_name="Saponaria Sisters",
        internal_client_id="G-0310",
        internal_loan_id="GL-0310-1",
        not_pictured=[False, True, False],
    ) | (changes)


def journal(loan="L-70011-1", **changes):
    return {
        "internal_loan_id": loan,
        "internal_client_id": "C-18820",
        "subject": "A second stall",
        "body": "Quillaja rented a second table.",
    } | changes


def row(loan="L-70011-1", amount=42000, **changes):
    return {"loan_id": loan, "client_id": "C-18820", "amount": amount} | changes


def report(*rows, **changes):
    return {"period": "2026-10", "repayments": list(rows) or [row()]} | changes


def report_of(number):
    """The text of a report whose one amount is spelled like this."""
    return json.dumps(report(row(amount="AMOUNT"))).replace('"AMOUNT"', number)


def without(body, *names):
    return {name: value for name, value in body.items() if name not in names}


def as_text(body):
    return body if isinstance(body, str) else json.dumps(body)


def only(message):
    (submission,) = message.submissions
    return submission


def violations(kind, body, rules):
    """What is wrong with it, as path -> rule; and a check that nothing of what was sent is in the error."""
    with pytest.raises(InvalidMessage) as caught:
        parse(kind, as_text(body), rules)
    told = str(caught.value)
    assert told.isprintable()
    for sent in leaves(body):
        assert sent not in told
    return {violation.path: violation.rule for violation in caught.value.violations}


def leaves(value) -> Iterator[str]:
    """Every text and number of a message that an error could give away; words of the rules themselves excepted."""
    match value:
        case dict():
            for item in value.values():
                yield from leaves(item)
        case list():
            for item in value:
                yield from leaves(item)
        case str() | int() | float() if len(str(value)) > 2 and value not in ("female", "photos/", True, False):
            yield str(value)


# --- what is taken --------------------------------------------------------------------------------------------------


def test_an_individual_draft_is_one_submission_with_kivas_own_fields(rules):
    submission = only(parse(DRAFT, as_text(individual()), rules))

    assert submission.kind is DRAFT
    assert submission.loan_id == "L-9A"
    assert json.loads(encode(submission.content)) == individual()


def test_a_group_draft_keeps_its_members_and_not_pictured_in_their_order(rules):
    submission = only(parse(DRAFT, as_text(group()), rules))

    assert submission.loan_id == "GL-0310-1"
    assert [each["loan_id"] for each in submission.content["entreps"]] == ["L-9A", "L-9B", "L-9C"]
    assert submission.content["not_pictured"] == [False, True, False]
    assert submission.content["group_name"] == "Saponaria Sisters"


def test_two_borrowers_are_a_group(rules):
    two = group(entreps=[entrep("A"), entrep("B")], not_pictured=[False, False])

    assert parse(DRAFT, as_text(two), rules).reference == "GL-0310-1"


def test_a_draft_may_be_incomplete_because_a_person_completes_it_in_pa2(rules):
    body = {"currency": "KES", "entreps": [without(entrep(), "last_name")]}

    assert json.loads(encode(only(parse(DRAFT, as_text(body), rules)).content)) == body


def test_each_journal_is_a_submission_of_its_own(rules):
    body = {"journals": [journal("L-1", image_url="https://media.example.org/1.jpg"), journal("L-2")]}

    message = parse(JOURNALS, as_text(body), rules)

    assert [each.content for each in message.submissions] == body["journals"]
    assert [each.loan_id for each in message.submissions] == ["L-1", "L-2"]


def test_each_repayment_is_a_submission_of_its_own_and_knows_its_month(rules):
    message = parse(REPAYMENTS, as_text(report(row("L-1", 100), row("L-2", 250.50))), rules)

    assert [each.loan_id for each in message.submissions] == ["L-1", "L-2"]
    assert [each.period for each in message.submissions] == ["2026-10", "2026-10"]
    assert json.loads(encode([each.content for each in message.submissions])) == [row("L-1", 100), row("L-2", 250.50)]


def test_what_is_ours_is_not_sent_to_kiva(rules):
    draft = parse(DRAFT, as_text(individual(reference="mis-1")), rules)
    journals = parse(JOURNALS, as_text({"reference": "mis-2", "journals": [journal()]}), rules)
    repayments = parse(REPAYMENTS, as_text(report(row(payment_id="p-1"), reference="mis-3")), rules)

    assert "reference" not in only(draft).content
    assert "reference" not in only(journals).content
    assert only(repayments).content.keys() == {"loan_id", "client_id", "amount"}


@pytest.mark.parametrize("nothing", ["", " ", "\t\n", None])
def test_an_empty_field_is_left_out_because_kiva_refuses_some_of_them(nothing, rules):
    body = individual(loanuse=nothing, location=nothing, activity_id=None, entreps=[entrep(last_name=nothing)])

    content = only(parse(DRAFT, as_text(body), rules)).content

    assert {"loanuse", "location", "activity_id"}.isdisjoint(content)
    assert "last_name" not in content["entreps"][0]


def test_an_empty_field_that_is_needed_is_a_missing_field(rules):
    assert violations(DRAFT, individual(currency=""), rules) == {"$.currency": "is missing"}


def test_group_fields_that_are_empty_do_not_make_an_individual_invalid(rules):
    body = individual(group_name="", internal_client_id=None, internal_loan_id=" ", not_pictured=None)

    assert only(parse(DRAFT, as_text(body), rules)).content.keys().isdisjoint({"group_name", "not_pictured"})


def test_text_is_sent_composed_whatever_the_producer_composed_it_of(rules):
    decomposed = unicodedata.normalize("NFD", "São Domingos: Guinea-Bissau")

    content = only(parse(DRAFT, as_text(individual(location=decomposed)), rules)).content

    assert content["location"] == "São Domingos: Guinea-Bissau" != decomposed


def test_combining_characters_without_end_are_refused_at_once(rules):
    """In order, which their composed form wants them in, 450,000 of them would take minutes."""
    stacked, refused = "e" + "\u0301\u0316" * 15, "holds a text with more than 30 combining characters in a row"
    assert parse(DRAFT, as_text(individual(location=stacked)), rules)
    # U+0F73 and its like count as none, and fall apart into two.
    for text in (stacked + "\u0301", stacked * 2 + "\u0301\u0316" * 70_000, "\u0f73" * 31):
        assert violations(DRAFT, individual(location=text), rules) == {"$": refused}
        assert violations(DRAFT, individual(**{text: 1}), rules) == {"$": refused}


@pytest.mark.parametrize("kind", list(Kind))
def test_the_scope_of_a_kind_is_called_as_kiva_calls_it(kind):
    assert kind.scope in {"create:loan_draft", "create:journal_update", "create:repayment"}


# --- two and three columns, and what an amount means ----------------------------------------------------------------


def test_a_three_column_partner_must_give_client_ids(rules):
    rows = [row("L-1"), without(row("L-2"), "client_id")]

    assert violations(REPAYMENTS, report(*rows), rules) == {
        "$.repayments[1].client_id": "is missing; this partner reports with client ids"
    }
    assert violations(JOURNALS, {"journals": [without(journal(), "internal_client_id")]}, rules) == {
        "$.journals[0].internal_client_id": "is missing; this partner reports with client ids"
    }


def test_a_two_column_partner_need_not_give_client_ids_and_kiva_gets_none(two_columns):
    given_one = parse(REPAYMENTS, as_text(report(row())), two_columns)
    given_none = parse(REPAYMENTS, as_text(report(without(row(), "client_id"))), two_columns)
    journals = parse(JOURNALS, as_text({"journals": [journal()]}), two_columns)

    assert given_one == given_none
    assert only(given_one).content.keys() == {"loan_id", "amount"}
    assert "internal_client_id" not in only(journals).content


def test_a_cumulative_report_needs_its_month_unless_it_has_a_reference(rules):
    body = without(report(), "period")

    assert violations(REPAYMENTS, body, rules) == {
        "$.period": "is missing; without a reference the reporting month (YYYY-MM) is needed"
    }
    assert parse(REPAYMENTS, as_text(body | {"reference": "october"}), rules).reference == "october"


@pytest.fixture
def instalments(rules):
    return replace(rules, amount_mode=AmountMode.INSTALMENT)


def test_an_instalment_needs_a_payment_id_or_the_message_a_reference(instalments):
    body = without(report(row("L-1"), row("L-2", payment_id="p-2")), "period")

    assert violations(REPAYMENTS, body, instalments) == {
        "$.repayments[0].payment_id": "is missing; instalments need it, or a reference"
    }
    assert len(parse(REPAYMENTS, as_text(body | {"reference": "r"}), instalments).submissions) == 2


def test_two_equal_instalments_of_a_loan_are_two_submissions(instalments):
    body = report(row(payment_id="p-1"), row(payment_id="p-2"))

    message = parse(REPAYMENTS, as_text(body), instalments)

    assert [each.reference for each in message.submissions] == ["L-70011-1:p-1", "L-70011-1:p-2"]


def test_the_same_instalment_twice_in_a_message_is_a_mistake(instalments):
    body = report(row(payment_id="p-1"), row(payment_id="p-1"))

    assert violations(REPAYMENTS, body, instalments) == {"$.repayments[1].loan_id": "is twice in this message"}


def test_an_instalment_is_known_by_its_payment_id_under_a_reference_too(instalments):
    message = parse(REPAYMENTS, as_text(report(row(payment_id="p-1"), row("L-2"), reference="batch-7")), instalments)

    assert [each.reference for each in message.submissions] == ["batch-7:L-70011-1:p-1", "batch-7:L-2"]


# --- references -----------------------------------------------------------------------------------------------------


def test_a_draft_is_known_by_its_loan_id_a_group_by_the_groups(rules):
    assert parse(DRAFT, as_text(individual()), rules).reference == "L-9A"
    assert parse(DRAFT, as_text(group()), rules).reference == "GL-0310-1"


def test_a_draft_with_a_reference_of_its_own_is_known_by_that(rules):
    message = parse(DRAFT, as_text(individual(reference="mis-2026-1")), rules)

    assert message.reference == only(message).reference == "mis-2026-1"


def test_a_journal_is_known_by_its_loan_and_its_text(rules):
    def reference(**changes):
        return parse(JOURNALS, as_text({"journals": [journal(**changes)]}), rules).reference

    assert reference().startswith("L-70011-1:")
    assert reference() == reference(image_url="https://media.example.org/1.jpg")
    assert len({reference(), reference(loan="L-2"), reference(subject="Another"), reference(body="Another")}) == 4


def test_a_repayment_is_known_by_month_loan_and_amount(rules):
    message = parse(REPAYMENTS, as_text(report(row(amount=42000.5))), rules)

    assert message.reference == only(message).reference == "2026-10:L-70011-1:42000.50"


def test_an_unchanged_amount_of_another_month_is_another_submission(rules):
    october = only(parse(REPAYMENTS, as_text(report(period="2026-10")), rules))
    november = only(parse(REPAYMENTS, as_text(report(period="2026-11")), rules))

    assert october.reference != november.reference
    assert october.fingerprint == november.fingerprint


def test_a_corrected_amount_of_the_same_month_is_another_submission(rules):
    first = only(parse(REPAYMENTS, as_text(report(row(amount=42000))), rules))
    corrected = only(parse(REPAYMENTS, as_text(report(row(amount=43000))), rules))

    assert first.reference != corrected.reference
    assert first.period == corrected.period


def test_the_rows_of_a_message_with_a_reference_are_known_by_it_and_their_loan(rules):
    repayments = parse(REPAYMENTS, as_text(report(row("L-1"), row("L-2"), reference="oct")), rules)
    journals = parse(JOURNALS, as_text({"reference": "visit", "journals": [journal("L-1"), journal("L-2")]}), rules)

    assert [each.reference for each in repayments.submissions] == ["oct:L-1", "oct:L-2"]
    assert [each.reference for each in journals.submissions] == ["visit:L-1", "visit:L-2"]
    assert (repayments.reference, journals.reference) == ("oct", "visit")


def test_a_list_without_a_reference_gets_the_same_one_each_time_it_is_sent(rules):
    def reference(*rows):
        return parse(REPAYMENTS, as_text(report(*rows)), rules).reference

    assert reference(row("L-1"), row("L-2")) == reference(row("L-1"), row("L-2"))
    assert reference(row("L-1"), row("L-2")) != reference(row("L-1"), row("L-3"))


def test_two_updates_of_a_loan_are_fine_but_not_under_one_reference(rules):
    two = [journal(subject="In May"), journal(subject="In June")]

    assert len(parse(JOURNALS, as_text({"journals": two}), rules).submissions) == 2
    assert violations(JOURNALS, {"journals": two, "reference": "visit"}, rules) == {
        "$.journals[1].internal_loan_id": "is twice under this one reference"
    }


IDS = st.text(
    st.one_of(
        st.sampled_from("aA1/ ~.%-_:#?&é\u0301中😀"),
        st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]),
    ),
    min_size=1,
    max_size=64,
).filter(lambda text: text.strip() and not in_id(text) and len(normal(text)) <= 64)


@given(IDS)
@example(".")
@example("..")
@example("a/../b")
def test_a_reference_made_of_an_id_can_stand_in_a_url_as_it_is(loan_id):
    body = individual(entreps=[entrep(loan_id=loan_id)])

    reference = only(parse(DRAFT, as_text(body), RULES)).reference

    assert set(reference) <= set(string.ascii_letters + string.digits + "._-~")
    assert not reference.startswith(".")  # clients take `.` and `..` out of a path


@given(IDS, IDS)
@example("a/b", "a~2Fb")
@example("a b", "a~20b")
@example("a", " a\u00a0")
def test_two_ids_are_two_references(one, other):
    def reference(loan_id):
        return only(parse(DRAFT, as_text(individual(entreps=[entrep(loan_id=loan_id)])), RULES)).reference

    same = normal(one) == normal(other)

    assert (reference(one) == reference(other)) is same


# --- fingerprints and the canonical form ----------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["1000", "1000.0", "1000.00", "1e3", "1E+3", "0.1e4", "1000.0000"])
def test_one_amount_has_one_reference_and_one_fingerprint_however_it_is_spelled(spelling, rules):
    text = report_of(spelling)

    assert parse(REPAYMENTS, text, rules) == parse(REPAYMENTS, as_text(report(row(amount=1000))), rules)


@pytest.mark.parametrize("spelling", ["-0", "-0.0", "0e5", "-0e-400"])
def test_nothing_is_nothing_with_either_sign(spelling, rules):
    assert parse(REPAYMENTS, report_of(spelling), rules) == parse(REPAYMENTS, report_of("0"), rules)


def test_the_order_of_fields_does_not_change_a_fingerprint(rules):
    shuffled = dict(reversed(individual().items()))

    assert parse(DRAFT, as_text(shuffled), rules) == parse(DRAFT, as_text(individual()), rules)


@pytest.mark.parametrize(
    "changes",
    [
        {"loanuse": "to buy a goat."},
        {"client_waiver_signed": False},
        {"entreps": [entrep(amount=60000.01)]},
        {"image_encoded": data_uri(JPEG)},
        {"disburse_time": "2026-12-16"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_content_has_another_fingerprint(changes, rules):
    one = only(parse(DRAFT, as_text(individual()), rules))
    other = only(parse(DRAFT, as_text(individual(**changes)), rules))

    assert one.reference == other.reference
    assert one.fingerprint != other.fingerprint


def test_a_draft_is_the_same_with_its_photo_inside_or_beside_the_message(rules):
    image, _ = read_image(data_uri(PNG), rules.max_image_bytes)
    inside = only(parse(DRAFT, as_text(individual()), rules))
    beside = only(
        parse(DRAFT, as_text(without(individual(), "image_encoded") | {"photo": {"s3_key": image.s3_key}}), rules)
    )

    assert inside.fingerprint == beside.fingerprint
    assert beside.photo == Photo(image.s3_key)
    assert inside.photo is None
    assert {"image_encoded", "photo"}.isdisjoint(beside.content)


@given(st.integers(0, 10**14 - 1))
@example(7)
@example(1999)
@example(99_999_999_999_999)
def test_an_amount_reaches_kiva_to_the_cent_and_never_through_a_float(cents):
    amount = Decimal(cents).scaleb(-2)
    text = report_of(f"{amount:f}")

    sent = encode(only(parse(REPAYMENTS, text, RULES)).content)

    assert f'"amount":{amount:.2f}'.encode() in sent


def test_canonical_json_is_utf8_with_its_names_sorted(rules):
    body = {"journals": [journal(subject="Новая теплица", body="São Domingos")]}

    sent = encode(only(parse(JOURNALS, as_text(body), rules)).content).decode()

    assert sent == (
        '{"body":"São Domingos","internal_client_id":"C-18820",'
        '"internal_loan_id":"L-70011-1","subject":"Новая теплица"}'
    )


# --- one form of texts and ids --------------------------------------------------------------------------------------

LOOKS_LIKE_L_1 = ("L-1", " L-1", "L-1\t", "L-1\r\n", "\u00a0L-1", "L-1\u202f", "L-1\u3000", "\x85L-1", "L-1\u2028")
NOT_SEEN_IN_AN_ID = "\u200b\ufeff\u2060\u200e\u00ad\u061c\u202e\u2066\u180e\u3164\ufe0f\U000e0041\u200d\ue000\u00a0"


@pytest.mark.parametrize("loan_id", LOOKS_LIKE_L_1)
def test_blanks_and_line_ends_around_an_id_do_not_make_another_loan(loan_id, rules):
    assert parse(DRAFT, as_text(individual(entreps=[entrep(loan_id=loan_id)])), rules) == parse(
        DRAFT, as_text(individual(entreps=[entrep(loan_id="L-1")])), rules
    )
    assert parse(REPAYMENTS, as_text(report(row(loan_id))), rules) == parse(
        REPAYMENTS, as_text(report(row("L-1"))), rules
    )


@pytest.mark.parametrize("unseen", NOT_SEEN_IN_AN_ID, ids=ascii)
@pytest.mark.parametrize("at", [0, 2, 3])
def test_a_character_that_nobody_sees_in_an_id_is_refused_by_its_number(unseen, at, rules):
    """Else one loan would have as many drafts as there are such characters."""
    loan_id = "L-1"[:at] + unseen + "L-1"[at:]
    if loan_id.strip() == "L-1":  # a blank: it is taken off
        return
    said = violations(DRAFT, individual(entreps=[entrep(loan_id=loan_id)]), rules)
    assert said.keys() == {"$.entreps[0].loan_id"}
    assert said["$.entreps[0].loan_id"].startswith(f"holds U+{ord(unseen):04X}")
    assert violations(REPAYMENTS, report(row("L-2"), row(loan_id)), rules).keys() == {"$.repayments[1].loan_id"}
    assert violations(JOURNALS, {"journals": [journal(loan_id)]}, rules).keys() == {"$.journals[0].internal_loan_id"}
    assert violations(REPAYMENTS, report(reference=loan_id), rules).keys() == {"$.reference"}


def test_the_name_of_the_character_and_what_to_do_are_said(rules):
    assert violations(DRAFT, individual(entreps=[entrep(loan_id="L\u200b1")]), rules) == {
        "$.entreps[0].loan_id": "holds U+200B ZERO WIDTH SPACE; type it without it"
    }
    assert violations(DRAFT, individual(entreps=[entrep(first_name="Ad\ufffdn")]), rules) == {
        "$.entreps[0].first_name": "holds U+FFFD REPLACEMENT CHARACTER: a letter was lost on the way; "
        "send it anew from its source, as UTF-8"
    }
    assert violations(JOURNALS, {"journals": [journal(body="Ad\ufffdn")]}, rules).keys() == {"$.journals[0].body"}


BODIES = (
    "One\nTwo",
    "One\r\nTwo",
    "One\rTwo",
    "One\x85Two",
    "One\u2028Two",
    "One\vTwo",
    " One\nTwo\r\n",
    "One\nTwo\u00a0",
)


@pytest.mark.parametrize("body", BODIES)
def test_one_journal_is_one_however_its_lines_end_and_whatever_blanks_are_around_it(body, rules):
    one = parse(JOURNALS, as_text({"journals": [journal(body="One\nTwo")]}), rules)

    assert parse(JOURNALS, as_text({"journals": [journal(body=body)]}), rules) == one
    assert only(one).content["body"] == "One\nTwo"


def test_a_text_in_another_normal_form_is_the_same_journal(rules):
    one, other = (
        parse(JOURNALS, as_text({"journals": [journal(body=unicodedata.normalize(form, "São Domingos"))]}), rules)
        for form in ("NFC", "NFD")
    )
    assert one == other


def test_a_journal_keeps_its_emoji_its_marks_of_direction_and_its_blanks(rules):
    text = (
        "\U0001f469\u200d\U0001f33e \u2764\ufe0f \U0001f3f4\U000e0067\U000e007f \u2067\u05e9\u05dc\u2069,\tcafé\u202f!"
    )
    sent = only(parse(JOURNALS, as_text({"journals": [journal(subject=text.replace("\t", ""), body=text)]}), rules))
    assert sent.content["body"] == text


@pytest.mark.parametrize("field", ["group_name", "location", "first_name", "last_name"])
def test_names_of_people_groups_and_places_keep_what_their_script_needs_and_nothing_unseen(field, rules):
    def draft(name):
        return (
            group(entreps=[entrep("A", **{field: name}), entrep("B")], not_pictured=[False, False])
            if (field.endswith("t_name"))
            else group(**{field: name})
        )

    assert parse(DRAFT, as_text(draft("\u0639\u0644\u06cc\u200c\u0631\u0636\u0627")), rules)  # Alireza, in Persian
    for name in ("Adhi\u202eambo", "\u200b", "\u3164", "Ma\u200dry", "\ufeffMary"):
        (said,) = violations(DRAFT, draft(name), rules).values()
        assert said.startswith("holds U+")


def test_two_fields_whose_names_differ_in_blanks_do_not_become_one(rules):
    assert violations(REPAYMENTS, report(**{"period ": "2026-11"}), rules) == {"$.(unprintable)": UNKNOWN}


def text_fields(schema) -> Iterator[tuple[str, object]]:
    """Each field of a schema and of its parts that holds a text, with its type."""
    for name, annotation in schema.__annotations__.items():
        for part in (annotation, *get_args(annotation), *(it for arg in get_args(annotation) for it in get_args(arg))):
            if getattr(part, "__origin__", part) is str:
                yield f"{schema.__name__}.{name}", annotation


def test_each_text_field_says_in_its_type_what_it_is():
    found = dict(it for schema in SCHEMA_PARTS for it in text_fields(schema))
    silent = [
        name
        for name, annotation in found.items()
        if not {in_id, in_name, in_text}
        & {it for part in (annotation, *get_args(annotation)) for it in getattr(part, "__metadata__", ())}
    ]
    assert len(found) > 15
    assert silent == []


# --- photos ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "true_type"),
    [(PNG, "image/png"), (JPEG, "image/jpeg"), (GIF, "image/gif"), (images.gif(version=b"87a"), "image/gif")],
)
@pytest.mark.parametrize("claimed", ["image/png", "image/jpg", "image/x-anything"])
def test_a_photo_is_sent_with_its_true_media_type_whatever_was_claimed(content, true_type, claimed, rules):
    body = individual(image_encoded=data_uri(content, claimed))

    assert only(parse(DRAFT, as_text(body), rules)).content["image_encoded"] == data_uri(content, true_type)


def test_a_photo_may_have_the_limits_very_size_and_not_a_byte_more(rules):
    limited = replace(rules, max_image_bytes=len(PNG))

    assert parse(DRAFT, as_text(individual(image_encoded=data_uri(PNG))), limited)
    assert violations(DRAFT, individual(image_encoded=data_uri(PNG + b"x")), limited) == {
        "$.image_encoded": f"must be at most {len(PNG)} bytes when decoded"
    }
    assert violations(DRAFT, individual(image_encoded=data_uri(PNG * 1000)), limited) == {
        "$.image_encoded": f"must be at most {len(PNG)} bytes when decoded"
    }


NO_DATA_URI = "must be a data URI of an image in base64 (data:image/png;base64,…)"
NO_BASE64 = "must be valid base64 after the comma"
NO_PADDING = "must be base64 in fours after the comma: padding (=) is missing, or a part of it"
BASE64URL = "must be base64 with + and / after the comma, and not base64url with - and _"
NO_IMAGE = "must hold a PNG, JPEG or GIF"


@pytest.mark.parametrize(
    ("image", "rule"),
    [
        (base64.b64encode(PNG).decode(), NO_DATA_URI),
        ("https://media.example.org/photo.png", NO_DATA_URI),
        ("data:text/html;base64,aGVsbG8=", NO_DATA_URI),
        ("data:image/png;base64,@@@@", NO_BASE64),
        ("data:image/png;base64,iVBORw0KGgo", NO_PADDING),
        ("data:image/png;base64,iVBORw0KGg=", NO_PADDING),
        ("data:image/png;base64,iVBORw0KGg-_", BASE64URL),
        ("data:image/png;base64,iVBORw0KGg-_AA", BASE64URL),
        ("data:image/png;base64,iVBO\tRw0KGgo=", NO_BASE64),
        ("data:image/png;base64,iVBO Rw0KGgo=", NO_BASE64),
        ("data:image/png;base64,中中中中", NO_BASE64),
        ("data:image/png;base64,", NO_IMAGE),
        (data_uri(b"%PDF-1.7 canary"), NO_IMAGE),
        (data_uri(PNG[:12]), NO_IMAGE),
        (data_uri(PNG[:16] + bytes(8)), NO_IMAGE),
        (data_uri(PNG.replace(b"IHDR", b"IDAT")), NO_IMAGE),
        (data_uri(GIF[:6]), NO_IMAGE),
        (data_uri(JPEG[:22]), NO_IMAGE),
        (data_uri(b"\xff\xd8" + b"\xff" * 1000), NO_IMAGE),
        (data_uri(b"\xff\xd8\xff\xe0\xff\xff" + JPEG), NO_IMAGE),
        (data_uri(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"), NO_IMAGE),
    ],
)
def test_what_is_no_photo_is_refused(image, rule, rules):
    assert violations(DRAFT, individual(image_encoded=image), rules) == {"$.image_encoded": rule}


@pytest.mark.parametrize("make", [images.png, images.jpeg, images.gif], ids=["png", "jpeg", "gif"])
def test_a_photo_that_unfolds_to_more_than_a_camera_gives_is_refused(make, rules):
    """A PNG of 20,000 by 20,000 pixels fits into 50 KB, and into 1.6 GB for whoever opens it."""
    assert parse(DRAFT, as_text(individual(image_encoded=data_uri(make(5000, 5000)))), rules)
    for width, height in ((5000, 5001), (5001, 5000), (20_000, 20_000), (65_535, 65_535)):
        assert violations(DRAFT, individual(image_encoded=data_uri(make(width, height))), rules) == {
            "$.image_encoded": "must have at most 25000000 pixels"
        }


def test_a_jpeg_is_read_past_whatever_stands_in_front_of_its_frame(rules):
    comment = b"\xff\xfe" + (65_535).to_bytes(2) + b"\xff\xc0" * 32_766 + b"c"
    photo = b"\xff\xd8" + comment + b"\xff\xff\xff" + images.jpeg(9000, 9000)[2:]
    assert violations(DRAFT, individual(image_encoded=data_uri(photo)), rules) == {
        "$.image_encoded": "must have at most 25000000 pixels"
    }


BROKE_OFF = "breaks off: {} is missing at the end; send the whole photo"


def made_by_another_program(**how):
    """A photo of noise, as Pillow writes it."""
    content = io.BytesIO()
    Image.effect_noise((160, 120), 60).convert("RGB").save(content, **how)
    return content.getvalue()


PREVIEW = made_by_another_program(format="JPEG")
OF_ANOTHER_PROGRAM = {
    "JPEG": (made_by_another_program(format="JPEG"), "EOI"),
    "JPEG in several scans": (made_by_another_program(format="JPEG", progressive=True), "EOI"),
    "JPEG with restarts": (made_by_another_program(format="JPEG", restart_marker_blocks=1), "EOI"),
    "JPEG with a preview in it": (made_by_another_program(format="JPEG", exif=b"Exif\0\0" + PREVIEW), "EOI"),
    "PNG": (made_by_another_program(format="PNG"), "IEND"),
    "GIF": (made_by_another_program(format="GIF"), "its trailer"),
}


@pytest.mark.parametrize(("photo", "end"), OF_ANOTHER_PROGRAM.values(), ids=OF_ANOTHER_PROGRAM)
def test_a_photo_that_broke_off_is_refused_wherever_it_did(photo, end):
    assert sniff_image(photo, 10**6)[1] == []
    behind_the_header = photo.rindex(b"\xff\xda") if end == "EOI" else 40
    for size in {len(photo) - 1, len(photo) - 2, *range(behind_the_header, len(photo), 97)}:
        assert sniff_image(photo[:size], 10**6) == (None, [BROKE_OFF.format(end)])
    for size in range(0, behind_the_header, 97):
        assert sniff_image(photo[:size], 10**6)[0] is None


@pytest.mark.parametrize(("photo", "end"), OF_ANOTHER_PROGRAM.values(), ids=OF_ANOTHER_PROGRAM)
def test_what_a_phone_puts_behind_the_end_of_a_photo_is_no_matter(photo, end):
    for more in (b"\0", b"\r\n", PREVIEW, b"\0\0\0\x18ftypmp42" + bytes(5000)):
        assert sniff_image(photo + more, 10**6)[1] == []


def test_the_end_of_a_preview_is_not_the_end_of_its_photo():
    photo, _ = OF_ANOTHER_PROGRAM["JPEG with a preview in it"]
    assert photo.count(b"\xff\xd9") == 2
    assert sniff_image(photo[: photo.index(b"\xff\xd9") + 2], 10**6)[0] is None
    assert sniff_image(photo[:-2], 10**6) == (None, [BROKE_OFF.format("EOI")])


def test_the_end_of_a_photo_may_have_fill_bytes_in_front(rules):
    assert sniff_image(images.jpeg(scan=b"\x7f\xff\0\xff\xd0\x7f\xff\xff\xff"), 10**6)[1] == []


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_base64_with_line_breaks_is_the_same_photo(line_end, rules):
    """RFC 2045 §6.8: lines of 76 characters, as mail programs and `base64` write them."""
    photo = PNG + bytes(500)
    folded = line_end.join(textwrap.wrap(base64.b64encode(photo).decode(), 76)) + line_end
    one, other = (
        only(parse(DRAFT, as_text(individual(image_encoded=uri)), rules))
        for uri in (data_uri(photo), f"data:image/png;base64,{line_end}{folded}")
    )
    assert one == other
    assert "\n" not in other.content["image_encoded"]


def test_line_breaks_do_not_count_for_the_size_of_a_photo(rules):
    limited = replace(rules, max_image_bytes=len(PNG))
    uri = data_uri(PNG).replace(",", ",\r\n") + "\r\n" * 1000
    assert parse(DRAFT, as_text(individual(image_encoded=uri)), limited)


def test_a_draft_has_one_photo_only(rules):
    assert violations(DRAFT, individual(photo={"s3_key": "photos/canary.png"}), rules) == {
        "$.photo": "must be absent when image_encoded is given"
    }


@pytest.mark.parametrize(
    "key",
    [
        "dead-letters/1",
        "photos/",
        "photos//a",
        "photos/a//b",
        "photos/a/../b",
        "photos/..",
        "photos/a/..",
        "../photos/a",
        "photos/Mary Wanjiku.jpg",
        "photos/josé.jpg",
        "photos/IMG(1).jpg",
        "photos/a%20b.jpg",
        "/photos/a",
        "photos/.a",
    ],
)
def test_a_photo_beside_the_message_lies_below_photos(key, rules):
    body = without(individual(), "image_encoded") | {"photo": {"s3_key": key}}

    assert violations(DRAFT, body, rules) == {
        "$.photo.s3_key": "must be a key of the payload bucket: photos/ and a name that may hold letters, digits and "
        ". _ / - only (no blanks, accents or parentheses, no // or ..)"
    }


# --- what bad input gets ----------------------------------------------------------------------------------------------

ONE_LINE = "holds U+000A, a line end; type it without it"
IN_QUOTES = "must be in quotes, for leading zeros count"
ONLY_FOR_GROUPS = "must be absent for an individual loan (one entry in entreps)"
NO_DATE = "must be a date that exists (YYYY-MM-DD)"
LATER = "must be later than the date before it"
UNKNOWN = "is not a field of this kind of message"
NO_CENTS = "must have at most two decimals"


@pytest.mark.parametrize(
    ("changes", "path", "rule"),
    [
        ({"colour": "canary"}, "$.colour", UNKNOWN),
        ({"image_url": "https://media.example.org/canary.jpg"}, "$.image_url", UNKNOWN),
        ({"Jane Canary, born 1980": 1}, "$.(unprintable)", UNKNOWN),
        ({"canary - at large": 1}, "$.(unprintable)", UNKNOWN),
        ({"canary` - at `$.colour` canary": 1}, "$.(unprintable)", UNKNOWN),
        ({"\x01canary - at \x02": 1}, "$.(unprintable)", UNKNOWN),
        ({"reference": "canary/1"}, "$.reference", "must be letters, digits and . _ ~ - only, 100 at most"),
        ({"reference": "c" * 101}, "$.reference", "must be letters, digits and . _ ~ - only, 100 at most"),
        ({"reference": "can\nary"}, "$.reference", ONE_LINE),
        ({"reference": "canary\u200b"}, "$.reference", "holds U+200B ZERO WIDTH SPACE; type it without it"),
        ({"reference": 47110815}, "$.reference", IN_QUOTES),
        ({"reference": 4711.5}, "$.reference", IN_QUOTES),
        ({"activity_id": "canary"}, "$.activity_id", "must be int, got str"),
        ({"activity_id": "61"}, "$.activity_id", "must be int, got str"),
        ({"activity_id": 61.0}, "$.activity_id", "must be int, got decimal"),
        ({"activity_id": True}, "$.activity_id", "must be int, got bool"),
        ({"activity_id": 0}, "$.activity_id", "must be int >= 1"),
        ({"theme_type_id": 2**31}, "$.theme_type_id", "must be int <= 2147483647"),
        ({"description_language_id": -1}, "$.description_language_id", "must be int >= 1"),
        ({"location": "Kisumu\nCanary"}, "$.location", ONE_LINE),
        ({"location": "Kisumu\tCanary"}, "$.location", "holds U+0009, a tab; type it without it"),
        ({"location": "c" * 201}, "$.location", "must be str of length <= 200"),
        ({"currency": "kes"}, "$.currency", "must be a currency code of ISO 4217 (three capital letters)"),
        ({"currency": "K\u200bS"}, "$.currency", "holds U+200B ZERO WIDTH SPACE; type it without it"),
        ({"currency": "K\u0415S"}, "$.currency", "must be a currency code of ISO 4217 (three capital letters)"),
        ({"description": "c" * 20_001}, "$.description", "must be str of length <= 20000"),
        ({"client_waiver_signed": "yes"}, "$.client_waiver_signed", "must be bool, got str"),
        ({"client_waiver_signed": 1}, "$.client_waiver_signed", "must be bool, got int"),
        ({"disburse_time": "2026-02-30"}, "$.disburse_time", NO_DATE),
        ({"disburse_time": "2027-02-29"}, "$.disburse_time", NO_DATE),
        ({"disburse_time": "15.12.2026"}, "$.disburse_time", NO_DATE),
        ({"disburse_time": "20261215"}, "$.disburse_time", NO_DATE),
        ({"disburse_time": "2026-12-15T00:00:00Z"}, "$.disburse_time", NO_DATE),
        ({"disburse_time": 1797292800}, "$.disburse_time", "must be date, got int"),
        ({"entreps": None}, "$.entreps", "is missing"),
        ({"entreps": []}, "$.entreps", "must be array of length >= 1"),
        ({"entreps": {"client_id": "canary"}}, "$.entreps", "must be array, got object"),
        ({"entreps": ["canary"]}, "$.entreps[0]", "must be object, got str"),
        ({"entreps": [entrep(str(n)) for n in range(101)]}, "$.entreps", "must be array of length <= 100"),
        ({"schedule": []}, "$.schedule", "must be array of length >= 1"),
        ({"schedule": [{"date": "2027-01-15"}]}, "$.schedule[0].principal", "is missing"),
        ({"schedule": [{"date": "2027-13-01", "principal": 1}]}, "$.schedule[0].date", NO_DATE),
        ({"schedule": [{"date": "2027-01-15", "principal": -500}]}, "$.schedule[0].principal", "must not be negative"),
        (
            {"schedule": [{"date": "2027-01-15", "principal": 500, "interest": -125}]},
            "$.schedule[0].interest",
            "must not be negative",
        ),
        (
            {"schedule": [{"date": "2027-01-15", "principal": 1}, {"date": "2027-01-15", "principal": 1}]},
            "$.schedule[1].date",
            LATER,
        ),
        (
            {"schedule": [{"date": "2027-01-15", "principal": 1}, {"date": "2026-12-31", "principal": 1}]},
            "$.schedule[1].date",
            LATER,
        ),
        ({"group_name": "No Group"}, "$.group_name", ONLY_FOR_GROUPS),
        ({"internal_client_id": "C-canary"}, "$.internal_client_id", ONLY_FOR_GROUPS),
        ({"internal_loan_id": "L-canary"}, "$.internal_loan_id", ONLY_FOR_GROUPS),
        ({"not_pictured": [False]}, "$.not_pictured", ONLY_FOR_GROUPS),
        ({"photo": "photos/canary.png"}, "$.photo", "must be object, got str"),
        ({"photo": {}}, "$.photo.s3_key", "is missing"),
    ],
)
def test_a_broken_field_of_a_draft_is_named_with_its_rule(changes, path, rule, rules):
    assert violations(DRAFT, individual(**changes), rules) == {path: rule}


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"client_id": None}, "client_id", "is missing"),
        ({"loan_id": " "}, "loan_id", "is missing"),
        ({"first_name": None}, "first_name", "is missing"),
        ({"gender": None}, "gender", "is missing"),
        ({"amount": None}, "amount", "is missing"),
        ({"nickname": "canary"}, "nickname", UNKNOWN),
        ({"loan_id": 7001101}, "loan_id", IN_QUOTES),
        ({"loan_id": "can\x00ary"}, "loan_id", "holds U+0000, a control character; type it without it"),
        ({"loan_id": "can\x7fary"}, "loan_id", "holds U+007F, a control character; type it without it"),
        ({"loan_id": "can\rary"}, "loan_id", ONE_LINE),
        ({"client_id": "c" * 65}, "client_id", "must be str of length <= 64"),
        ({"last_name": "Can\u2028ary"}, "last_name", ONE_LINE),
        ({"gender": "Male"}, "gender", "must be one of female, male, unknown"),
        ({"gender": "canary"}, "gender", "must be one of female, male, unknown"),
        ({"amount": "60000"}, "amount", "must be a number"),
        ({"amount": True}, "amount", "must be a number"),
        ({"amount": [60000]}, "amount", "must be a number"),
        ({"amount": -60000}, "amount", "must not be negative"),
        ({"amount": 0}, "amount", "must be more than 0"),
        ({"amount": 60000.125}, "amount", NO_CENTS),
        ({"amount": 10**12}, "amount", "is too large for an amount"),
    ],
)
def test_a_broken_field_of_a_borrower_is_named_with_its_place_and_rule(changes, field, rule, rules):
    body = group(entreps=[entrep("A"), entrep("B") | changes, entrep("C")])

    assert violations(DRAFT, body, rules) == {f"$.entreps[1].{field}": rule}


@pytest.mark.parametrize("name", ["group_name", "internal_client_id", "internal_loan_id", "not_pictured"])
def test_a_group_needs_each_of_the_group_fields(name, rules):
    assert violations(DRAFT, without(group(), name), rules) == {
        f"$.{name}": "is missing; a group loan (two or more entreps) needs it"
    }


@pytest.mark.parametrize("pictured", [[False], [False, True], [False, True, False, False]])
def test_not_pictured_has_one_value_for_each_borrower(pictured, rules):
    assert violations(DRAFT, group(not_pictured=pictured), rules) == {
        "$.not_pictured": "must have one value for each of the entreps, in their order"
    }


def test_two_borrowers_of_a_group_do_not_share_a_loan_id(rules):
    body = group(entreps=[entrep("A"), entrep("B"), entrep("A", client_id="C-9C")])

    assert violations(DRAFT, body, rules) == {"$.entreps[2].loan_id": "is twice in this message"}


def test_every_broken_rule_of_a_draft_is_named_at_once(rules):
    body = individual(group_name="No Group", not_pictured=[False], entreps=[entrep(gender="F", amount=0)])

    assert violations(DRAFT, body, rules).keys() == {
        "$.group_name",
        "$.not_pictured",
        "$.entreps[0].gender",
        "$.entreps[0].amount",
    }


@pytest.mark.parametrize(
    ("body", "path", "rule"),
    [
        ({"journals": []}, "$.journals", "must be array of length >= 1"),
        ({}, "$.journals", "is missing"),
        ([journal()], "$", "must be object, got array"),
        ({"journals": [without(journal(), "subject")]}, "$.journals[0].subject", "is missing"),
        ({"journals": [without(journal(), "body")]}, "$.journals[0].body", "is missing"),
        ({"journals": [journal(), journal(title="canary")]}, "$.journals[1].title", UNKNOWN),
        ({"journals": [journal(subject="Two\nlines")]}, "$.journals[0].subject", ONE_LINE),
        ({"journals": [journal(subject=["canary"])]}, "$.journals[0].subject", "must be str, got array"),
        ({"journals": [journal(body="c" * 20_001)]}, "$.journals[0].body", "must be str of length <= 20000"),
        ({"journals": [journal(), journal()]}, "$.journals[1].internal_loan_id", "is twice in this message"),
        *(
            ({"journals": [journal(image_url=url)]}, "$.journals[0].image_url", "must be a public https URL")
            for url in (
                "http://media.example.org/canary.jpg",
                "//media.example.org/canary.jpg",
                "https://user:canary@example.org/1.jpg",
                "https://media.example.org",
                "https://media.example.org/a b.jpg",
                "data:image/png;base64,iVBORw0KGgo=",
                "file:///etc/passwd",
            )
        ),
    ],
)
def test_a_broken_journal_is_named_with_its_place_and_rule(body, path, rule, rules):
    assert violations(JOURNALS, body, rules) == {path: rule}


@pytest.mark.parametrize(
    ("body", "path", "rule"),
    [
        (report(repayments=[]), "$.repayments", "must be array of length >= 1"),
        ({"period": "2026-10"}, "$.repayments", "is missing"),
        (report(user_id=4711), "$.user_id", UNKNOWN),
        (report(row("L-1"), row("L-2"), row("L-1", 43000)), "$.repayments[2].loan_id", "is twice in this message"),
        (report(without(row(), "amount")), "$.repayments[0].amount", "is missing"),
        (report(row(amount=None)), "$.repayments[0].amount", "is missing"),
        (report(row(amount=-42000.5)), "$.repayments[0].amount", "must not be negative"),
        (report(row(), row("L-2", 100.125)), "$.repayments[1].amount", NO_CENTS),
        (report(row(currency="KES")), "$.repayments[0].currency", UNKNOWN),
        (report(row(payment_id="p/canary")), "$.repayments[0].payment_id", None),
        *(
            (report(period=period), "$.period", "must be a month (YYYY-MM)")
            for period in ("2026-13", "2026-1", "10/2026", "2026-10-01", "1926-10", "\uff12026-10")
        ),
    ],
)
def test_a_broken_repayment_is_named_with_its_place_and_rule(body, path, rule, rules):
    rule = rule or "must be letters, digits and . _ ~ - only, 100 at most"

    assert violations(REPAYMENTS, body, rules) == {path: rule}


@pytest.mark.parametrize(
    ("number", "path", "rule"),
    [
        ("NaN", "$", "holds NaN, which is not JSON"),
        ("Infinity", "$", "holds Infinity, which is not JSON"),
        ("-Infinity", "$", "holds -Infinity, which is not JSON"),
        ("1e400", "$.repayments[0].amount", "is too large for an amount"),
        ("1e999999999999999999999", "$", "holds a number whose exponent is too large"),
        ("1e-999999999999999999999", "$", "holds a number whose exponent is too large"),
        ("1e-400", "$.repayments[0].amount", NO_CENTS),
        ("0.001", "$.repayments[0].amount", NO_CENTS),
        ("1000000000000", "$.repayments[0].amount", "is too large for an amount"),
        ("1." + "0" * 60 + "1", "$.repayments[0].amount", NO_CENTS),
        ("9" * 19, "$", "holds a whole number of more than 18 digits"),
        ("9" * 100_000, "$", "holds a whole number of more than 18 digits"),
        ("01", "$", "is not JSON (line 1, column 98)"),
        ("0x10", "$", "is not JSON (line 1, column 98)"),
        ("+1", "$", "is not JSON (line 1, column 97)"),
    ],
)
def test_a_number_that_is_no_amount_is_refused(number, path, rule, rules):
    text = report_of(number)

    with pytest.raises(InvalidMessage) as caught:
        parse(REPAYMENTS, text, rules)

    assert [(each.path, each.rule) for each in caught.value.violations] == [(path, rule)]


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "is not JSON (line 1, column 1)"),
        ("canary", "is not JSON (line 1, column 1)"),
        ('{"a": "canary"', "is not JSON (line 1, column 15)"),
        ('{"a": 1} canary', "is not JSON (line 1, column 10)"),
        ('{"a": "can\nary"}', "is not JSON (line 1, column 11)"),
        ("null", "must be object, got null"),
        ('"canary"', "must be object, got str"),
        ("4711", "must be object, got int"),
        ("[4711]", "must be object, got array"),
        ('{"reference": "canary-1", "reference": "canary-2"}', "has the field reference twice"),
        ('{"can ary": 1, "can ary": 2}', "has the field (unprintable) twice"),
        ('{"reference": "\\ud800canary"}', "holds half of a surrogate pair in a text"),
        ('{"\\udc00canary": 1}', "holds half of a surrogate pair in a text"),
        ('{"reference": "\ud800canary"}', "holds half of a surrogate pair in a text"),
        ('{"body": "canary\\ufffe"}', "holds U+FFFE or U+FFFF in a text, which no queue carries"),
        ('{"\uffffcanary": 1}', "holds U+FFFE or U+FFFF in a text, which no queue carries"),
        pytest.param(f"[{'{},' * 100_000}{{}}]", "holds more than 100000 lists and objects", id="too many"),
    ],
)
def test_what_is_no_json_object_is_refused(kind, text, rule, rules):
    with pytest.raises(InvalidMessage) as caught:
        parse(kind, text, rules)

    assert [(each.path, each.rule) for each in caught.value.violations] == [("$", rule)]


INSIDE = as_text(report())
SNS = {"Type": "Notification", "MessageId": "0", "TopicArn": "arn:aws:sns:us-east-1:1:mis", "Message": INSIDE}
POINTER = {"s3BucketName": "mis", "s3Key": "0"}
OUTER_QUOTES = "is JSON written as a text once more; send it without the outer quotes and their backslashes"
EXTENDED = (
    "is a pointer of the SQS extended client; send the message itself, a long list as several messages, "
    "and a large photo through `photo`"
)
IN_BASE64 = "is in base64; send the JSON itself"
IS_XML = "is XML or HTML, and must be JSON"
IS_CSV = "is CSV, and must be JSON; the relay command sends CSV files"


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (
            json.dumps(SNS),
            "is a notification of SNS around a message; turn on raw message delivery for the subscription",
        ),
        (
            json.dumps({"version": "0", "detail-type": "Repayments", "source": "mis", "detail": report()}),
            "is an event of EventBridge around a message; give the rule's target the input path $.detail",
        ),
        (
            json.dumps({"Records": [{"eventSource": "aws:s3", "s3": {}}]}),
            "is an event of AWS with Records (S3, SNS, SQS …); send the message itself",
        ),
        (json.dumps(["software.amazon.payloadoffloading.PayloadS3Pointer", POINTER]), EXTENDED),
        (json.dumps(["com.amazon.sqs.javamessaging.MessageS3Pointer", POINTER]), EXTENDED),
        (json.dumps(INSIDE), OUTER_QUOTES),
        (json.dumps(f"\n {INSIDE}"), OUTER_QUOTES),
        (base64.b64encode(gzip.compress(INSIDE.encode())).decode(), "is gzip in base64; send the JSON itself"),
        (base64.b64encode(INSIDE.encode()).decode(), IN_BASE64),
        (base64.b64encode(json.dumps(report(), indent=1).encode()).decode(), IN_BASE64),
        (quote(INSIDE, safe=""), "is percent-encoded; send the JSON itself"),
        ("loan_id=L-1&amount=5", "is form-encoded, and must be JSON"),
        (urlencode({"message": INSIDE}), "is form-encoded, and must be JSON"),
        ("<draft>canary</draft>", IS_XML),
        ('<?xml version="1.0"?><canary/>', IS_XML),
        ("loan_id,client_id,amount\nL-1,C-1,5", IS_CSV),
        ('"loan_id";"amount"\r\n"L-1";5', IS_CSV),
        ("{'a': 'canary'}", "is written with single quotes; names and texts of JSON have double ones"),
        ("\ufeff{}", "begins with a byte order mark (U+FEFF); send it without"),
    ],
)
def test_what_a_message_is_wrapped_in_or_written_as_is_named_and_what_to_do(kind, text, rule, rules):
    with pytest.raises(InvalidMessage) as caught:
        parse(kind, text, rules)

    assert [(each.path, each.rule) for each in caught.value.violations] == [("$", rule)]


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("depth", [1_500, 5_000, 9_500, 10_000, 60_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"reference":', "}")])
def test_deep_nesting_is_refused(kind, depth, opening, closing, rules):
    with pytest.raises(InvalidMessage) as caught:
        parse(kind, opening * depth + "1" + closing * depth, rules)

    assert str(caught.value) == "$: is nested too deeply"


def test_nesting_that_is_never_closed_is_refused(rules):
    with pytest.raises(InvalidMessage):
        parse(DRAFT, "[" * 10_000, rules)


@pytest.mark.parametrize(
    ("kind", "body", "path", "rule"),
    [
        (DRAFT, report(), "$.repayments", "belongs to a repayment message, but this is the way of loan_draft"),
        (
            DRAFT,
            {"journals": []},
            "$.journals",
            "belongs to a journal_update message, but this is the way of loan_draft",
        ),
        (REPAYMENTS, group(), "$.entreps", "belongs to a loan_draft message, but this is the way of repayment"),
        (JOURNALS, report(), "$.repayments", "belongs to a repayment message, but this is the way of journal_update"),
    ],
)
def test_a_message_that_went_the_way_of_another_kind_is_told_so(kind, body, path, rule, rules):
    assert violations(kind, body, rules) == {path: rule}


def test_a_message_may_have_the_queues_very_size_and_not_a_byte_more(rules):
    text = as_text(report())
    largest = text + " " * (MAX_MESSAGE_BYTES - len(text))

    assert parse(REPAYMENTS, largest, rules)
    with pytest.raises(InvalidMessage) as caught:
        parse(REPAYMENTS, largest + " ", rules)
    assert caught.value.too_large


def test_the_size_of_a_message_counts_in_bytes_and_not_in_letters(rules):
    with pytest.raises(InvalidMessage) as caught:
        parse(JOURNALS, '"' + "ӯ" * (MAX_MESSAGE_BYTES // 2) + '"', rules)

    assert caught.value.too_large


def test_a_message_of_a_mebibyte_is_refused_without_a_look_at_it(rules):
    with pytest.raises(InvalidMessage) as caught:
        parse(DRAFT, "canary" * 2**18, rules)

    assert caught.value.too_large
    assert "canary" not in str(caught.value)


def test_a_message_with_an_inline_photo_may_be_larger_than_a_queue_takes(rules):
    photo = PNG + bytes(2 * MAX_MESSAGE_BYTES)

    message = parse_json(DRAFT, individual(image_encoded=data_uri(photo)), rules)

    assert only(message).content["image_encoded"] == data_uri(photo)


# --- whatever comes -------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    sorted(
        individual().keys()
        | group().keys()
        | entrep().keys()
        | journal().keys()
        | row().keys()
        | {"reference", "period", "journals", "repayments", "payment_id", "photo", "s3_key", "date", "principal"}
    )
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(), inner, max_size=6),
    max_leaves=20,
)


def takes_or_refuses(kind, text):
    """A message or a refusal that can be shown to anybody; any other exception would stop the whole batch."""
    message, refusal = None, InvalidMessage()
    try:
        message = parse(kind, text, RULES)
    except InvalidMessage as error:
        refusal = error
    assert (message is None) is bool(refusal.violations)
    assert str(refusal).isprintable()
    assert all(violation.path.startswith("$") for violation in refusal.violations)
    assert message is None or message.submissions


@given(st.sampled_from(Kind), st.text())
def test_any_text_is_a_message_or_is_refused(kind, text):
    takes_or_refuses(kind, text)


@given(st.sampled_from(Kind), ANYTHING)
def test_any_json_is_a_message_or_is_refused(kind, value):
    takes_or_refuses(kind, json.dumps(value))


@st.composite
def nearly_valid(draw):
    """A kind, and a valid message of it with anything in the place of one of its parts."""
    kind, body = draw(
        st.sampled_from(
            [
                (DRAFT, individual()),
                (DRAFT, group()),
                (JOURNALS, {"reference": "visit", "journals": [journal("L-1"), journal("L-2")]}),
                (REPAYMENTS, report(row("L-1", payment_id="p-1"), row("L-2"))),
            ]
        )
    )
    return kind, json.dumps(replaced(body, draw(st.sampled_from(list(places(body)))), draw(ANYTHING)))


def places(value, here=()) -> Iterator[tuple]:
    """The path to every part of a JSON value."""
    if here:
        yield here
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*here, key))


def replaced(value, place, by):
    if not place:
        return by
    changed = value.copy()
    changed[place[0]] = replaced(value[place[0]], place[1:], by)
    return changed


@given(st.from_regex(r"\A-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,25})?\Z"))
def test_any_number_is_an_amount_or_is_refused(number):
    takes_or_refuses(REPAYMENTS, report_of(number))


@given(nearly_valid())
def test_a_valid_message_with_anything_in_one_place_is_a_message_or_is_refused(kind_and_text):
    takes_or_refuses(*kind_and_text)


@given(nearly_valid())
def test_what_was_taken_is_taken_again_as_the_same(kind_and_text):
    """A message queued by the API is read a second time, by the queue's consumer."""
    kind, text = kind_and_text
    try:
        message = parse(kind, text, RULES)
    except InvalidMessage:
        return
    assert parse(kind, encode(decode(text)).decode(), RULES) == message
