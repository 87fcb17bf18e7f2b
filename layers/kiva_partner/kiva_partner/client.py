"""Kiva's Partner API: one call in, a typed answer or a named error out, and never a blind resend of a POST.

Kiva has no idempotency key, no update and no delete. So everything here serves one question: did Kiva process it?
No redirects, no retries below us, no proxy from the environment, no connection kept across invocations.
Sources: Kiva partner portal ("Draft loans", "Post journals", "Report payments", "Fetch loans", "Errors").
"""

import io
import json
import logging
import math
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPException
from http.client import HTTPResponse as PlainResponse
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import certifi
import msgspec
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import MaxRetryError, NewConnectionError
from urllib3.response import HTTPResponse

from .errors import KivaUnavailable, Misconfigured, NotSent, OutcomeUnknown, Rejected
from .findings import MAX_WORDING, Findings, read_findings, wording
from .messages import Kind, proves_nothing
from .settings import Settings
from .strict_json import encode, shown_name
from .tokens import REQUEST_SECONDS, TokenProvider

MAX_ANSWER_BYTES = 1_000_000
MAX_LOANS_ANSWER_BYTES = 4_000_000
"""13 kB for each of a page's loans, which have about one. It may unfold to fifty times as much."""

MAX_RETRY_AFTER = 3600
RECORD_SECONDS = 5
"""What writing the outcome down may take after Kiva's answer."""

TOO_EARLY, TOO_MANY_REQUESTS = 425, 429

IDLE_SECONDS = 1.0
"""How long a connection may have been idle that serves again. Servers close theirs after a few seconds, unannounced."""

MAX_INTERIM_ANSWERS = 20
"""Read over before the final answer. RFC 9110 §15.2 names no number."""

CONTENT_STATUSES = frozenset({400, 413, 422})
"""Refusals that speak about what was sent. Another 4xx may mean that this is not the way to Kiva at all."""

_NUMBER_OR_ID = r"[0-9A-Za-z][0-9A-Za-z-]{0,63}"

MAX_LOANS_PER_PAGE = 300
"""Kiva, "Fetch loans": 300 or fewer are recommended."""

CONFIG_NAMES = ("activities", "locales", "themes", "locations")

_log = logging.getLogger(__name__)

Remaining = Callable[[], float]
"""Seconds that are left of the invocation."""


class Taken(msgspec.Struct, frozen=True):
    """Kiva's yes to a call: its ids for each submission in their order, and what it found in them.

    The ids are `loan_draft_uuid`, `upload_id`, or `archive_id` and, where it is fit to show, `confirm_url`.
    """

    kiva: list[dict[str, str]]
    findings: Findings


class LoanPage(msgspec.Struct, frozen=True):
    """One page of `GET loans`, rows as Kiva gives them, names in snake_case."""

    total_records: int
    loans: list[dict[str, Any]]


def made_at(loan: Mapping[str, Any]) -> float | None:
    """When Kiva made a loan of `GET loans`, in epoch seconds; None where it does not say.

    Kiva gives epoch seconds; a number too large for that can only be milliseconds.
    """
    created = loan.get("create_time")
    if not isinstance(created, int):
        return None
    return created / 1000 if created > 10**11 else created


def _utc_now() -> datetime:
    return datetime.now(UTC)


