"""Kiva's wording, made fit for logs and the ledger: it may quote what it was told, in part, and written in any way.

Looking for what was told would need every way of writing it. So each word has to be a plain one to be shown, and none
of those that the message holds where it speaks of people.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

HIDDEN = "•••"

SHOWN_CHARACTERS = 256

_TEXT_FIELDS = frozenset(
    {"first_name", "last_name", "group_name", "description", "loanuse", "location", "subject", "body", "image_url"}
)

_PART = r"""(?sx)
    (?P<hidden> data:\S+ | [A-Za-z0-9+/=_-]{48,}                          # a photo, whole or in part; a key
      | \\{1,8} (?: u[0-9A-Fa-f]{4} | x[0-9A-Fa-f]{2} | [A-Za-z0-9] )     # what JSON, Python,
      | % [0-9A-Fa-f]{2} | & \#? \w{1,8} ; )                              # URLs and HTML make of other characters
  | (?P<shown> \b [0-9A-Fa-f]{8} (?: -[0-9A-Fa-f]{4} ){3} -[0-9A-Fa-f]{12} \b   # Kiva's own id of something
      | [ .,:;!?'"()[\]/\#%&+=@$_-] )
  | (?P<word> [^\W_]+ )
  | .
"""
"""Compiled when a first wording is read, not when a function starts."""

_PLAIN = "[A-Z]?[a-z]{1,20}|[A-Z]{1,20}|[a-z]{1,20}(?:[A-Z][a-z]{1,20}){1,3}|[0-9]{1,9}"
"""Anything else may be one of base64, hex, or a character that was decoded wrongly."""

_COMMON = frozenset(
    """
    a above account activity all allowed already amount an and another any api archive are as at base64 be been
    before below both but by can cannot character characters client code contain contains could currency data date
    dates day days description does draft duplicate each either empty encoded entrep entreps equal error every
    exceed exceeds exist exists expected failed few field fields file first for format found from gender gif given
    greater group has have https id if image in individual internal into invalid is it item items its journal
    journals jpeg jpg json kiva known language last least length less list loan loans loanuse locale location long
    longer match maximum member members message minimum missing month months more most must name names no not null
    number of on one only or other out over pa2 paid partner pay payment per period permitted photo pictured png
    present price problem reason record repayment repayments report request required row rows same schedule short
    should some string subject such supported text than that the their them theme there these they this times to
    token too two type unknown unsupported until up update upload uri url use used uuid valid value values waiver
    warning was were when which while with within without wrong year years you your
    """.split()  # noqa: SIM905 as a list, it would be longer than all the rest
)
"""Words of Kiva's messages and of any text. Who reads them has learned nothing of the people of a message."""


def masked(text: str, contents: Iterable[Any]) -> str:
    """Kiva's wording as it may be shown, beside contents that it may quote: on one line, 256 characters at most.

    The client cuts wordings; one of a megabyte could hold a function for minutes here, as in `strict_json`.
    """
    told = _Told(contents)
    parts = (_shown(part, told) for part in re.finditer(_PART, unicodedata.normalize("NFC", text)))
    return re.sub(rf"{HIDDEN}(?:[\W_]*{HIDDEN})+", HIDDEN, "".join(parts))[:SHOWN_CHARACTERS]


class _Told:
    """The words that contents hold where they speak of people. Also a beginning or an end of one is in it."""

    def __init__(self, contents: Iterable[Any]) -> None:
        texts = " ".join(_personal(contents)).casefold()
        self._words = f" {' '.join(re.findall(r'[^\W_]+', texts))} "
        self._together = self._words.replace(" ", "")

    def __contains__(self, word: str) -> bool:
        folded = word.casefold()
        if folded in _COMMON:
            return False
        if len(folded) < 4:  # noqa: PLR2004 shorter ones are parts of many
            return f" {folded} " in self._words
        if folded.isdecimal():  # a phone number may have been written in groups
            return folded in self._together
        return f" {folded}" in self._words or f"{folded} " in self._words


def _shown(part: re.Match[str], told: _Told) -> str:
    match part.lastgroup:
        case "shown":
            return part[0]
        case "word":
            plain = part[0].casefold() in _COMMON or re.fullmatch(_PLAIN, part[0])
            pieces = re.findall("[A-Z]?[a-z]+|[A-Z]+|[0-9]+", part[0])
            return part[0] if plain and not any(piece in told for piece in (part[0], *pieces)) else HIDDEN
        case "hidden":
            return HIDDEN
    return "?"


def _personal(value: object, name: str = "") -> Iterator[str]:
    match value:
        case dict():
            for key, each in value.items():
                yield from _personal(each, key)
        case str():
            if name in _TEXT_FIELDS:
                yield value
        case _ if isinstance(value, Iterable):
            for each in value:
                yield from _personal(each, name)
