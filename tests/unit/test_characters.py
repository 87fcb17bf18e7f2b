"""What ids, names and texts may hold, by Unicode's own data, and by another program: the package `idna`."""

import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from idna.core import valid_contextj

from kiva_partner.characters import in_id, in_name, in_text, normal, refusal

EVERY = [
    chr(it)
    for it in (*range(0xD800), *range(0xE000, 0x20000), *range(0xE0000, 0xE1000), 0xF0000, 0x10FFFD, sys.maxunicode)
]
"""But for the planes of Han, and most of those of private use."""

IGNORABLE = [
    chr(it)
    for first, last in (
        *((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
        *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF)),
        *((0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
    )
    for it in range(first, last + 1)
]
"""Default_Ignorable_Code_Point, by DerivedCoreProperties.txt: what is shown as nothing."""


def category(*names):
    return [it for it in EVERY if unicodedata.category(it) in names]


# --- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unseen", [IGNORABLE, category("Cc", "Cf", "Co", "Cn"), ["\ufffd", "\u2800"]])
def test_an_id_holds_nothing_that_is_not_seen(unseen):
    # ASCII's own control characters are refused by the pattern of an id.
    assert [ascii(it) for it in unseen if it > "\x7f" and in_id(f"L{it}1") != it] == []


def test_an_id_knows_one_blank():
    assert in_id("L 1") is None
    assert [ascii(it) for it in category("Zs") if it != " " and in_id(f"L{it}1") != it] == []


def test_an_id_may_be_of_any_script():
    seen = category(
        "Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Po", "Sm", "Sc", "Sk", "So"
    )
    ignorable = {*IGNORABLE, "\ufffd", "\u2800"}
    assert [ascii(it) for it in seen if it not in ignorable and in_id(f"L{it}1")] == []
    assert in_id("Кредит №7 क्षेत्र") is None


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "Nguyễn Thị Ánh",
        "O\u2019Brien",
        "Mary\u00a0Wanjiku",
        "王\u3000芳",
        "\u0627\u0645\u06cc\u0631\u0639\u0644\u06cc",
        "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",  # Persian: Ali-Reza
        "\u0641\u0627\u0637\u0645\u0647\u200c\u0632\u0647\u0631\u0627",  # Persian: Fatemeh-Zahra
        "\u0dc1\u0dca\u200d\u0dbb\u0dd3",  # Sinhala: Sri
        "\u0d05\u0d28\u0d4d\u200d",  # Malayalam: a chillu in its old spelling
        "\u0930\u093e\u091c\u0940\u0935 \u0936\u0930\u094d\u200d\u092e\u093e",  # Devanagari
        "\u0995\u09cd\u200c\u09b7",  # Bengali
    ],
)
def test_a_name_is_written_as_its_script_is(name):
    assert in_name(name) is None


@pytest.mark.parametrize(
    ("name", "unseen"),
    [
        ("\u200b", "\u200b"),
        ("Adhi\u202eambo", "\u202e"),
        ("Mary\u200e", "\u200e"),
        ("\u2066Mary\u2069", "\u2066"),
        ("Ad\ufffdn", "\ufffd"),
        ("Ma\u00adry", "\u00ad"),
        ("\u3164", "\u3164"),
        ("\u115f\u1160", "\u115f"),
        ("\u2800", "\u2800"),
        ("Mary\U000e0041", "\U000e0041"),
        ("\uf8ff", "\uf8ff"),
        ("Tumaini \u2764\ufe0f", "\ufe0f"),
        ("\U0001f469\u200d\U0001f33e", "\u200d"),
        ("\u200c\u0639\u0644\u06cc", "\u200c"),
        ("\u0639\u0644\u06cc\u200c", "\u200c"),
        ("\u0627\u0645\u06cc\u0631\u200c\u0639\u0644\u06cc", "\u200c"),  # reh does not join anyway
        ("\u0639\u200d\u0644", "\u200d"),
    ],
    ids=ascii,
)
def test_what_a_name_holds_unseen_is_refused(name, unseen):
    assert in_name(name) == unseen