class KivaClient:
    """Makes sessions. Lives as long as the execution environment, as does the TLS context (17 ms CPU to make one)."""

    def __init__(
        self,
        settings: Settings,
        tokens: TokenProvider,
        tls: Callable[[], ssl.SSLContext],
        *,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._settings = settings
        self._tokens = tokens
        self._tls = tls
        self._now = now

    @contextmanager
    def session(self, remaining: Remaining) -> Iterator["KivaSession"]:
        """Connections for one invocation. A connection that slept through a freeze would make the next POST unknown."""
        with _open_http(self._settings, self._tls()) as http:
            yield KivaSession(self._settings, self._tokens, http, remaining, self._now)


class KivaSession:
    """The calls we make, over connections of one invocation. Safe to use from several threads."""

    def __init__(
        self,
        settings: Settings,
        tokens: TokenProvider,
        http: requests.Session,
        remaining: Remaining,
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._tokens = tokens
        self._http = http
        self._remaining = remaining
        self._now = now
        self._partner_url = f"{settings.api_base_url}/v3/partner/{settings.partner_id}"
        self._blank_posts: dict[str, requests.PreparedRequest] = {}

    @property
    def seconds_per_call(self) -> float:
        """What one call may take at worst: connecting, sending, Kiva's answer, and writing the outcome down."""
        return 2 * self._settings.connect_timeout + self._settings.read_timeout + RECORD_SECONDS

    def has_time(self) -> bool:
        """Whether a call that starts now can be finished and recorded."""
        return self._remaining() >= self.seconds_per_call

    def obtain_token(self, scope: str) -> None:
        """Make sure of a token before anything is claimed. Raises what `TokenProvider.get` raises."""
        self._tokens.get(scope)

    def post_loan_draft(self, draft: Mapping[str, Any]) -> Taken:
        """Create one draft, which a person completes and publishes in PA2. Raises SubmissionError, see `_meaning`."""
        answer = _only(self._post("loan_draft", Kind.LOAN_DRAFT.scope, draft))
        uuid = _reference(answer, "loan_draft_uuid", r"[0-9A-Za-z][0-9A-Za-z-]{7,63}")
        return Taken([{"loan_draft_uuid": uuid}], read_findings(answer, [{}]))

    def post_journals(self, journals: Sequence[Mapping[str, Any]]) -> Taken:
        """Archive journals, all in one call; a person opens `confirm_url`. Raises as `post_loan_draft`."""
        answers = self._post("journals", Kind.JOURNAL_UPDATE.scope, {"journals": journals})
        archives = [self._archive(each) for each in answers]
        found = [read_findings(each, [{}]) for each in answers]
        of_call = [finding for each in found for finding in each.of_call]
        doubt = next(filter(None, (each.doubt for each in found)), "")
        return Taken(_of_each(archives, answers, journals), Findings([[] for _ in journals], of_call, doubt))

    def _archive(self, answer: Mapping[str, Any]) -> dict[str, str]:
        archive = {"archive_id": _reference(answer, "archive_id", _NUMBER_OR_ID)}
        url = answer.get("confirm_url")
        return archive | ({"confirm_url": url} if isinstance(url, str) and self._may_be_shown(url) else {})

    def post_repayments(self, repayments: Sequence[Mapping[str, Any]]) -> Taken:
        """Report repayments, all in one upload, which a person finalises in PA2. Raises as `post_loan_draft`."""
        answer = _only(self._post("repayments", Kind.REPAYMENT.scope, {"repayments": repayments}))
        upload = {"upload_id": _reference(answer, "upload_id", _NUMBER_OR_ID)}
        return Taken([upload] * len(repayments), read_findings(answer, repayments))

    def answers(self, scope: str) -> bool:
        """Whether Kiva seems to be there at all: one harmless read, of which any answer will do that is not "not now".

        With the token for `scope`: that it may not read would be an answer as well.
        """
        try:
            harmless = self._prepared("GET", "loans", params={"limit": "1"})
            with self._send(harmless, self._tokens.get(scope).value) as response:
                status = response.status_code
        except (NotSent, OutcomeUnknown) as error:
            _log.info("Kiva is still not there: %s", error)
            return False
        return status < 500 and status not in (408, TOO_EARLY, TOO_MANY_REQUESTS)  # noqa: PLR2004

    def loans(self, *, query: str = "", status: str = "", offset: int = 0, limit: int = 20) -> LoanPage:
        """One page of the partner's loans. `query` is what one would type into PA2's search."""
        parameters = {"query": query, "status": status, "offset": str(offset), "limit": str(limit)}
        answer = self._get("loans", "read:loans", {name: value for name, value in parameters.items() if value})
        total, rows = answer.get("total_records"), answer.get("data")
        if not isinstance(total, int) or not isinstance(rows, list):
            raise NotSent("Kiva's answer to GET loans has no total_records or data")
        return LoanPage(total, [row for row in rows if isinstance(row, dict)])

    def all_loans(self, *, query: str = "", status: str = "") -> Iterator[dict[str, Any]]:
        """Every loan, page by page. Rows may shift between pages while we read, so each Kiva id comes once."""
        seen: set[str] = set()
        offset = 0
        while True:
            if not self.has_time():
                raise NotSent("not enough time left in this invocation to read all of Kiva's loans")
            page = self.loans(query=query, status=status, offset=offset, limit=MAX_LOANS_PER_PAGE)
            for loan in page.loans:
                kiva_id = str(loan.get("kiva_id"))
                if kiva_id not in seen:
                    seen.add(kiva_id)
                    yield loan
            offset += len(page.loans)
            if not page.loans or offset >= page.total_records:
                return

    def config(self, name: str) -> dict[str, Any]:
        """One of the lists `activities`, `locales`, `themes`, `locations`, with Kiva's `as_of_date_time`."""
        # Kiva names no scope for these; every token we ask for may read loans.
        answer = self._get(f"config/{name}", "read:loans", {})
        if not isinstance(answer.get(name), list):
            raise NotSent(f"Kiva's answer to GET config/{name} has no list of {name}")
        return {"as_of_date_time": answer.get("as_of_date_time"), name: [_canonical(row) for row in answer[name]]}

    def _post(self, path: str, scope: str, content: object) -> list[dict[str, Any]]:
        body = encode(content)

        def send(token: str) -> requests.Response:
            if not self.has_time():
                raise NotSent("not enough time left in this invocation to wait for Kiva's answer")
            request = self._blank_post(path).copy()
            request.body = body
            request.headers["Content-Length"] = str(len(body))
            return self._send(request, token)

        return self._authorised(scope, send, lambda response: self._meaning(response, scope))

    def _get(self, path: str, scope: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        """Reading again is safe, so every doubt is NotSent."""

        def send(token: str) -> requests.Response:
            return self._send(self._prepared("GET", path, params=parameters), token)

        try:
            return self._authorised(scope, send, _meaning_of_get)
        except OutcomeUnknown as error:
            raise NotSent(str(error), status=error.status) from None

    def _authorised[Result](
        self, scope: str, send: Callable[[str], requests.Response], meaning: Callable[[requests.Response], Result]
    ) -> Result:
        """Send with a token; on 401 or 403 once more with another one: a refused token means nothing was processed."""
        for _ in range(2):
            token = self._tokens.get(scope)
            with send(token.value) as response:
                if response.status_code not in (401, 403):
                    return meaning(response)
                status = response.status_code
            self._tokens.discard(token)
        raise Misconfigured(f"Kiva refuses two tokens in a row: HTTP {status}")

    def _blank_post(self, path: str) -> requests.PreparedRequest:
        """A POST without a body, to be copied: preparing takes requests as long as sending."""
        if path not in self._blank_posts:
            self._blank_posts[path] = self._prepared("POST", path, headers={"Content-Type": "application/json"})
        return self._blank_posts[path]

    def _prepared(self, method: str, path: str, **arguments: Any) -> requests.PreparedRequest:
        return self._http.prepare_request(requests.Request(method, f"{self._partner_url}/{path}", **arguments))

    def _send(self, request: requests.PreparedRequest, token: str) -> requests.Response:
        request.headers["Authorization"] = f"Bearer {token}"
        timeout = (self._settings.connect_timeout, self._settings.read_timeout)
        try:
            return self._http.send(request, timeout=timeout, allow_redirects=False, stream=True, proxies={})
        except requests.RequestException as error:
            if _never_connected(error):
                cause = _cause(error)
                raise KivaUnavailable(f"could not connect to Kiva: {cause}", cause=cause) from None
            raise OutcomeUnknown(f"Kiva gave no answer: {type(error).__name__}") from None

    def _meaning(self, response: requests.Response, scope: str) -> list[dict[str, Any]]:
        """What the answer to a POST says about the one question.

        Raises:
            Rejected: a 4xx about the content, or any other while Kiva can be read; nothing was created.
            KivaUnavailable: 425 and 429; nothing was processed.
            Misconfigured: 307 and 308, the endpoint has moved; another 4xx while Kiva cannot be read either, so that
                it may come from somebody else; nothing was processed.
            OutcomeUnknown: every other status, and a 2xx that cannot be read or says no success.
        """
        status = response.status_code
        if 200 <= status < 300:  # noqa: PLR2004
            return _success(response)
        if status in (TOO_EARLY, TOO_MANY_REQUESTS):
            seconds = _retry_after(response.headers.get("Retry-After", ""), self._now())
            raise KivaUnavailable(f"Kiva asks to come later: HTTP {status}", status=status, retry_after=seconds)
        if status in (307, 308):
            raise Misconfigured(f"Kiva's endpoint has moved: HTTP {status}; check KIVA_API_BASE_URL")
        said = _wording_of(response)
        # 408: the time ran out at their side. 409: no meaning is documented. Both may have been processed.
        if 400 <= status < 500 and status not in (408, 409):  # noqa: PLR2004
            if status not in CONTENT_STATUSES:
                self._look_at_the_door(status, scope)
            raise Rejected(status, said)
        raise OutcomeUnknown(f"Kiva answered HTTP {status}", status=status, text=said)

    def _look_at_the_door(self, status: int, scope: str) -> None:
        """Whether this is Kiva's API at all, by one harmless read: a gateway's 404 is no word of Kiva's.

        Raises:
            Misconfigured: reading fails as well, so the refusal says nothing about what was sent.
            NotSent: there is no time to look.
        """
        if not self.has_time():
            raise NotSent(f"HTTP {status}, and no time left to see whether that was Kiva's answer", status=status)
        token = self._tokens.get(scope)
        path = "loans" if "read:loans" in token.scopes else "config/themes"
        try:
            with self._send(self._prepared("GET", path, params={"limit": "1"}), token.value) as response:
                _meaning_of_get(response)
        except (NotSent, OutcomeUnknown) as error:
            raise Misconfigured(
                f"HTTP {status}, and a read fails as well ({error}): this is not Kiva's API, or it is not there;"
                " check KIVA_API_BASE_URL and KIVA_PARTNER_ID"
            ) from None

    def _may_be_shown(self, url: str) -> bool:
        """A person will click it: https on a host of Kiva, or the host that was called (the sandbox)."""
        # Matched and not parsed: browsers read a backslash as a slash, and so find another host than urlsplit does.
        # Nothing encoded, for that may be what a message says.
        path = r"[/?#][A-Za-z0-9/?#=&._-]*"
        called = re.escape(self._settings.api_base_url)
        return len(url) <= 500 and bool(  # noqa: PLR2004
            re.fullmatch(rf"https://([A-Za-z0-9-]+\.)*kiva\.org({path})?|{called}({path})?", url)
        )


# --- connections ----------------------------------------------------------------------------------------------------


def new_ssl_context() -> ssl.SSLContext:
    """Verifying, TLS 1.2 or newer, with the roots of `certifi` that `requests` brings."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _TLSInTime
    return context


def post_form(
    settings: Settings,
    tls: Callable[[], ssl.SSLContext],
    url: str,
    form: Mapping[str, str],
    seconds: float = REQUEST_SECONDS,
) -> tuple[int, bytes]:
    """The token request: status and body, in so many seconds at most: a quarter each to connect and to send.

    Raises KivaUnavailable when there is no answer; asking again is harmless.
    """
    timeout = (min(settings.connect_timeout, seconds / 4), min(settings.read_timeout, seconds / 2))
    with _open_http(settings, tls()) as http:
        try:
            with http.post(url, data=form, timeout=timeout, allow_redirects=False, stream=True) as response:
                return response.status_code, _read(response, MAX_ANSWER_BYTES)
        except requests.RequestException as error:
            cause = _cause(error) if _never_connected(error) else ""
            what = cause or type(error).__name__
            raise KivaUnavailable(f"Kiva's token service does not answer: {what}", cause=cause) from None
        except OutcomeUnknown as error:
            raise KivaUnavailable(f"Kiva's token service does not answer well: {error}") from None


@contextmanager
def _open_http(settings: Settings, context: ssl.SSLContext) -> Iterator[requests.Session]:
    """A `requests` session that adds nothing of its own: no proxy or netrc, no cookies, no retries, no compression."""
    with _Session() as http:
        http.trust_env = False
        http.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        http.headers.clear()
        http.headers.update({"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "kiva-relay"})
        adapter = _Adapter(context, settings.parallel_calls)
        for prefix in ("https://", "http://"):
            http.mount(prefix, adapter)
        yield http


class _Session(requests.Session):
    """Knows no redirects: even where it may not follow one, requests reads its body without a limit."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None, ever."""


class _Adapter(HTTPAdapter):
    """One SSLContext for all connections, and connections that tell «never connected» from «no answer»."""

    def __init__(self, context: ssl.SSLContext, connections: int) -> None:
        self._context = context
        super().__init__(pool_maxsize=connections)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        host, tls = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {**tls, "ssl_context": self._context} if host["scheme"] == "https" else {}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing: the context verifies, and naming the bundle here would load it again for every connection."""


class _InTime(socket.socket):
    """A socket whose phases end as a whole, at `end` (monotonic). Its own timeout would begin anew with every byte."""

    end = math.inf
    """Set when a phase begins. Before the first one, the timeout is that of connecting."""

    idle_since = math.inf
    """When the last answer ended (monotonic): -inf when more was read than that, inf before the first one."""

    def is_quiet(self) -> bool:
        """Whether nothing waits here to be read, neither bytes nor the connection's end.

        Asked by reading, because only that tells an answer from what TLS keeps to itself: a session ticket makes the
        socket readable (RFC 8446 §4.6.1), and bytes that are decrypted already do not.
        """
        timeout = self.gettimeout()
        self.settimeout(0)
        try:
            self.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        finally:
            self.settimeout(timeout)
        return False

    def recv_into(self, *arguments: Any, **named: Any) -> int:
        self._set_timeout()
        return super().recv_into(*arguments, **named)

    def send(self, *arguments: Any, **named: Any) -> int:
        self._set_timeout()
        return super().send(*arguments, **named)

    def sendall(self, *arguments: Any, **named: Any) -> None:
        self._set_timeout()
        super().sendall(*arguments, **named)

    def _set_timeout(self) -> None:
        if self.end < math.inf:
            left = self.end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.settimeout(left)


class _TLSInTime(_InTime, ssl.SSLSocket):
    pass


class _Reader(io.BufferedReader):
    """Reads an answer off a socket, and what has come behind it along with it: noted when the answer was read."""

    def __init__(self, raw: io.RawIOBase, sock: _InTime) -> None:
        super().__init__(raw)
        self._sock = sock

    def close(self) -> None:
        if not self.closed:
            self._sock.end = -math.inf  # reading on is too late, so `peek` raises unless something is left in here
            self._sock.idle_since = time.monotonic()
            with suppress(OSError):
                self.peek()
                self._sock.idle_since = -math.inf
        super().close()


class _Answer(PlainResponse):
    """A final answer. Interim ones are read over, whatever they are, as http.client reads over `100 Continue` alone."""

    _interim = 0

    def __init__(self, sock: _InTime, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp = _Reader(self.fp.detach(), sock)

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc] # not in typeshed
        if status // 100 == 1 and status != HTTPStatus.SWITCHING_PROTOCOLS:
            self._interim += 1
            if self._interim > MAX_INTERIM_ANSWERS:
                raise HTTPException("interim answers without end")
            status = HTTPStatus.CONTINUE
        return version, status, reason


class _HTTPConnection(HTTPConnection):
    """A connection that tells «never connected» from «no answer», and each phase of which ends in time."""

    sock: _InTime
    response_class = _Answer

    @property
    def is_connected(self) -> bool:
        """Whether it may serve again, or urllib3 connects anew: what waits here would be taken for the next answer."""
        return not self.is_closed and time.monotonic() - self.sock.idle_since <= IDLE_SECONDS and self.sock.is_quiet()

    def connect(self) -> None:
        # A TLS error in here is a failed handshake; the same class raised later would be a broken answer.
        with _before_any_byte(self):
            super().connect()

    def request(self, *arguments: Any, **named: Any) -> None:
        """Send, within the connect timeout, which is what `timeout` is at this point."""
        if self.sock is None:
            self.connect()
        self._begin_phase()
        super().request(*arguments, **named)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override] # as urllib3's own
        """Receive, body included, within the read timeout."""
        self._begin_phase()
        response = super().getresponse()
        if response.status == HTTPStatus.SWITCHING_PROTOCOLS:
            self.close()  # we asked for none, and what follows is not HTTP
        return response

    def _begin_phase(self) -> None:
        self.sock.end = time.monotonic() + float(self.timeout or 0)

    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        timeout = connected.gettimeout()
        in_time = _InTime(fileno=connected.detach())
        in_time.settimeout(timeout)
        return in_time


class _HTTPSConnection(_HTTPConnection, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


@contextmanager
def _before_any_byte(connection: HTTPConnection) -> Iterator[None]:
    """Whatever fails while connecting failed before any byte of a request was sent; so does being late with it.

    A name may have several addresses, each tried for as long as the timeout.
    """
    started, timeout = time.monotonic(), float(connection.timeout or 0)
    try:
        yield
    except NewConnectionError:
        raise
    except Exception as error:
        raise NewConnectionError(connection, type(error).__name__) from error
    if time.monotonic() - started > timeout:
        raise NewConnectionError(connection, "too late") from TimeoutError()


def _never_connected(error: requests.RequestException) -> bool:
    cause = error.args[0] if error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)


def _cause(error: requests.RequestException) -> str:
    """The innermost class name says what failed (NameResolutionError, SSLCertVerificationError); no text is copied."""
    inner: BaseException = error.args[0].reason
    while inner.__cause__ is not None:
        inner = inner.__cause__
    return type(inner).__name__


# --- reading answers ------------------------------------------------------------------------------------------------


def _read(response: requests.Response, limit: int) -> bytes:
    """The whole body. Raises OutcomeUnknown when it breaks off or is longer than `limit` bytes."""
    status = response.status_code
    body = bytearray()
    try:
        for chunk in response.iter_content(65_536):
            body += chunk
            if len(body) > limit:
                raise OutcomeUnknown("Kiva's answer is larger than any real one", status=status)
    except (requests.RequestException, ValueError) as error:  # ValueError: a chunk of negative length
        raise OutcomeUnknown(f"Kiva's answer broke off: {type(error).__name__}", status=status) from None
    return bytes(body)


def _meaning_of_get(response: requests.Response) -> dict[str, Any]:
    if response.status_code != 200:  # noqa: PLR2004
        raise NotSent(f"Kiva answered HTTP {response.status_code}", status=response.status_code)
    return _only(_objects(_json_of(response, MAX_LOANS_ANSWER_BYTES), response.status_code))


def _success(response: requests.Response) -> list[dict[str, Any]]:
    """A 2xx proves nothing by itself: only readable objects that do not deny success go on."""
    status = response.status_code
    answers = _objects(_json_of(response, MAX_ANSWER_BYTES, unambiguous=True), status)
    for answer in answers:
        if answer.get("code", "api.success") != "api.success":
            reason = f"Kiva answered HTTP {status}, but its code is not api.success"
            raise OutcomeUnknown(reason, status=status, text=wording(answer))
    return answers


def _objects(answer: object, status: int) -> list[dict[str, Any]]:
    """Kiva's own library types some answers as a list of objects. Raises OutcomeUnknown where there is none."""
    answers: list[Any] = answer if isinstance(answer, list) else [answer]
    if not answers or not all(isinstance(each, dict) for each in answers):
        raise OutcomeUnknown("Kiva's answer is not a JSON object", status=status)
    return answers


def _only(answers: list[dict[str, Any]]) -> dict[str, Any]:
    if len(answers) > 1:
        raise OutcomeUnknown("Kiva gave several answers to one call")
    return answers[0]


def _of_each(
    archives: list[dict[str, str]], answers: Sequence[Mapping[str, Any]], journals: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """The archive of each journal: one for all, or one each in their order, or by the loans that the answers name."""
    asked = [journal.get("internal_loan_id") for journal in journals]
    named = [str(answer.get("internal_loan_id") or answer.get("loan_id") or "") for answer in answers]
    if len(answers) == 1 and not named[0]:
        return archives * len(journals)
    if len(answers) == len(journals):
        if named == asked or not any(named):
            return archives
        by_loan = dict(zip(named, archives, strict=True))
        if len(by_loan) == len(archives) and by_loan.keys() == set(asked):
            return [by_loan[str(loan)] for loan in asked]
    raise OutcomeUnknown("Kiva's answers are not one for each journal")


def _json_of(response: requests.Response, limit: int, *, unambiguous: bool = False) -> Any:
    """The JSON in an answer of at most `limit` bytes, names in snake_case.

    Raises:
        OutcomeUnknown: it is none; or it has to be `unambiguous`, and gives one name two values.
    """
    body = _without_token(_read(response, limit), response)
    try:
        # Also where json reads it once more: that takes NaN and half a surrogate pair, and msgspec cannot see pairs.
        answer = msgspec.json.decode(body)
        if unambiguous:
            return json.loads(body, object_pairs_hook=_one_value_each)
        return _in_snake_case(answer)
    except (msgspec.DecodeError, RecursionError, ValueError):  # ValueError: no UTF-8, or a number of 4,301 digits
        raise OutcomeUnknown("Kiva's answer is not JSON", status=response.status_code) from None


def _one_value_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, names in snake_case. `upload_id` twice, or once more as `uploadId`, has to be the same."""
    answer: dict[str, Any] = {}
    for name, value in pairs:
        if answer.setdefault(key := _snake_case(name), value) != value:
            raise OutcomeUnknown(f"Kiva's answer says two things about {shown_name(key)}")
    return answer


def _without_token(body: bytes, response: requests.Response) -> bytes:
    """An answer that quotes our request must not carry the token into a log or a ledger."""
    token = response.request.headers["Authorization"].removeprefix("Bearer ").encode()
    for written in (token, token.replace(b"/", rb"\/")):
        body = body.replace(written, b"***")
    return body


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])[A-Z]", r"_\g<0>", name).lower()


def _in_snake_case(value: Any) -> Any:
    """Kiva's wire is snake_case, its Swagger page camelCase; we understand both."""
    match value:
        case dict():
            return {_snake_case(name): _in_snake_case(each) for name, each in value.items()}
        case list():
            return [_in_snake_case(each) for each in value]
    return value


def _canonical(row: Any) -> Any:
    """Kiva calls the name of an activity `activity`, in its Swagger page `activityName`."""
    if not isinstance(row, dict):
        return row
    return {"activity" if name == "activity_name" else name: value for name, value in row.items()}


def _reference(answer: Mapping[str, Any], name: str, shape: str) -> str:
    """Kiva's own id of what was created: the proof. Without it a 2xx is only a hope."""
    value = answer.get(name)
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not re.fullmatch(shape, text) or proves_nothing(text):
        raise OutcomeUnknown(f"Kiva answered success, but without a {name}", text=wording(answer))
    return text


def _wording_of(response: requests.Response) -> str:
    """Kiva's or its gateway's own words, unmasked, `MAX_WORDING` characters at most; of a page of HTML none."""
    body = b""
    try:
        body = _without_token(_read(response, MAX_ANSWER_BYTES), response)
        return wording(_in_snake_case(msgspec.json.decode(body)))
    except (OutcomeUnknown, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        plain = response.headers.get("Content-Type", "").lower().startswith("text/plain")
        return wording(body[: 4 * MAX_WORDING].decode(errors="replace")) if plain else ""


def _retry_after(value: str, now: datetime) -> float | None:
    """RFC 9110 §10.2.3: seconds or a date; between 1 s and 1 h here, None when absent or absurd."""
    if re.fullmatch(r"[0-9]{1,9}", value):
        seconds = float(value)
    else:
        try:
            seconds = (parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 1), MAX_RETRY_AFTER)
