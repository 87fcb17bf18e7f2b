"""What `/v3/api-docs` says: FastAPI makes an OpenAPI document of the routes, and here are the words in it.

All is described as it is while no switch is set. The fields of what is sent are described in `bodies.py`, those of a
loan in `data.py`, where they are declared. Everybody in the examples is invented.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated, Any, Literal

from fastapi import Path
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from kiva_sandbox.bodies import Draft, Journals, Repayments
from kiva_sandbox.data import CONFIG, Loan, Partner
from kiva_sandbox.state import Problem
from kiva_sandbox.switches import HEADER, Switches
from kiva_sandbox.tokens import AUDIENCES, ISSUER, LIFETIME_SECONDS

_PARTNER = Partner()
_INTRODUCTION = """\
An imitation of Kiva's Partner API, on this machine. Nothing here is Kiva's, and nothing here reaches Kiva.

To try it: execute `POST /oauth/token` as it is filled in, put the `access_token` of its answer into **Authorize**, and
execute the others. A person then publishes, confirms and finalises what has arrived, on [the pages of PA2](/pa2/).

Answers are described as they are while no switch is set; a switch makes some of them what other documents of Kiva say.
"""
_OURS = "Not Kiva's: only of this imitation"
_SCHEMA = "#/components/schemas/{model}"

# --- what is sent ----------------------------------------------------------------------------------------------------

PartnerId = Annotated[
    str,
    Path(
        description="The partner's id, `partnerId` of the token's answer.",
        openapi_examples={"The sandbox's partner": {"value": _PARTNER.id}},
    ),
]
ConfigName = Annotated[str, Path(description="Which list.", json_schema_extra={"enum": list(CONFIG)})]
STATUSES = (
    "One of `inactive`, `inactive_expired`, `issue`, `issue_revising`, `issue_approving`, `reviewed`, `fundRaising`, "
    "`raised`, `payingBack`, `defaulted`, `ended`, `expired`, `refunded`, `deleted`, as written here; all when it is "
    "left out. Repayments are reported for `payingBack` and `defaulted`."
)
_SWITCHES = {
    "name": HEADER,
    "in": "header",
    "description": f"Not Kiva's. Switches for this request alone, as `name=value, name=value`: "
    f"{', '.join(f'`{name}`' for name in Switches.model_fields)}.",
    "schema": {"type": "string"},
    "examples": {
        "None": {"value": ""},
        "Names of the answer as in Kiva's Swagger": {"value": "naming=camel"},
        "Too many calls": {"value": "fault=429, retry_after=5"},
    },
}


class _Described(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class TokenRequest(_Described):
    """The form of OAuth 2.0's client credentials (RFC 6749 §4.4)."""

    grant_type: Annotated[Literal["client_credentials"], Field(examples=["client_credentials"])]
    client_id: Annotated[str, Field(examples=[_PARTNER.client_id])]
    """From PA2 > Account > API Access."""
    client_secret: Annotated[str, Field(examples=[_PARTNER.client_secret])]
    """From the same place; every character of it is encoded, as of all forms."""
    audience: Annotated[str, Field(examples=[AUDIENCES[0]], json_schema_extra={"enum": list(AUDIENCES)})]
    """The API that the token is for. It is a name, and not the address of this API."""
    scope: Annotated[str, Field(examples=[" ".join(_PARTNER.scopes)])] = ""
    """Some of the partner's scopes, with spaces between them; all of them when it is left out or empty."""


# --- what is answered ------------------------------------------------------------------------------------------------


class TokenAnswer(_Described):
    """The token, and what it is good for."""

    access_token: str
    """A JWT, signed with RS256. It goes into `Authorization: Bearer …`."""
    scope: str
    """Those asked for that the partner has, with spaces between them, in no order."""
    iss: str
    partnerId: str  # noqa: N815 Kiva's name
    """It belongs into the path of every call."""
    token_type: Literal["bearer"]
    expires_in: int
    """Seconds from now."""
    jti: str