def test_a_name_holds_nothing_ignorable_but_the_two_joiners():
    unseen = {*IGNORABLE, *category("Cf", "Co")} - {it for it in IGNORABLE if unicodedata.category(it) == "Cn"}
    assert [ascii(it) for it in sorted(unseen) if in_name(f"Ma{it}ry") != it] == []


def test_a_letter_that_is_younger_than_this_python_may_be_in_a_name():
    assert in_name("\U00011bc0") is None  # Sunuwar, of Nepal, since Unicode 16


ARABIC = [it for it in map(chr, (*range(0x600, 0x700), *range(0x750, 0x780))) if it != "\u0640"]
OTHERS = "a1 \u200c\u200d\u0640\u0300\u094d\u0dca\u0d4d\u0915\u103a"


def first_out_of_place(text):
    """The first joiner that RFC 5892, Appendix A.1 and A.2, does not allow, as `idna` reads it."""
    return next((it for at, it in enumerate(text) if it in "\u200c\u200d" and not contextj(text, at)), None)


def contextj(text, at):
    try:
        return valid_contextj(text, at)
    except ValueError:  # it wants a name for the character before a joiner
        return False


def test_each_arabic_letter_joins_as_unicode_says():
    for letter in (it for it in ARABIC if unicodedata.category(it) in ("Lo", "Lm", "Mn", "Nd", "Po")):
        for name in (f"\u0628\u200c{letter}", f"{letter}\u200c\u0628", f"\u0628{letter}\u200c{letter}\u0628"):
            assert in_name(name) == first_out_of_place(name), ascii(name)


@given(
    st.text(st.sampled_from([*OTHERS, *(it for it in ARABIC if unicodedata.category(it) in ("Lo", "Mn"))]), max_size=7)
)
@example("\u0628\u064e\u200c\u064e\u0628")
@example("\u094d\u200d")
@example("\u0915\u200d")
def test_joiners_stand_in_names_where_rfc_5892_lets_them(name):
    assert in_name(name) == first_out_of_place(name)


# --- texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "One\n\tTwo",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f",
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",  # the flag of Scotland
        "\u1e9e\u202f!",
        "\uf0b7 a bullet of Word",
        "\u2067\u05e9\u05dc\u05d5\u05dd\u2069 \u200f(",
        "\u1780\u200b\u1781",  # Khmer has no blanks between words
        "soft\u00adhyphen",
        "\U0001fae9",  # an emoji of Unicode 16
    ],
    ids=ascii,
)
def test_a_text_keeps_what_people_write(text):
    assert in_text(text) is None


@pytest.mark.parametrize("unseen", [*"\0\x08\x0e\x1b\x7f\x80\x9f", "\ufffd", "\ufeff", "\u202d", "\u202e"], ids=ascii)
def test_a_text_holds_no_control_no_lost_letter_and_nothing_that_turns_it_round(unseen):
    assert in_text(f"One {unseen} two") == unseen


# --- the normal form --------------------------------------------------------------------------------------------------


@given(
    st.text(st.one_of(st.sampled_from("\r\n\v\f\x85\u2028\u2029 \u00a0\u2000\u0301e"), st.characters(codec="utf-8")))
)
def test_a_text_in_its_normal_form_stays_as_it_is(text):
    once = normal(text)
    assert normal(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once == once.strip()
    assert not {*"\r\v\f\x85\u2028\u2029"} & {*once}


@pytest.mark.parametrize(
    ("character", "words"),
    [
        ("\u200b", "holds U+200B ZERO WIDTH SPACE; type it without it"),
        ("\n", "holds U+000A, a line end; type it without it"),
        ("\t", "holds U+0009, a tab; type it without it"),
        ("\x1b", "holds U+001B, a control character; type it without it"),
        ("\ue000", "holds U+E000, of private use; type it without it"),
        ("\U000e0fff", "holds U+E0FFF, which Unicode has not assigned; type it without it"),
        ("\U000e0001", "holds U+E0001 LANGUAGE TAG; type it without it"),
    ],
    ids=ascii,
)
def test_a_character_that_nobody_sees_is_named(character, words):
    assert refusal(character) == words


def test_every_character_that_is_refused_has_words():
    for character in EVERY:
        if in_id(character) or in_name(character) or in_text(character):
            assert refusal(character).isprintable()
