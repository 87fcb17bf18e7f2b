"""Kiva at the edge of `requests`, which keeps its own books: what it processed, however it answered."""

import json
import threading
from collections import Counter
from enum import StrEnum
from itertools import count
from urllib.parse import parse_qs

import requests
import responses
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError

from fakes import PARTNER_URL, TOKEN_URL
from kiva_answers import token_answer
from kiva_partner.messages import Kind

PATHS = {"loan_draft": Kind.LOAN_DRAFT, "journals": Kind.JOURNAL_UPDATE, "repayments": Kind.REPAYMENT}


class End(StrEnum):
    """How a POST may end; some of them with the work done."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    ASKED_TO_WAIT = "asked to wait"
    UNAVAILABLE = "503, nothing done"
    UNAVAILABLE_BUT_DONE = "503, all done"
    RESET = "reset, nothing done"
    RESET_BUT_DONE = "reset, all done"
    NO_REFERENCE = "200 without a reference"
    NO_CONNECTION = "no connection"
    FAULT_OF_OURS = "a fault of ours while sending, all done"
    UNAUTHORISED = "401"
    FORBIDDEN = "403"
    NOT_FOUND = "404 of Kiva's own"
    WRONG_DOOR = "404 of a gateway that knows nothing of Kiva"
    USED_REFERENCE = "200 with the reference of another call, nothing done"
    NIL_REFERENCE = "200 with a reference that is none, nothing done"
    ROW_REFUSED = "200, the first row refused under its id in another form, the others done"
    ROW_REFUSED_NAMELESS = "200, the first row refused without saying which, the others done"
    ROW_ODD = "200, the first row found odd in a word that nobody knows, and refused; the others done"

    @property
    def refuses(self):
        return self in (End.REFUSED, End.NOT_FOUND)

    @property
    def refuses_a_row(self):
        return self in (End.ROW_REFUSED, End.ROW_REFUSED_NAMELESS, End.ROW_ODD)

    @property
    def processes(self):
        return self in (
            End.ACCEPTED,
            End.UNAVAILABLE_BUT_DONE,
            End.RESET_BUT_DONE,
            End.NO_REFERENCE,
            End.FAULT_OF_OURS,
        )


STATUS = {
    End.REFUSED: 400,
    End.ASKED_TO_WAIT: 429,
    End.UNAVAILABLE: 503,
    End.UNAVAILABLE_BUT_DONE: 503,
    End.NO_REFERENCE: 200,
    End.UNAUTHORISED: 401,
    End.FORBIDDEN: 403,
    End.NOT_FOUND: 404,
    End.WRONG_DOOR: 404,
}
REFERENCES = {"loan_draft": "loan_draft_uuid", "journals": "archive_id", "repayments": "upload_id"}


def no_connection():
    return requests.ConnectionError(MaxRetryError(None, "/", NewConnectionError(None, "refused")))


def reset():
    return requests.ConnectionError(ProtocolError("Connection aborted.", ConnectionResetError(104, "reset by peer")))


class BookkeepingKiva:
    """Ends every POST as `ends` says, which is asked with the path; reads and token requests as told by HTTP status.

    A status of None is a refused connection. `before` and `after` are called while a POST is under way, before and
    after its work is done. `posts`, `gets` and `token_requests` count what was tried; `log` has what came through:
    (kind, rows, end, the number in the reference that was given out).
    """

    def __init__(self):
        self.mock = responses.RequestsMock(assert_all_requests_are_fired=False)
        self.ends = lambda path: End.ACCEPTED
        self.reads = lambda: 200
        self.token_answers = lambda: 200
        self.before = self.after = lambda: None
        self.proven = lambda kind: []
        """Of a kind, the references that prove a call by now: what a confused answer may hold."""
        self._wrong_doors = 0
        self.takes_token = lambda token: token in self.good_tokens
        self.processed = Counter()
        self.log = []
        self.posts = self.gets = self.token_requests = 0
        self.secret = "canary-secret&+="
        self.secrets = None
        """While one is rotated: all those that are live."""
        self.scopes = None
        """Those of the client, who is refused when it asks for another; None grants whatever is asked for."""
        self.token_life = 43_199
        self.good_tokens = set()
        self.published = []
        self._numbers = count(1)
        self._lock = threading.Lock()

    def __enter__(self):
        self.mock.start()
        self.mock.add_callback(responses.POST, TOKEN_URL, self._token)
        for path in PATHS:
            self.mock.add_callback(responses.POST, f"{PARTNER_URL}/{path}", self._post)
        self.mock.add_callback(responses.GET, f"{PARTNER_URL}/loans", self._loans)
        return self

    def __exit__(self, *_):
        self.mock.stop()
        self.mock.reset()

    def revoke_tokens(self):
        self.good_tokens.clear()

    def _token(self, request):
        status = self.token_answers()
        with self._lock:
            self.token_requests += 1
            if status is None:
                raise no_connection()
            form = parse_qs(request.body)
            if status == 200 and form["client_secret"][0] not in (self.secrets or {self.secret}):
                status = 401
            if status != 200:
                return status, {}, '{"error": "told to"}'
            (scope,) = form["scope"]
            if self.scopes is not None and not self.scopes >= set(scope.split()):
                return 400, {}, '{"error": "invalid_scope"}'
            token = f"canary-token-{self.token_requests}"
            self.good_tokens.add(token)
        return 200, {}, json.dumps({**token_answer(token), "scope": scope, "expires_in": self.token_life})

    def _knows(self, request):
        return self.takes_token(request.headers["Authorization"].removeprefix("Bearer "))

    def _post(self, request):
        path = request.url.rpartition("/")[2]
        with self._lock:
            self.posts += 1
        self.before()
        end = self.ends(path)
        if end is End.NO_CONNECTION:
            raise no_connection()
        if not self._knows(request):
            return 401, {}, "{}"
        content = json.loads(request.body)
        rows = [content] if path == "loan_draft" else content[path]
        if end.refuses_a_row and path != "repayments":
            end = End.ACCEPTED
        proven = self.proven(PATHS[path])
        if end is End.USED_REFERENCE and not proven:
            end = End.RESET
        number = self._note(PATHS[path], rows, end)
        self.after()
        self._wrong_doors += end is End.WRONG_DOOR
        if end in STATUS:
            return STATUS[end], {}, "{}"
        return 200, {}, json.dumps(_answer(end, path, number, rows, proven))

    def _note(self, kind, rows, end):
        """Keep the books of a POST; gives the number in the reference that is given out for it."""
        refused, taken = (rows[:1], rows[1:]) if end.refuses_a_row else ([], rows)
        with self._lock:
            number = next(self._numbers)
            self.log += [(kind, refused, End.REFUSED, number)] if refused else []
            self.log.append((kind, taken, End.ACCEPTED if refused else end, number))
            if refused or end.processes:
                self.processed.update((kind, _loan_of(row)) for row in taken)
        return number

    def _loans(self, request):
        with self._lock:
            self.gets += 1
        status = self.reads()
        if status is None:
            raise no_connection()
        if self._wrong_doors:
            self._wrong_doors -= 1
            return 404, {}, "{}"
        if not self._knows(request):
            return 401, {}, "{}"
        return status, {}, json.dumps({"total_records": len(self.published), "data": self.published})


def _answer(end, path, number, rows, proven):
    """A 200. Ids are bare, some of them numbers: each is compared with what this submission's own call was given."""
    name = REFERENCES[path]
    match end:
        case End.RESET | End.RESET_BUT_DONE:
            raise reset()
        case End.FAULT_OF_OURS:
            raise ValueError(end)
        case End.NIL_REFERENCE:
            return {name: "00000000-0000-0000-0000-000000000000" if path == "loan_draft" else 0}
        case End.USED_REFERENCE:
            return {name: proven[-1]}
        case End.ACCEPTED if path == "loan_draft":
            return {name: f"00000000-0000-4000-8000-{number:012}"}
        case End.ACCEPTED:
            return {name: number if path == "repayments" else str(number)}
    return {name: number, "problems": [_problem(end, rows[0]["loan_id"])]}


def _problem(end, loan_id):
    match end:
        case End.ROW_REFUSED:
            return {"loan_id": f" {loan_id.upper()} ", "severity": "ERROR", "code": "x", "details": "refused"}
        case End.ROW_ODD:
            return {"loan_id": loan_id, "severity": "odd", "code": "x", "details": "refused"}
    return {"severity": "error", "code": "x", "details": "one row was refused"}


def _loan_of(row):
    return row["entreps"][0]["loan_id"] if "entreps" in row else row.get("loan_id") or row["internal_loan_id"]