class _Success(_Described):
    code: Literal["api.success"]
    message: str
    """For people."""


class DraftAnswer(_Success):
    """The draft is kept. What PA2 finds wrong with it is only seen there."""

    loan_draft_uuid: str


class JournalsAnswer(_Success):
    """The journals are archived; a person confirms them."""

    archive_id: str
    confirm_url: str
    """Where a person reviews and publishes them."""


class RepaymentsAnswer(_Success):
    """The report is received; a person reviews and finalises the upload that it is in PA2."""

    upload_id: int
    problems: list[Problem]
    """What is wrong with rows: those of severity `error` are not recorded, those of severity `warning` are."""


class LoansAnswer(_Described):
    """One page of the loans that match."""

    total_records: int
    """How many match, on all pages."""
    data: list[Loan]


class Theme(_Described):
    """A theme that the partner may use."""

    theme_type_id: int
    theme_type: str


class Activity(_Described):
    """What a loan can be for."""

    activity_id: int
    activity: str


class Locale(_Described):
    """A currency together with a language: each pair has a row, so both come several times."""

    currency: str
    """ISO 4217 code."""
    language_code: str
    language_id: int
    language_name: str


class Location(_Described):
    """A place that the partner has defined in PA2."""

    country: str
    location: str
    full_name: str
    """What a draft gives as its `location`."""


class _Config(_Success):
    as_of_date_time: str
    """UTC, `YYYY-MM-DDThh:mm:ssZ`."""


class Themes(_Config):
    """The answer of `config/themes`."""

    themes: list[Theme]


class Activities(_Config):
    """The answer of `config/activities`."""

    activities: list[Activity]


class Locales(_Config):
    """The answer of `config/locales`."""

    locales: list[Locale]


class Locations(_Config):
    """The answer of `config/locations`."""

    locations: list[Location]


class OAuthRefusal(_Described):
    """How the authorisation server refuses, and the API a token (RFC 6749 §5.2, RFC 6750 §3.1)."""

    error: str
    error_description: str
    scope: str = ""
    """The scope that the call needs, where it is that which lacks."""


class ApiRefusal(_Described):
    """The request was read, and the API will not have it."""

    code: Literal["api.error"]
    message: str


class SpringError(_Described):
    """How Spring Boot, which Kiva's API is made with, tells all other errors."""

    timestamp: str
    status: int
    error: str
    """The name of the status."""
    message: str
    path: str


class SwitchRefusal(_Described):
    """Not Kiva's: the request named a switch or a value that does not exist, and nothing was done."""

    error: Literal["bad_switch"]
    message: str


# --- operations ------------------------------------------------------------------------------------------------------


def _answer(description: str, model: Any, example: object = None) -> dict[str, Any]:
    shown = {} if example is None else {"content": {"application/json": {"example": example}}}
    return {"description": description, "model": model, **shown}


def _spring_error(status: int, error: str, message: str) -> dict[str, object]:
    path = f"/v3/partner/{_PARTNER.id}/loan_draft"
    now = "2026-11-25T08:00:00.000+00:00"
    return {"timestamp": now, "status": status, "error": error, "message": message, "path": path}


