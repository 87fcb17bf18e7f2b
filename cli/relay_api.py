"""The relay's API, called as the operator: each request is signed with their own AWS credentials."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

SECONDS = 35
"""API Gateway answers after 29 s at the latest."""


class Refused(Exception):
    """The relay answered and did not do it. Its problem detail (RFC 9457) says why, and holds no borrower's data."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        told = [str(problem.get("title") or problem.get("message") or f"HTTP {status}")]
        told += [str(problem["detail"])] if "detail" in problem else []
        told += [f"{error['field']} {error['rule']}" for error in problem.get("errors", ())]
        super().__init__(": ".join(told[:2]) if len(told) == 2 else "; ".join(told))  # noqa: PLR2004 title and detail


class NoAnswer(Exception):
    """The relay cannot be reached, or its gateway gave up. Repeating a request is always safe."""


@dataclass(frozen=True)
class Reply:
    """What the relay answered; `location` is where the outcome of a submission is to be read, relative to the API."""

    status: int
    body: Any
    location: str = ""


class RelayApi:
    """One stack's API. Safe to use from several threads."""

    def __init__(self, url: str, credentials: Credentials, region: str) -> None:
        self.url = url.rstrip("/")
        self._credentials = credentials
        self._region = region

    def get(self, *path: str, **query: str | int) -> Any:
        """Read. The parts of the path are escaped here; what is empty in the query is left out.

        Raises:
            Refused, NoAnswer.
        """
        asked = urlencode({name: value for name, value in query.items() if value != ""})
        return self._call("GET", _path(path) + (f"?{asked}" if asked else "")).body

    def post(self, *path: str, body: bytes, **headers: str) -> Reply:
        """Send JSON. Header names are written with underscores. Raises as `get`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._call("POST", _path(path), body, {"Content-Type": "application/json"} | named)

    def _call(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        request = AWSRequest(method, self.url + path, data=body, headers=dict(headers or {}))
        SigV4Auth(self._credentials, "execute-api", self._region).add_auth(request)
        signed = request.prepare()
        try:
            with requests.Session() as http:
                # The stack of this machine alone speaks plain HTTP, and no proxy leads to it.
                http.trust_env = self.url.startswith("https:")
                # Not followed: a signature is for one address. `auth` keeps a .netrc from taking the signature's place.
                answer = http.request(
                    method,
                    signed.url,
                    data=body,
                    headers=dict(signed.headers),
                    auth=_as_it_is,
                    timeout=SECONDS,
                    allow_redirects=False,
                )
            content = answer.json()
        except requests.JSONDecodeError:
            raise NoAnswer(
                f"The relay's API answers HTTP {answer.status_code} and no JSON; is its address right?"
            ) from None
        except requests.RequestException as error:
            raise NoAnswer(f"The relay's API does not answer: {type(error).__name__}. Trying again is safe.") from None
        if not answer.ok:
            raise Refused(answer.status_code, content if isinstance(content, dict) else {})
        return Reply(answer.status_code, content, answer.headers.get("Location", ""))


def every_submission(api: RelayApi, **query: str | int) -> Iterator[dict[str, Any]]:
    """The submissions that a query finds, page by page. Raises as `RelayApi.get`."""
    cursor = ""
    while True:
        page = api.get("submissions", **{"limit": 1000, **query}, cursor=cursor)
        yield from page["submissions"]
        cursor = page.get("cursor", "")
        if not cursor:
            return


def whole(api: RelayApi, answer: Any) -> Any:
    """What the relay says of a message, with all of its submissions: many come in pages. Raises as `RelayApi.get`."""
    while cursor := answer.get("cursor", ""):
        page = api.get("submissions", answer["kind"], answer["reference"], cursor=cursor)
        answer = {**page, "submissions": [*answer["submissions"], *page["submissions"]]}
    return answer


def every_loan(api: RelayApi, offset: int = 0, **query: str) -> Iterator[dict[str, Any]]:
    """Kiva's loans, page by page. Rows may shift between pages meanwhile, so each comes once. Raises as `get`."""
    seen: set[str] = set()
    while True:
        page = api.get("loans", **query, offset=offset, limit=300)
        for loan in page["loans"]:
            if loan.get("kiva_id") not in seen:
                seen.add(loan.get("kiva_id"))
                yield loan
        offset += len(page["loans"])
        if not page["loans"] or offset >= page["total_records"]:
            return


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _path(parts: tuple[str, ...]) -> str:
    return "".join(f"/{quote(part, safe=':~')}" for part in parts)
