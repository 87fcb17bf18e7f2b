"""Texts in one form, and the characters in them that nobody sees.

Two ids that look the same must be the same: else one loan has six drafts. What a text can do without is taken off
(`normal`), and what changes it unseen is refused: in ids and references all of it, in names what no script needs, in
texts what no text needs. Sources: UAX #14 "Unicode Line Breaking Algorithm", UAX #15 "Unicode Normalization Forms",
UAX #44 (General_Category, Default_Ignorable_Code_Point), RFC 5892 Appendix A.1 and A.2 (CONTEXTJ).
"""

import unicodedata
from collections.abc import Callable, Iterable

Form = Callable[[str], str | None]
"""What a field is: `in_id`, `in_name` or `in_text`. Each gives the first character that such a field must not hold."""

_LINE_ENDS = ("\r\n", "\r", "\v", "\f", "\x85", "\u2028", "\u2029")
"""Mandatory breaks (UAX #14, classes BK, CR, NL), but for LF itself."""

_DISGUISED = frozenset(
    map(
        chr,
        (
            # Default_Ignorable_Code_Point without a category that tells: joiner, fillers, vowels, selectors, reserved.
            *(0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2065, 0x3164, 0xFFA0),
            *range(0xFE00, 0xFE10),
            *range(0xFFF0, 0xFFF9),
            *range(0xE0100, 0xE01F0),
            0x2800,  # BRAILLE PATTERN BLANK
            0xFFFD,  # REPLACEMENT CHARACTER: what stood here is lost
        ),
    )
)
_NO_NAME = frozenset(("Cc", "Cf", "Co"))
_NO_ID = frozenset(("Cc", "Cf", "Cn", "Co", "Zs"))
# An override turns round what follows it, a mark of byte order in the middle is a leftover of joined files.
_NO_TEXT = frozenset(map(chr, (*range(9), *range(11, 32), *range(127, 160), 0x202D, 0x202E, 0xFEFF, 0xFFFD)))

_VIRAMA = 9
"""Canonical combining class."""
# Of the blocks Arabic and Arabic Supplement: letters that join with the one before alone, and letters that never join.
_JOINS_BEFORE = frozenset(
    map(
        chr,
        (
            *(0x627, 0x629, 0x648, 0x675, 0x676, 0x677, 0x6C0, 0x6CD, 0x6CF, 0x6D2, 0x6D3, 0x6D5, 0x6EE, 0x6EF),
            *range(0x622, 0x626),
            *range(0x62F, 0x633),
            *range(0x671, 0x674),
            *range(0x688, 0x69A),
            *range(0x6C3, 0x6CC),
            *(0x759, 0x75A, 0x75B, 0x76B, 0x76C, 0x771, 0x773, 0x774, 0x778, 0x779),
        ),
    )
)
_NEVER_JOINS = frozenset("\u0621\u0640\u0674\u06e5\u06e6")


def normal(text: str) -> str:
    """The text with lines that end in LF, in Unicode's form NFC, and without blanks at its ends."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    elif not ("\r" in text or "\v" in text or "\f" in text):  # nearly all are like this
        return text.strip()
    for end in _LINE_ENDS:
        text = text.replace(end, "\n")
    return text.strip()


def in_id(text: str) -> str | None:
    """Of an id or a reference: only what is seen, and of blanks only the plain one.

    No unassigned characters either: a later Unicode may compose them, and the id would be another one.
    """
    if text.isascii() or (text.isprintable() and _DISGUISED.isdisjoint(text)):
        return None
    return next(
        (it for it in text if it in _DISGUISED or (it != " " and unicodedata.category(it) in _NO_ID)),
        None,
    )


def in_name(text: str) -> str | None:
    """Of a name of a person, a group or a place: what is seen, blanks, and joiners where their script needs them."""
    if text.isascii() or (text.isprintable() and _DISGUISED.isdisjoint(text)):
        return None
    return next(
        (
            it
            for at, it in enumerate(text)
            if it in _DISGUISED or (unicodedata.category(it) in _NO_NAME and not _is_needed(text, at))
        ),
        None,
    )


def in_text(text: str) -> str | None:
    """Of a text of one line or more: what people write, emoji and marks of direction included."""
    if text.replace("\n", "").replace("\t", "").isprintable() and "\ufffd" not in text:
        return None
    return next(filter(_NO_TEXT.__contains__, text), None)


def refusal(character: str) -> str:
    """The rule that this character breaks, for who sent it: it names the character, which nobody can see."""
    if character == "\ufffd":
        return (
            "holds U+FFFD REPLACEMENT CHARACTER: a letter was lost on the way; send it anew from its source, as UTF-8"
        )
    name = unicodedata.name(character, "")
    what = (
        f" {name}"
        if name
        else f", {_WITHOUT_A_NAME.get(character) or _WITHOUT_A_NAME[unicodedata.category(character)]}"
    )
    return f"holds U+{ord(character):04X}{what}; type it without it"


_WITHOUT_A_NAME = {
    "\n": "a line end",
    "\t": "a tab",
    "Cc": "a control character",
    "Cn": "which Unicode has not assigned",
    "Co": "of private use",
}


def _is_needed(text: str, at: int) -> bool:
    """Whether a joiner stands where CONTEXTJ allows it. Of scripts that join, Arabic alone is known here."""
    before, joiner, after = text[:at], text[at], text[at + 1 :]
    if joiner not in "\u200c\u200d":
        return False
    if before and unicodedata.combining(before[-1]) == _VIRAMA:
        return True
    return joiner == "\u200c" and _joining(reversed(before)) == "D" and _joining(after) in ("D", "R")


def _joining(characters: Iterable[str]) -> str:
    """Joining_Type of the first letter: D joins on both sides, R with the one before alone, U is any other."""
    letter = next((it for it in characters if unicodedata.category(it) != "Mn"), "")
    if not ("\u0600" <= letter <= "\u06ff" or "\u0750" <= letter <= "\u077f") or letter in _NEVER_JOINS:
        return "U"
    if letter in _JOINS_BEFORE:
        return "R"
    return "D" if unicodedata.category(letter) == "Lo" else "U"