_PAGE = {"text/html": {"schema": {"type": "string"}}}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds, by the switch `retry_after`.", "schema": {"type": "integer"}}}
_FAULTS: dict[int | str, dict[str, Any]] = {
    429: {**_answer("Only by the switch `fault`: nothing is done.", SpringError), "headers": _RETRY_AFTER},
    500: _answer("Only by the switch `fault`: nothing is done.", SpringError),
    502: {"description": "Only by the switch `fault`, from a gateway: nothing is done.", "content": _PAGE},
    503: {**_answer("Only by the switch `fault`: nothing is done.", SpringError), "headers": _RETRY_AFTER},
    504: {"description": "Only by the switch `fault`, from a gateway: it is done all the same.", "content": _PAGE},
}
_NO_TOKEN = _answer(
    "The token is missing, garbled or expired.",
    OAuthRefusal,
    {"error": "invalid_token", "error_description": "Access token expired"},
)
_NOT_ALLOWED = _answer(
    "The token lacks the scope, or is another partner's.",
    OAuthRefusal,
    {
        "error": "insufficient_scope",
        "error_description": "Insufficient scope for this resource",
        "scope": "create:repayment",
    },
)
_NOWHERE = _answer("There is no such path.", SpringError, _spring_error(404, "Not Found", "No message available"))
_UNREADABLE = _answer(
    "It cannot be read as JSON of this form, lacks a field that is required, or names a switch that does not exist.",
    ApiRefusal | SpringError | SwitchRefusal,
    _spring_error(400, "Bad Request", "JSON parse error"),
)
_NO_JSON = _answer(
    "It is not sent as `application/json`.",
    SpringError,
    _spring_error(415, "Unsupported Media Type", "Content type not supported"),
)


def _operation(summary: str, tag: str, answers: dict[int | str, dict[str, Any]]) -> dict[str, Any]:
    """What FastAPI's decorators of routes are told of a call that needs a token."""
    return {
        "summary": summary,
        "tags": [tag],
        "responses": {**answers, 401: _NO_TOKEN, 403: _NOT_ALLOWED, 404: _NOWHERE, **_FAULTS},
        "openapi_extra": {"parameters": [_SWITCHES], "security": [{"token": []}]},
    }


TOKEN: dict[str, Any] = {
    "summary": "Get a token",
    "tags": ["Token"],
    "responses": {
        200: _answer(
            "A token.",
            TokenAnswer,
            {
                "access_token": "eyJ….eyJ….c2ln…",
                "scope": " ".join(_PARTNER.scopes),
                "iss": ISSUER,
                "partnerId": _PARTNER.id,
                "token_type": "bearer",
                "expires_in": LIFETIME_SECONDS,
                "jti": "0d5a1f0e-6b1c-4f53-9e0a-2f6f0c9b7a11",
            },
        ),
        400: _answer(
            "Another grant type, an unknown audience, no scope that the partner has, or a switch that does not exist.",
            OAuthRefusal | SwitchRefusal,
            {
                "error": "invalid_scope",
                "error_description": "None of the requested scopes is authorised for this client",
            },
        ),
        401: _answer(
            "Wrong credentials.",
            OAuthRefusal,
            {"error": "invalid_client", "error_description": "Bad client credentials"},
        ),
        **_FAULTS,
    },
    "openapi_extra": {"parameters": [_SWITCHES]},
}
LOAN_DRAFT = _operation(
    "Create a draft of a loan",
    "Loan drafts",
    {
        200: _answer(
            "It is kept.",
            DraftAnswer,
            {
                "code": "api.success",
                "message": "Loan draft created",
                "loan_draft_uuid": "7d0c9a52-1b7e-4f0e-8f39-5a8e4f3c2b61",
            },
        ),
        400: _UNREADABLE,
        409: _answer("Only by the switch `duplicate_draft`: there is a draft with this loan id.", ApiRefusal),
        415: _NO_JSON,
    },
)
_ARCHIVED = _answer(
    "They are archived until a person confirms them.",
    JournalsAnswer,
    {
        "code": "api.success",
        "message": "2 journal(s) archived",
        "archive_id": "48213",
        "confirm_url": "http://127.0.0.1:8080/pa2/journals/confirm/48213",
    },
)
JOURNALS = _operation(
    "Archive journal updates",
    "Journals",
    {
        200: _ARCHIVED,
        201: {**_ARCHIVED, "description": "The same, by the switch `journal_success`."},
        400: _UNREADABLE,
        415: _NO_JSON,
    },
)
REPAYMENTS = _operation(
    "Report repayments",
    "Repayments",
    {
        200: _answer(
            "It is received. That does not mean that every row is right.",
            RepaymentsAnswer,
            {
                "code": "api.success",
                "message": "3 row(s) received",
                "upload_id": 90217,
                "problems": [
                    {
                        "loan_id": "L-00000-9",
                        "details": "No loan with this id is expecting a repayment",
                        "code": "repayment.loan_not_found",
                        "severity": "error",
                    }
                ],
            },
        ),
        400: _UNREADABLE,
        415: _NO_JSON,
    },
)
LOANS = _operation(
    "Find loans",
    "Loans",
    {
        200: _answer("Those that match.", LoansAnswer),
        400: _answer(
            "A number in the query is none, or a switch does not exist.",
            SpringError | SwitchRefusal,
            _spring_error(400, "Bad Request", "Bad Request"),
        ),
    },
)
CHOICES = _operation(
    "List what the partner can choose from",
    "Choices for drafts",
    {
        200: _answer("The list.", Themes | Activities | Locales | Locations),
        400: _answer("A switch does not exist.", SwitchRefusal),
    },
)
OURS: dict[str, Any] = {
    "tags": [_OURS],
    "responses": {403: _answer("A browser sent it from a page elsewhere.", SpringError)},
}
"""What FastAPI is told of all routes that Kiva does not have; and below, of some of them."""
UNKNOWN: dict[int | str, dict[str, Any]] = {404: _answer("There is no such thing.", SpringError)}
NOT_PUBLISHABLE: dict[int | str, dict[str, Any]] = {
    409: _answer("It lacks what makes a loan, or is published already.", SpringError)
}
NO_NUMBER: dict[int | str, dict[str, Any]] = {400: _answer("The id is no number.", SpringError)}
BAD_SWITCHES: dict[int | str, dict[str, Any]] = {
    400: _answer("It is no JSON object, or names a switch that does not exist.", SpringError | SwitchRefusal),
    415: _NO_JSON,
}


