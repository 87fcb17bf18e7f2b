"""What must be seen nowhere but at Kiva, in messages and in the bucket: planted values, and what finds them again.

Each is unmistakable, and holds what encodings change. What is searched is decoded first, in every way in which people
and libraries write a text into another one; so a value is found plain, encoded, and in part.
"""

import base64
import html
import json
import re
import string
import unicodedata
from collections import defaultdict
from urllib.parse import unquote, unquote_plus

from images import png
from kiva_partner.messages import Kind

CLIENT_ID = 'Partner&App+77=/é"Kd31'
CLIENT_SECRET = 'sEcr&t+Qz=91/é"WmTx8vB'
PREVIOUS_SECRET = 'pRev&s+Hj=64/é"RkNf2yC'
STORED_TOKEN = "St0red-Tok/en+Vq8_ZrLm.Wd~Kp31Jx=="
NEW_TOKEN = "Fre5h-Tok/en+Ht5_YbNc.Ge~Rw86Us=="
"""A header can carry it, and as it is too short to look like a key, nothing but its value gives it away."""

FIRST_NAME = 'Nyaboké&"Wanj/iru+='
LAST_NAME = 'Odhiambo/é&"+=Kwek'
OTHER_NAME = 'Chepkoech+é/&"=Rotich'
GROUP_NAME = 'Chama&Tumaini+=/é"Kisii'
PHONE = '+254&711=/902é"883'
NATIONAL_ID = 'ID&29481736=/é"+KE'
STORY = 'Mtama&Mbegu+=/é"kibanda chake'
LOAN_USE = "Mbolea&Dawa+=/é\"ng'ombe"
PLACE = 'Keroka&Nyansiongo+=/é"sokoni'
SUBJECT = 'Mavuno&Ukame+=/é"msimu'
JOURNAL = 'Alinunua&Ndama+=/é"wawili'
SIGNED_URL = 'https://borrowers.test/ziara.jpg?X-Amz-Signature=9f86d081884c7d65&x="+/='
PIXELS = bytes.fromhex("f31c9b7e02d5a8e46b904f1d73ca08be5529f0836ed7a1147b3c9e60d2fb48957ae1") * 3
PHOTO = png(rest=PIXELS)
PHOTO_KEY = "photos/Kerubo-Moraa-Gesare.png"

CANARIES = {
    "client id": CLIENT_ID,
    "client secret": CLIENT_SECRET,
    "client secret before it": PREVIOUS_SECRET,
    "token of the store": STORED_TOKEN,
    "new token": NEW_TOKEN,
    "first name": FIRST_NAME,
    "last name": LAST_NAME,
    "name of another one": OTHER_NAME,
    "name of the group": GROUP_NAME,
    "phone number": PHONE,
    "national id": NATIONAL_ID,
    "description": STORY,
    "use of the loan": LOAN_USE,
    "location": PLACE,
    "subject of a journal": SUBJECT,
    "body of a journal": JOURNAL,
    "signed URL": SIGNED_URL,
    "photo": PIXELS,
    "key of the photo": PHOTO_KEY,
}

LOAN = "L-1"


def draft(loan=LOAN, **fields):
    """A group's, for that has the most to hide."""
    entrep = {"gender": "female", "amount": 100}
    return {
        "currency": "KES",
        "description": f"{STORY}, {PHONE}, {NATIONAL_ID}",
        "loanuse": LOAN_USE,
        "location": PLACE,
        "entreps": [
            {"client_id": "C-1", "loan_id": f"{loan}-1", "first_name": FIRST_NAME, "last_name": LAST_NAME, **entrep},
            {"client_id": "C-2", "loan_id": f"{loan}-2", "first_name": OTHER_NAME, **entrep},
        ],
        "group_name": GROUP_NAME,
        "internal_client_id": "C-0",
        "internal_loan_id": loan,
        "not_pictured": [False, False],
        "photo": {"s3_key": PHOTO_KEY},
        **fields,
    }


def journals(loan=LOAN, **fields):
    item = {
        "internal_loan_id": loan,
        "internal_client_id": "C-1",
        "subject": SUBJECT,
        "body": f"{JOURNAL}\n{PHONE}\n{NATIONAL_ID}",
        "image_url": SIGNED_URL,
    }
    return {"journals": [{**item, **fields}]}


def repayments(loan=LOAN, **fields):
    return {"period": "2026-10", "repayments": [{"loan_id": loan, "client_id": "C-1", "amount": 100.5, **fields}]}


MESSAGES = {Kind.LOAN_DRAFT: draft, Kind.JOURNAL_UPDATE: journals, Kind.REPAYMENT: repayments}


