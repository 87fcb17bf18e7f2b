"""JSON from outside, read strictly, and JSON to Kiva, written in one canonical form."""

import json
import re
import unicodedata
from collections import Counter
from decimal import Decimal, InvalidOperation

import msgspec

from .characters import normal
from .envelopes import instead_of_json
from .errors import InvalidMessage, Violation

MAX_DIGITS = 18
"""Of a whole number. Longer ones cost quadratic time to convert, and nothing here needs them."""

MAX_PARTS = 100_000
"""Lists and objects in a document: twenty times as many as the longest report of repayments has. Each takes 64 bytes at
least where its text takes three."""

MAX_COMBINING = 30
"""In a row (UAX #15 §12, "Stream-Safe Text Format"). Putting a run of them into order takes quadratic time: a message
full of them would hold a function for minutes."""


def encode(content: object) -> bytes:
    """Canonical JSON, in UTF-8: names sorted, amounts as numbers with the digits they came with."""
    return _ENCODER.encode(content)


_ENCODER = msgspec.json.Encoder(decimal_format="number", order="deterministic", enc_hook=Decimal)


def decode(body: str) -> object:
    """JSON as RFC 8259 has it, and stricter: no duplicate names, no NaN or Infinity, numbers with a point as Decimal.

    Texts are in their one form (`characters.normal`), and empty fields are left out: Kiva refuses some of them (`""`),
    and an empty field says nothing.

    Raises:
        InvalidMessage: for anything else.
    """
    if body.count("{") + body.count("[") > MAX_PARTS:
        raise InvalidMessage(Violation("$", f"holds more than {MAX_PARTS} lists and objects"))
    try:
        document = json.loads(
            body, object_pairs_hook=_unique_names, parse_float=Decimal, parse_int=_int, parse_constant=_no_constant
        )
        return _tidy(document)
    except RecursionError:  # of the decoder, or of `_tidy`, which cannot follow as deep
        raise InvalidMessage(Violation("$", "is nested too deeply")) from None
    except InvalidOperation:
        raise InvalidMessage(Violation("$", "holds a number whose exponent is too large")) from None
    except ValueError as error:  # json.JSONDecodeError is one; its text holds a position but no content
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidMessage(Violation("$", instead_of_json(body) or f"is not JSON{where}")) from None


def _unique_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise InvalidMessage(Violation("$", f"has the field {shown_name(twice)} twice"))
    return result


def _int(digits: str) -> int:
    # Longer ones cost quadratic time to convert, and nothing here needs them.
    if len(digits) > MAX_DIGITS:
        raise InvalidMessage(Violation("$", f"holds a whole number of more than {MAX_DIGITS} digits"))
    return int(digits)


def _no_constant(name: str) -> object:
    raise InvalidMessage(Violation("$", f"holds {name}, which is not JSON"))


def _tidy(value: object) -> object:
    match value:
        case str():
            return normal(value if value.isascii() else _carried(value))
        case dict():
            # No name becomes another one: two fields would be one.
            tidy = {name if name.isascii() else _carried(name): _tidy(item) for name, item in value.items()}
            return {name: item for name, item in tidy.items() if item is not None and item != ""}
        case list():
            return [_tidy(item) for item in value]
    return value


def _carried(text: str) -> str:
    """The text, if a queue carries it and it can be put into a normal form in time."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidMessage(Violation("$", "holds half of a surrogate pair in a text")) from None
    if "\ufffe" in text or "\uffff" in text:
        raise InvalidMessage(Violation("$", "holds U+FFFE or U+FFFF in a text, which no queue carries"))
    _limit_combining(text)
    return text


# No letter of a Latin script is among these, so that of most texts nothing has to be looked at one by one. Said by what
# they are not, for a class of a million characters takes 30 million instructions to compile.
_MAY_COMBINE = re.compile(rf"[^\x00-\u02ff]{{{MAX_COMBINING + 1}}}")
# They count as none, and fall apart into two.
_TWO_IN_ONE = frozenset("\u0344\u0f73\u0f75\u0f81")


def _limit_combining(text: str) -> None:
    if not _MAY_COMBINE.search(text):
        return
    run = 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) or character in _TWO_IN_ONE else 0
        if run > MAX_COMBINING:
            rule = f"holds a text with more than {MAX_COMBINING} combining characters in a row"
            raise InvalidMessage(Violation("$", rule))


def shown_name(name: str) -> str:
    """A field's name came from the sender: shown when it is one, hidden when it could be anything else."""
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,40}", name) else "(unprintable)"
