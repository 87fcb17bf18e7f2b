"""Stand-ins for what a test must hold in its hand, each with the reason why the real thing would not do."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from itertools import count
from typing import Any, Self
from urllib.parse import parse_qs

import boto3
import responses
from botocore.awsrequest import AWSResponse
from urllib3 import HTTPResponse

from cli.stacks import NoSuchStack
from kiva_answers import SCOPES, created, token_answer
from kiva_partner.errors import NotSent, SubmissionError
from kiva_partner.tokens import Token

TOKEN_URL = "https://auth.kiva.test/oauth/token"
API_BASE_URL = "https://api.kiva.test"
PARTNER_URL = f"{API_BASE_URL}/v3/partner/9001"
AUDIENCE = "https://audience.kiva.test"


class FakeClock:
    """Time that moves only when told, so that leases and windows end at an exact second; sleeping moves it."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    sleep = advance


class FakeTokens:
    """A token provider without a store: tests of the client are about what it does with tokens, not where they lie."""

    def __init__(self, *errors: SubmissionError) -> None:
        self.errors = list(errors)
        self.discarded: list[str] = []
        self.given = 0

    def get(self, scope: str) -> Token:
        if self.errors:
            raise self.errors.pop(0)
        self.given += 1
        return Token(f"token-{1 + len(self.discarded)}", frozenset(SCOPES.split()), 0, 10**10)

    def discard(self, token: Token) -> None:
        self.discarded.append(token.value)


class FakeLease:
    """A lease without a table, to play a holder who never comes back."""

    def __init__(self) -> None:
        self.free = True
        self.taken = 0

    def acquire(self) -> bool:
        self.taken += self.free
        return self.free

    def release(self) -> None:
        """Nothing is kept."""