def planted(kind):
    """The names of those that a case of this kind holds: in its message, in the bucket, in what is secret."""
    secret = {"client id", "client secret", "client secret before it", "token of the store", "new token"}
    return secret | found(json.dumps(MESSAGES[kind]())) | ({"photo"} if kind is Kind.LOAN_DRAFT else set())


# --- the detector -----------------------------------------------------------------------------------------------------

RUN = 12
"""Characters of a value, or of its base64, that give it away; twice as many of its hex. Shorter runs would be found in
what is innocent: ids, hashes, other words."""

READINGS = 60
"""A text that can be read in more ways than these is none that we write."""


def found(text):
    """The names of the canaries in a text or in bytes, however they are written."""
    every = [text] if isinstance(text, str) else [text.decode("latin-1"), text.decode("utf-8", "replace")]
    names = set()
    for reading in _readings(every):
        names |= _in(reading.lower())
    return names


def _in(text):
    runs = {text[at : at + length] for length in (RUN, 2 * RUN) for at in range(len(text) - length + 1)}
    return set().union(*(_NAMES[run] for run in runs & _NAMES.keys()))


def _readings(texts):
    """The texts themselves, and what comes of decoding them, and of decoding that."""
    seen, left = set(), list(texts)
    while left:
        text = left.pop()
        if text not in seen:
            seen.add(text)
            left += [decode(text) for decode in _DECODERS]
        assert len(seen) <= READINGS
    return seen


def _unquote_bytes(text):
    return unquote(text, "latin-1")


def _composed(text):
    """Whichever of Unicode's forms it came in."""
    return unicodedata.normalize("NFC", text)


_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def _unescaped(text):
    r"""What `\u00e9`, `\xe9`, `\/` and `\"` stand for: in JSON, and in Python's `repr`."""
    return re.sub(
        r"\\(?:u([0-9a-f]{4})|x([0-9a-f]{2})|([^a-z0-9]|[ntrbf]))",
        lambda it: chr(int(it[1] or it[2], 16)) if it[1] or it[2] else _CONTROLS.get(it[3], it[3]),
        text,
        flags=re.IGNORECASE | re.DOTALL,
    )


def _written(value):
    """How a value is written where its letters are not what is written: (text, length of a run of it that tells)."""
    in_bytes = value if isinstance(value, bytes) else value.encode()
    yield in_bytes.decode("latin-1"), RUN
    yield in_bytes.decode("utf-8", "replace"), RUN
    yield in_bytes.hex(), 2 * RUN
    for start in range(3):
        # The first characters also hold bits of what stands in front, the last ones of what follows.
        certain = base64.b64encode(bytes(start) + in_bytes)[start + (start > 0) :].rstrip(b"=")[:-1]
        for alphabet in (b"+/", b"-_"):
            yield certain.translate(bytes.maketrans(b"+/", alphabet)).decode(), RUN


_DECODERS = (unquote, _unquote_bytes, unquote_plus, html.unescape, _unescaped, _composed)


def _names():
    names = defaultdict(set)
    for name, value in [*CANARIES.items(), ("photo", base64.b64encode(PIXELS).decode())]:
        for text, length in _written(value):
            lower = text.lower()
            for at in range(len(lower) - length + 1):
                names[lower[at : at + length]].add(name)
    # What a photo is like in a text that is not UTF-8 says nothing.
    return {run: who for run, who in names.items() if run != "\ufffd" * RUN}


_NAMES = _names()


# --- how a careless or hostile server writes what it was told ---------------------------------------------------------

ENCODINGS = {
    "plain": lambda text: text,
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "in capitals": str.upper,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON in JSON": lambda text: json.dumps(json.dumps(text))[1:-1],
    "JSON of PHP": lambda text: json.dumps(text)[1:-1].replace("/", r"\/"),
    "repr": repr,
    "repr of bytes": lambda text: repr(text.encode()),
    "a URL's path": lambda text: _quoted(text, safe="/"),
    "a URL's query": lambda text: _quoted(text).replace("%20", "+"),
    "a URL's query, small": lambda text: re.sub("%..", lambda it: it[0].lower(), _quoted(text)),
    "HTML": html.escape,
    "HTML by numbers": lambda text: "".join(it if it in _LETTERS else f"&#{ord(it)};" for it in text),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64, shifted": lambda text: base64.b64encode(b"a" + text.encode()).decode(),
    "base64, shifted by two": lambda text: base64.b64encode(b"ab" + text.encode() + b"c").decode(),
    "base64 of URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
}
_LETTERS = frozenset(string.ascii_letters + string.digits + " ")


def _quoted(text, safe=""):
    return "".join(
        it if it in _LETTERS - {" "} or it in f"{safe}-._~" else "".join(f"%{byte:02X}" for byte in it.encode())
        for it in text
    )
