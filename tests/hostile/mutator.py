"""Bodies as an enemy, or a broken program, would send them: real messages, changed in structure, in text and in bytes.

Each is made from its own number alone, so that any of them can be made again.
"""

import copy
import json
import random
from pathlib import Path

from images import data_uri, gif, jpeg, png
from kiva_partner.messages import Kind

MARKER = "Zq~secret 7"
"""Planted as a value. No field can be called so, hence wherever it shows, a value was shown."""

RAW = "@raw {}@"

NUMBERS = [
    *(
        "0",
        "-0",
        "-1",
        "1e400",
        "-1e400",
        "1E-999999",
        "1e999999999999999999999",
        "0.1e-7",
        "1.005",
        "0.30",
        "01",
        "+1",
    ),
    *("9" * digits for digits in (12, 18, 19, 400, 5000)),
    *("NaN", "Infinity", "-Infinity", "1_000", "0x10", "1.", ".5", "1e", "9007199254740993", "1." + "0" * 5000),
]
TEXTS = [
    "",
    " ",
    "\t\n\r\v\f",
    "\0",
    "a\0b",
    "\ud800",
    "\udfff\ud800",
    "a\r\nX-Injected: 1",
    "\x1b[31mred\x1b[0m",
    "a\u2028b\u2029c\u0085d",
    "\u202eevil\u202c\u2066\u200f",
    "\ufeffbom",
    "\u0661\u0662\u0663",
    "\uff11\uff12",
    "e" + "\u0301" * 30,
    "e" + "\u0301" * 31,
    "\u0f73" * 40,
    "\u1e9b\u0323\ufb01",
    "\U0001f469\u200d\U0001f467",
    "x" * 64,
    "x" * 65,
    "y" * 201,
    "z" * 30_000,
    "../../etc/passwd",
    "%00%2e%2e%2f",
    "${jndi:ldap://x}",
    "'; DROP TABLE loans;--",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "=cmd|' /C calc'!A0",
    "2026-13-45",
    "2026-02-30",
    "0000-00-00",
    "2026-10\n",
    "http://169.254.169.254/latest/meta-data/",
    "javascript:alert(1)",
    "photos/../x",
    "photos//x",
    "photos/a.png",
    "data:image/png;base64,",
    "data:image/png;base64,A",
    "data:image/png;base64,AAAA====",
    "data:image/png;base64,%41%41",
    "data:image/png,plain",
    "data:text/html;base64,AAAA",
    "data:image/svg+xml;base64,PHN2Zz4=",
    "data:image/" + "a" * 500 + ";base64,AAAA",
    data_uri(png(1, 1)),
    data_uri(png(65_535, 65_535)),
    data_uri(png()[:20]),
    data_uri(jpeg(9, 9), "image/gif"),
    data_uri(b"\xff\xd8" + b"\xff" * 5000),
    data_uri(b"\xff\xd8\xff\xe0\0\0" * 500),
    data_uri(gif(65_535, 65_535)),
    data_uri(b"GIF89a"),
    data_uri(b"BM" + b"\0" * 60),
]
NAMES = ["__proto__", "constructor", "", " ", "\0", "a\r\nb", "\x1b[2J", "\u202e", "x" * 5000, "e\u0301", "$", "a.b[0]"]
OTHERS = [None, True, False, 0, 1, -1, 0.1, "", "0", "true", [], {}, [[]], [{}], {"a": 1}, {"": None}, [None]]
SNIPPETS = [
    *(b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xef\xbb\xbf", b"\0", b"\x1b", b"\n"),
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\\u0000", b"\\ud83d", b"\\u12", b"/*x*/", b"'"),
]


def real_messages():
    """What the events of the repository hold, but for what is no JSON: (kind, document)."""
    found = []
    for path in sorted(Path("events/sqs").glob("*.json")) + sorted(Path("events/api").glob("*.json")):
        kind = next((kind for name, kind in _KINDS.items() if path.name.startswith(name)), None)
        if kind:
            event = json.loads(path.read_text())
            bodies = [each["body"] for each in event.get("Records", [event])]
            found += [(kind, json.loads(body)) for body in bodies if body.startswith("{")]
    return found


_KINDS = {"loan_draft": Kind.LOAN_DRAFT, "journal_updates": Kind.JOURNAL_UPDATE, "repayments": Kind.REPAYMENT}


class Mutator:
    """Makes the body of a number: kind and bytes."""

    def __init__(self, seed):
        self._seed = seed
        self._real = real_messages()

    def body(self, number):
        chance = random.Random(f"{self._seed}:{number}")  # noqa: S311 to be made again, not to be secret
        kind, document = chance.choice(self._real)
        document = copy.deepcopy(document)
        if chance.random() < 0.3:
            _plant(chance, document)
        raw = {}
        for _ in range(chance.choice((0, 0, 1, 1, 1, 2))):
            document = chance.choice(_STRUCTURAL)(chance, document, raw)
        text = json.dumps(document, ensure_ascii=chance.random() < 0.5)
        for placeholder, replacement in raw.items():
            text = text.replace(json.dumps(placeholder), replacement)
        body = text.encode("utf-8", "surrogatepass")
        for _ in range(chance.choice((0, 0, 0, 0, 1, 2))):
            body = chance.choice(_BYTEWISE)(chance, body, self._real)
        return chance.choice(list(Kind)) if chance.random() < 0.03 else kind, body


# --- in structure -----------------------------------------------------------------------------------------------------


def _places(value):
    """Every container with every key of it."""
    stack, found = [value], []
    while stack:
        container = stack.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, each in items:
            found.append((container, key))
            if isinstance(each, dict | list):
                stack.append(each)
    return found


def _place(chance, document):
    places = _places(document) if isinstance(document, dict | list) else []
    return chance.choice(places) if places else None


def _plant(chance, document):
    texts = [place for place in _places(document) if isinstance(place[0][place[1]], str)]
    container, key = chance.choice(texts)
    container[key] = chance.choice((MARKER, f"{container[key]}{MARKER}", f"{MARKER}\n"))


def _put(chance, document, value):
    if place := _place(chance, document):
        container, key = place
        container[key] = value
        return document
    return value


def _other_type(chance, document, raw):
    return _put(chance, document, copy.deepcopy(chance.choice(OTHERS)))


def _hostile_text(chance, document, raw):
    text = chance.choice(TEXTS)
    return _put(chance, document, text + MARKER if chance.random() < 0.2 else text)


def _photo(chance, document, raw):
    if isinstance(document, dict):
        text = chance.choice([text for text in TEXTS if text.startswith(("data:", "photos"))])
        document[chance.choice(("image_encoded", "image_encoded", "photo"))] = chance.choice((text, {"s3_key": text}))
    return document


def _number(chance, document, raw):
    raw[RAW.format(len(raw))] = chance.choice(NUMBERS)
    return _put(chance, document, list(raw)[-1])


def _nested(chance, document, raw):
    depth = chance.choice((2, 50, 500, 3000, 20_000))
    opening, closing = chance.choice((("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")))
    raw[RAW.format(len(raw))] = opening * depth + "1" + closing * chance.choice((depth, depth - 1, 0))
    return _put(chance, document, list(raw)[-1])


def _unknown_field(chance, document, raw):
    place = _place(chance, document)
    if place and isinstance(place[0], dict):
        place[0][chance.choice(NAMES)] = chance.choice((MARKER, 1, None, {}))
    return document


def _renamed(chance, document, raw):
    place = _place(chance, document)
    if place and isinstance(place[0], dict):
        container, key = place
        name = chance.choice((str(key).upper(), f"{key} ", f"{key}\0", str(key).replace("a", "\u0430"), f"\ufeff{key}"))
        container[name] = container.pop(key)
    return document


def _dropped(chance, document, raw):
    if place := _place(chance, document):
        del place[0][place[1]]
    return document


def _rows_twice(chance, document, raw):
    lists = [place for place in _places(document) if isinstance(place[0][place[1]], list)] if document else []
    if lists:
        container, key = chance.choice(lists)
        container[key] = container[key] * chance.choice((2, 3, 120))
    return document


def _moved(chance, document, raw):
    """A part of it in another place of it."""
    source = _place(chance, document)
    return _put(chance, document, copy.deepcopy(source[0][source[1]])) if source else document


_STRUCTURAL = [
    *(_other_type, _hostile_text, _hostile_text, _photo, _number, _nested, _unknown_field, _renamed, _dropped),
    *(_rows_twice, _moved),
]


# --- in bytes ---------------------------------------------------------------------------------------------------------


def _flipped(chance, body, real):
    changed = bytearray(body)
    for _ in range(min(len(body), chance.choice((1, 1, 2, 8)))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(chance, body, real):
    return body[: chance.randrange(len(body) + 1)]


def _cut_in_front(chance, body, real):
    return body[chance.randrange(len(body) + 1) :]


def _spliced(chance, body, real):
    other = json.dumps(chance.choice(real)[1]).encode()
    return body[: chance.randrange(len(body) + 1)] + other[chance.randrange(len(other)) :]


def _inserted(chance, body, real):
    at = chance.randrange(len(body) + 1)
    return body[:at] + chance.choice(SNIPPETS) * chance.choice((1, 1, 2, 500)) + body[at:]


def _field_twice(chance, body, real):
    """The beginning of an object once more: its first field, or its whole."""
    start = body.find(b"{", chance.randrange(len(body) + 1))
    end = body.find(b",", start)
    return body[: end + 1] + body[start + 1 : end + 1] + body[end + 1 :] if 0 <= start < end else body


def _wrapped(chance, body, real):
    before, after = chance.choice([(b"\xef\xbb\xbf", b""), (b" \n", b"\t"), (b"[", b"]"), (b"", b"\0"), (b"", body)])
    return before + body + after


def _other_charset(chance, body, real):
    return body.decode("utf-8", "replace").encode(chance.choice(("utf-16", "utf-32", "utf-7")))


_BYTEWISE = [
    *(_flipped, _flipped, _cut, _cut_in_front, _spliced, _inserted, _inserted, _field_twice, _field_twice, _wrapped),
    _other_charset,
]