class MemoryStore:
    """A token store in memory, which counts how often it was asked and can refuse to be written."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text
        self.loads = 0
        self.broken = False

    def load(self) -> str | None:
        self.loads += 1
        return self.text

    def save(self, text: str) -> None:
        if self.broken:
            raise OSError("the store does not take it")
        self.text = text


@dataclass
class TokenService:
    """Kiva's token endpoint as a function: what it was asked, and what it answers next."""

    clock: FakeClock
    asked: list[dict[str, str]] = field(default_factory=list)
    status: int = 200
    changes: dict[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    """What it answers instead of an answer with changes."""
    down: SubmissionError | None = None
    scopes: set[str] | None = None
    """Those of the client, which is refused when it asks for another, as Spring does. None grants all that is asked."""
    takes: float = 0
    """Seconds for each answer, of which a request gets half of its own."""
    given: list[tuple[float, float]] = field(default_factory=list)
    """When each request came, and the seconds that it was given."""

    def __call__(self, url: str, form: dict[str, str], seconds: float) -> tuple[int, bytes]:
        self.asked.append(form)
        self.given.append((self.clock(), seconds))
        self.clock.advance(min(self.takes, seconds / 2))
        if self.takes > seconds / 2:
            raise NotSent("it takes too long")
        if self.down:
            raise self.down
        if self.body is not None:
            return self.status, self.body
        answer = {**token_answer(f"opaque-{len(self.asked)}"), "token_type": "Bearer"}
        if self.scopes is not None:
            if not self.scopes >= set(form["scope"].split()):
                refusal = {"error": "invalid_scope", "error_description": "OAuth 2.0 Parameter: scope"}
                return 400, json.dumps(refusal).encode()
            answer["scope"] = form["scope"]
        return self.status, json.dumps({**answer, **self.changes}).encode()

    @property
    def scopes_asked(self) -> list[str]:
        """The scopes of each request, as they were written."""
        return [form["scope"] for form in self.asked]


@dataclass
class Context:
    """Lambda's context; the emulators' one needs an emulator."""

    aws_request_id: str = "11111111-2222-3333-4444-555555555555"
    function_name: str = "function"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:000000000000:function:function"
    seconds: float = 290.0

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


@dataclass
class FakeStack:
    """A stack as the relay command finds it, without CloudFormation: moto's needs a dozen packages more."""

    outputs: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    client: Callable[[str], Any] = boto3.client
    api: Any = None
    name: str = "a-stack"
    typed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def resources(self, kind: str) -> Mapping[str, str]:
        return self.typed.get(kind, {})

    def output(self, name: str) -> str:
        return self._one_of(self.outputs, name)

    def parameter(self, name: str) -> str:
        return self._one_of(self.parameters, name)

    def _one_of(self, told: Mapping[str, str], name: str) -> str:
        if name not in told:
            raise NoSuchStack(f"The stack {self.name} has no {name}.")
        return told[name]


def answer_at_once(client: Any, *answers: tuple[int, bytes]) -> list[Any]:
    """AWS at the edge of botocore: gives the requests that `client` sends, each answered by the next status and body.

    For tests of what is sent, byte by byte: moto would understand it in its own way.
    """
    sent: list[Any] = []
    left = iter(answers)

    def answer(request: Any, **_: Any) -> AWSResponse:
        sent.append(request)
        status, body = next(left)
        return AWSResponse(request.url, status, {}, HTTPResponse(BytesIO(body), preload_content=False))

    client.meta.events.register("before-send", answer)
    return sent


class Kiva:
    """Kiva at the edge of `requests`: accepts everything with fresh references, unless told what to answer."""

    def __init__(self) -> None:
        self.mock = responses.RequestsMock(assert_all_requests_are_fired=False)
        self.sent: list[tuple[str, Any]] = []
        self.answers: list[tuple[int, Any] | tuple[int, Any, dict[str, str]] | Exception] = []
        self.token_requests = 0
        self.secrets: tuple[str, ...] | None = None
        """The client secrets that it takes; None takes every one."""
        self.scopes: set[str] | None = None
        """Those of the client, who is refused when it asks for another; None grants whatever is asked for."""
        self.reads = 0
        self.read_status = 200
        self.loans: list[dict[str, Any]] = []
        self.while_posting: Callable[[], None] = lambda: None
        self.refuses: Callable[[Any], bool] = lambda _: False
        self._ids = count(1)

    def __enter__(self) -> Self:
        self.mock.start()
        self.mock.add_callback(responses.POST, TOKEN_URL, self._token)
        for path in ("loan_draft", "journals", "repayments"):
            self.mock.add_callback(responses.POST, f"{PARTNER_URL}/{path}", self._post)
        self.mock.add_callback(responses.GET, f"{PARTNER_URL}/loans", self._loans)
        return self

    def __exit__(self, *_: object) -> None:
        self.mock.stop()
        self.mock.reset()

    def _token(self, request: Any) -> tuple[int, dict[str, str], str]:
        self.token_requests += 1
        (secret,), (scope,) = (parse_qs(request.body)[name] for name in ("client_secret", "scope"))
        if self.secrets is not None and secret not in self.secrets:
            return 401, {}, '{"error": "invalid_client"}'
        if self.scopes is not None and not self.scopes >= set(scope.split()):
            return 400, {}, '{"error": "invalid_scope", "error_description": "canary"}'
        return 200, {}, json.dumps({**token_answer(f"canary-token-{self.token_requests}"), "scope": scope})

    def _loans(self, request: Any) -> tuple[int, dict[str, str], str]:
        self.reads += 1
        query = request.params.get("query", "")
        found = [loan for loan in self.loans if query in (*loan.values(), "")]
        return self.read_status, {}, json.dumps({"total_records": len(found), "data": found})

    def _post(self, request: Any) -> tuple[int, dict[str, str], str]:
        path = request.url.rpartition("/")[2]
        self.sent.append((path, json.loads(request.body)))
        self.while_posting()
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            status, body, *headers = answer
            return status, headers[0] if headers else {}, json.dumps(body)
        if self.refuses(self.sent[-1][1]):
            return 400, {}, '{"message": "a row is wrong"}'
        return 200, {}, json.dumps({"code": "api.success", "problems": [], **created(path, next(self._ids))})