def operation_id(route: APIRoute) -> str:
    """What generated clients call an operation: the name of its function, which is there twice for some of ours."""
    return f"sandbox_{route.name}" if _OURS in route.tags else route.name


def document(routes: Sequence[BaseRoute], today: date) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes. PA2 would take the drafts of its examples `today`."""
    described = get_openapi(
        title="Kiva's Partner API (imitation)", version="v3", description=_INTRODUCTION, routes=routes
    )
    paths, components = described["paths"], described["components"]
    for operation in (operation for path in paths.values() for operation in path.values()):
        operation["responses"].pop("422", None)  # FastAPI's own refusal of a query; ours is a 400
        if _OURS in operation["tags"]:
            operation["summary"] = operation.pop("description")
    drafts = {"An individual": _individual(today), "A group": _group(today)}
    for path, method, media_type, model, examples in (
        ("/oauth/token", "post", "application/x-www-form-urlencoded", TokenRequest, {}),
        ("/v3/partner/{partner_id}/loan_draft", "post", "application/json", Draft, drafts),
        ("/v3/partner/{partner_id}/journals", "post", "application/json", Journals, _JOURNALS),
        ("/v3/partner/{partner_id}/repayments", "post", "application/json", Repayments, _REPAYMENTS),
        ("/_sandbox/switches", "patch", "application/json", Switches, _SWITCHED),
    ):
        content: dict[str, Any] = {"schema": {"$ref": _SCHEMA.format(model=model.__name__)}}
        if examples:
            content["examples"] = {summary: {"value": value} for summary, value in examples.items()}
        paths[path][method]["requestBody"] = {"required": True, "content": {media_type: content}}
    bodies: list[tuple[type[BaseModel], Literal["validation"]]] = [
        (model, "validation") for model in (TokenRequest, Draft, Journals, Repayments, Switches)
    ]
    components["schemas"] |= models_json_schema(bodies, ref_template=_SCHEMA)[1]["$defs"]
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    components["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "The `access_token` of `POST /oauth/token`. Scopes: `read:loans`, `create:loan_draft`, "
            "`create:journal_update`, `create:repayment`.",
        }
    }
    return described


# --- examples --------------------------------------------------------------------------------------------------------

_PHOTO = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNwaEgAAAIkASHFUYmIAAAAAElFTkSuQmCC"
)
_JOURNALS = {
    "Two borrowers": {
        "journals": [
            {
                "internal_loan_id": "L-70011-1",
                "internal_client_id": "C-18011",
                "subject": "A second stall",
                "body": "With the first profits she rented a second table, and her daughter sells there after school.",
            },
            {
                "internal_loan_id": "L-70018-1",
                "internal_client_id": "C-18018",
                "subject": "Good rains",
                "body": "The harvest came two weeks early.",
            },
        ]
    }
}
_REPAYMENTS = {
    "Three loans, one of them unknown": {
        "repayments": [
            {"loan_id": "L-70011-1", "client_id": "C-18011", "amount": 42000.00},
            {"loan_id": "L-70018-1", "client_id": "C-18018", "amount": 7500.50},
            {"loan_id": "L-00000-9", "client_id": "C-00000", "amount": 100.00},
        ]
    }
}
_SWITCHED = {"Names of answers as in Kiva's Swagger": {"naming": "camel"}}


def _individual(today: date) -> dict[str, Any]:
    return {
        "activity_id": 61,
        "theme_type_id": 48,
        "description_language_id": 1,
        "location": "Kisumu: Kenya",
        "currency": "KES",
        "loanuse": "to restock her stall with maize flour and cooking oil.",
        "description": "Akinyi has run a food stall beside the bus park for six years.",
        "client_waiver_signed": True,
        "disburse_time": _after(today, 7),
        "entreps": [
            {
                "client_id": "C-20418",
                "loan_id": "L-77310-2",
                "first_name": "Akinyi",
                "last_name": "Odhiambo",
                "gender": "female",
                "amount": 60000.00,
            }
        ],
        "schedule": [
            {"date": _after(today, 37), "principal": 20000.00, "interest": 900.00},
            {"date": _after(today, 67), "principal": 20000.00, "interest": 600.00},
            {"date": _after(today, 97), "principal": 20000.00, "interest": 300.00},
        ],
        "image_encoded": _PHOTO,
    }


def _group(today: date) -> dict[str, Any]:
    return {
        "activity_id": 12,
        "theme_type_id": 105,
        "description_language_id": 3,
        "location": "São Domingos: Guinea-Bissau",
        "currency": "XOF",
        "loanuse": "to buy seed and a shared hand pump for the rainy season.",
        "description": "Three neighbours farm vegetables on adjoining plots.",
        "client_waiver_signed": True,
        "disburse_time": _after(today, 7),
        "group_name": "Horta Nova",
        "internal_client_id": "G-0310",
        "internal_loan_id": "GL-0310-1",
        "entreps": [
            {
                "client_id": f"C-50{number}",
                "loan_id": f"GL-0310-1-{number}",
                "first_name": first_name,
                "last_name": last_name,
                "gender": gender,
                "amount": amount,
            }
            for number, (first_name, last_name, gender, amount) in enumerate(
                (
                    ("Fatumata", "Baldé", "female", 150000),
                    ("Inácio", "Gomes", "male", 120000),
                    ("Mariama", "Cassamá", "female", 90000),
                ),
                start=1,
            )
        ],
        "not_pictured": [False, True, False],
        "schedule": [
            {"date": _after(today, 67), "principal": 180000, "interest": 5400},
            {"date": _after(today, 127), "principal": 180000, "interest": 3600},
        ],
        "image_encoded": _PHOTO,
    }


def _after(today: date, days: int) -> str:
    return (today + timedelta(days=days)).isoformat()
