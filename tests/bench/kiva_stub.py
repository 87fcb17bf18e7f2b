"""Kiva's token endpoint and Partner API, as far as a benchmark needs them: it takes everything, and counts.

Counts: `token`, `loan_draft`, `journals`, `repayments` and `loans` are calls; `connections` are those that were made,
for tokens too; `rows` are submissions that were taken, `duplicates` those among them that had been taken before;
`refused` are calls with the token that `refuse_token` names.

Settings, in seconds: `latency` before each answer of the API, `token_latency` before one of the token endpoint.
"""

import json
import ssl
import sys
from http import HTTPStatus
from itertools import count

import msgspec

from bench.counting_server import Answer, Service, serve
from kiva_answers import created, token_answer

CALLS = ("token", "loan_draft", "journals", "repayments", "loans")


class Kiva(Service):
    def __init__(self):
        super().__init__(latency=0, token_latency=0.3, refuse_token="")
        self._ids = count(1)
        self._taken = set()
        self.reset()

    def reset(self):
        super().reset()
        self._taken.clear()
        self.counted.update(dict.fromkeys((*CALLS, "connections", "rows", "duplicates", "refused"), 0))

    def connected(self):
        self.counted["connections"] += 1

    def answer(self, request):
        path = request.url.path
        if path == "/oauth/token":
            self.counted["token"] += 1
            return Answer(self._token(), after=self.settings["token_latency"])
        name = path.removeprefix("/v3/partner/9001/")
        if name not in CALLS:
            return Answer(b'{"message": "no such thing"}', HTTPStatus.NOT_FOUND)
        self.counted[name] += 1
        token = request.header(b"authorization").removeprefix("Bearer ")
        if not token or token == self.settings["refuse_token"]:
            self.counted["refused"] += 1
            return Answer(b'{"error": "invalid_token"}', HTTPStatus.UNAUTHORIZED, self.settings["latency"])
        body = b'{"total_records": 0, "data": []}' if name == "loans" else self._submission(name, request.body)
        return Answer(body, after=self.settings["latency"])

    def _token(self):
        return json.dumps(token_answer(f"canary-token-{next(self._ids)}")).encode()

    def _submission(self, name, body):
        keys = _KEYS[name](body)
        # Of a million only their hashes are kept: two that agree by chance come once in ten million runs.
        hashes = [hash((name, key)) for key in keys]
        before = len(self._taken)
        self._taken.update(hashes)
        self.counted["rows"] += len(hashes)
        self.counted["duplicates"] += len(hashes) - (len(self._taken) - before)
        return json.dumps({"code": "api.success", "problems": [], **created(name, next(self._ids))}).encode()


# --- what is the same submission --------------------------------------------------------------------------------------


class _Entrep(msgspec.Struct):
    loan_id: str


class _Draft(msgspec.Struct):
    entreps: list[_Entrep]


class _Journal(msgspec.Struct):
    internal_loan_id: str
    body: str


class _Journals(msgspec.Struct):
    journals: list[_Journal]


class _Repayment(msgspec.Struct):
    loan_id: str
    amount: float


class _Repayments(msgspec.Struct):
    repayments: list[_Repayment]


def _drafts(body):
    return [tuple(entrep.loan_id for entrep in msgspec.json.decode(body, type=_Draft).entreps)]


def _journals(body):
    return [(row.internal_loan_id, row.body) for row in msgspec.json.decode(body, type=_Journals).journals]


def _repayments(body):
    return [(row.loan_id, row.amount) for row in msgspec.json.decode(body, type=_Repayments).repayments]


_KEYS = {"loan_draft": _drafts, "journals": _journals, "repayments": _repayments}


if __name__ == "__main__":
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(sys.argv[1])
    serve(Kiva(), tls)
