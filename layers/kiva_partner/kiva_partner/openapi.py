"""This API as an OpenAPI 3.1 document, made from the very types that check the messages."""

from typing import Any

import msgspec

from .client import CONFIG_NAMES
from .decisions import Choice, Decision
from .ledger import State
from .messages import Kind, json_schema

_ROUTES = {
    Kind.LOAN_DRAFT: ("/loan-drafts", "Submit a loan draft; a person publishes it in PA2"),
    Kind.JOURNAL_UPDATE: ("/journal-updates", "Submit borrower updates; a person confirms them in PA2"),
    Kind.REPAYMENT: ("/repayments", "Submit repayments of a month; a person finalises the upload in PA2"),
}


def document() -> dict[str, Any]:
    """The whole document, as plain JSON values."""
    schemas: dict[str, Any] = {
        "Submission": _SUBMISSION,
        "Submissions": _SUBMISSIONS,
        "Waiting": _WAITING,
        "Done": _DONE,
        "Checks": _CHECKS,
        "Problem": _PROBLEM,
    }
    paths: dict[str, Any] = {}
    for kind, (path, text) in _ROUTES.items():
        schema, parts = json_schema(kind, "#/components/schemas/{name}")
        schemas |= parts
        paths[path] = {"post": _submit(kind, text, schema)}
    paths |= _READS
    (decision,), parts = msgspec.json.schema_components([Decision], ref_template="#/components/schemas/{name}")
    schemas |= parts
    paths["/submissions/{kind}/{reference}/decision"] = {"post": _decide(decision)}
    paths["/waiting/{kind}/{reference}/done"] = {"post": _mark_done()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kiva-relay",
            "version": "1",
            "description": "Every event reaches Kiva once, or a person is told exactly why not. Repeat a POST freely.",
        },
        "security": [{"iam": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "iam": {
                    "type": "apiKey",
                    "name": "Authorization",
                    "in": "header",
                    "description": "AWS Signature Version 4 for the service execute-api",
                    "x-amazon-apigateway-authtype": "awsSigv4",
                }
            },
        },
    }


def _json(name: str, media_type: str = "application/json") -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _answer(text: str, name: str) -> dict[str, Any]:
    return {"description": text, "content": _json(name)}


def _problem(text: str) -> dict[str, Any]:
    return {"description": text, "content": _json("Problem", "application/problem+json")}


def _submit(kind: Kind, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    location = {"Location": {"description": "Where its outcome is to be read", "schema": {"type": "string"}}}
    return {
        "summary": text,
        "operationId": f"submit_{kind}",
        "parameters": [
            {
                "name": "Prefer",
                "in": "header",
                "schema": {"type": "string"},
                "description": "`wait` (RFC 7240) submits at once and answers with the outcome",
            }
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {**_answer("It has its outcome", "Submissions"), "headers": location},
            "202": {**_answer("Taken in; its outcome comes later", "Submissions"), "headers": location},
            "400": _problem("The message breaks a rule: `errors` names field and rule"),
            "409": _problem("The reference belongs to other content"),
            "413": _problem("The message is too large"),
            "415": _problem("The message is not JSON"),
            "422": _problem("Kiva refused it; nothing was created"),
            "503": _problem("It was not taken in; send it again"),
        },
    }


def _decide(schema: dict[str, Any]) -> dict[str, Any]:
    later = {"description": "Seconds, where waiting helps", "schema": {"type": "integer"}}
    return {
        "summary": "Say what is true of an UNKNOWN submission; those of the same call are decided with it",
        "operationId": "decide_submission",
        "parameters": [
            _parameter("kind", "Which kind", where="path", **_KIND),
            _parameter("reference", "The reference of the submission", where="path"),
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": _answer("Decided: the submission, or all of its call", "Submissions"),
            "400": _problem("The decision breaks a rule: `errors` names field and rule"),
            "404": _problem("There is no such submission"),
            "409": {
                **_problem("It does not wait for a decision, or not yet, or was not kept and cannot be sent again"),
                "headers": {"Retry-After": later},
            },
            "503": _problem("It was not decided; send it again"),
        },
    }


def _mark_done() -> dict[str, Any]:
    return {
        "summary": "Say that a person has published, confirmed or finalised it, or has seen to what was refused",
        "operationId": "mark_done",
        "parameters": [
            _parameter("kind", "Which kind", where="path", **_KIND),
            _parameter(
                "reference", "Kiva's id of the draft, archive or upload; of what was refused, its own", where="path"
            ),
        ],
        "responses": {"200": _answer("It waits no longer", "Done"), "400": _problem("The kind or reference is none")},
    }


def _parameter(name: str, text: str, *, where: str = "query", **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": text,
        "schema": {"type": "string", **schema},
    }


def _read(text: str, operation: str, answer: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
    responses = {"200": answer, "400": _problem("A parameter is wrong"), "404": _problem("There is no such thing")}
    return {"get": {"summary": text, "operationId": operation, "parameters": list(parameters), "responses": responses}}


def _object(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": {"type": "object"}}}}


_KIND: dict[str, Any] = {"enum": list(Kind)}
_READS: dict[str, Any] = {
    "/submissions": _read(
        "Submissions of a kind in a state, the latest change first; or those of a loan, the newest first",
        "list_submissions",
        _answer("Some submissions, and the cursor of the next page", "Submissions"),
        _parameter("kind", "Which kind; needed unless a loan is given", **_KIND),
        _parameter("state", "Which state; needed unless a loan is given", enum=list(State)),
        _parameter("loan_id", "Of which loan: its latest 100, of every kind and in every state"),
        _parameter("since", "Only what has changed since this day (UTC)", format="date"),
        _parameter("limit", "1 to 1000; 100 if not given", type="integer"),
        _parameter("cursor", "`cursor` of the page before"),
    ),
    "/submissions/{kind}/{reference}": _read(
        "What became of a submission, or of all submissions of a message",
        "read_submission",
        _answer("What is known", "Submissions"),
        _parameter("kind", "Which kind", where="path", **_KIND),
        _parameter("reference", "The reference of the submission or of the message", where="path"),
    ),
    "/waiting": _read(
        "What waits for a person: outcomes to decide, refusals, and what is to be published, confirmed or finalised",
        "list_waiting",
        _answer("All of it, the latest first, but for what was marked as done", "Waiting"),
        _parameter("days", "Of how many days, 1 to 400; 60 if not given", type="integer"),
    ),
    "/check": _read(
        "Whether Kiva takes the credentials, for this partner, with every scope; asks for a new token",
        "check",
        _answer("What was looked at, and the mend of what is not right", "Checks"),
    ),
    "/loans": _read(
        "Kiva's loans of this partner",
        "list_loans",
        _object("`total_records` and `loans`, as Kiva gives them"),
        _parameter("query", "A name, a loan id, a client id or a Kiva id"),
        _parameter("status", "One of Kiva's statuses, such as payingBack"),
        _parameter("offset", "From 0", type="integer"),
        _parameter("limit", "1 to 300", type="integer"),
    ),
    "/config/{name}": _read(
        "One of Kiva's lists for this partner",
        "read_config",
        _object("The list, and `as_of_date_time`"),
        _parameter("name", "Which list", where="path", enum=list(CONFIG_NAMES)),
    ),
    "/openapi.json": _read("This document", "read_openapi", _object("An OpenAPI 3.1 document")),
}

_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_SUBMISSION: dict[str, Any] = {
    "type": "object",
    "required": ["kind", "reference", "loan_id", "state", "next_step", "attempts", "created_at", "updated_at"],
    "properties": {
        "kind": {"type": "string", **_KIND},
        "reference": _TEXT,
        "loan_id": _TEXT,
        "state": {"type": "string", "enum": list(State)},
        "next_step": {"type": "string", "description": "What a person must do next"},
        "kiva": {
            "type": "object",
            "description": "Kiva's references: loan_draft_uuid, archive_id, confirm_url, upload_id, kiva_id, loan_uuid",
        },
        "problem": {"type": "object", "description": "Kiva's finding on this row: severity, code, details"},
        "reason": _TEXT,
        "period": {"type": "string", "description": "The reporting month of a repayment"},
        "warnings": {"type": "array", "items": _TEXT},
        "http_status": {"type": "integer"},
        "call_id": {"type": "string", "description": "The same for all submissions of one call to Kiva"},
        "attempts": {"type": "integer"},
        "decisions": {
            "type": "array",
            "description": "What people, or the policy for its kind, decided about it, oldest first",
            "items": {
                "type": "object",
                "required": ["decision", "reason", "by", "at"],
                "properties": {
                    "decision": {"type": "string", "enum": list(Choice)},
                    "reason": _TEXT,
                    "by": {"type": "string", "description": "The ARN of who decided, or `policy`"},
                    "at": _TIME,
                    "kiva_reference": _TEXT,
                },
            },
        },
        "created_at": _TIME,
        "updated_at": _TIME,
        "replaces": {"type": "array", "items": _TEXT},
        "replaced_by": {"type": "array", "items": _TEXT},
    },
}
_LIST_OF_SUBMISSIONS: dict[str, Any] = {"type": "array", "items": {"$ref": "#/components/schemas/Submission"}}
_SUBMISSIONS: dict[str, Any] = {
    "description": "One submission, or several of one message with the count of each state",
    "anyOf": [
        {"$ref": "#/components/schemas/Submission"},
        {
            "type": "object",
            "required": ["submissions"],
            "properties": {
                "kind": {"type": "string", **_KIND},
                "reference": _TEXT,
                "states": {"type": "object", "additionalProperties": {"type": "integer"}},
                "submissions": _LIST_OF_SUBMISSIONS,
                "cursor": _TEXT,
            },
        },
    ],
}
_WAITING: dict[str, Any] = {
    "type": "object",
    "required": ["days", "unknown", "rejected", "drafts", "archives", "uploads"],
    "properties": {
        "days": {"type": "integer"},
        "unknown": {
            "type": "array",
            "description": "Calls to Kiva of which nobody knows what they came to; each is decided as a whole",
            "items": {
                "type": "object",
                "required": ["kind", "call_id", "sent_at", "decidable_at", "look_in", "look_for", "submissions"],
                "properties": {
                    "kind": {"type": "string", **_KIND},
                    "call_id": _TEXT,
                    "sent_at": _TIME,
                    "decidable_at": {**_TIME, "description": "Decisions before this time are refused"},
                    "look_in": {"type": "string", "description": "Where in PA2 a person sees whether Kiva has it"},
                    "look_for": _TEXT,
                    "submissions": _LIST_OF_SUBMISSIONS,
                },
            },
        },
        "rejected": _LIST_OF_SUBMISSIONS,
        "drafts": {
            "type": "array",
            "description": "To be completed and published",
            "items": {
                "type": "object",
                "required": ["reference", "loan_id", "loan_draft_uuid", "accepted_at", "warnings"],
                "properties": {
                    "reference": _TEXT,
                    "loan_id": _TEXT,
                    "loan_draft_uuid": _TEXT,
                    "accepted_at": _TIME,
                    "warnings": {"type": "array", "items": _TEXT},
                },
            },
        },
        "archives": {
            "type": "array",
            "description": "Journals to be confirmed",
            "items": {
                "type": "object",
                "required": ["archive_id", "accepted_at", "journals", "loan_ids"],
                "properties": {
                    "archive_id": _TEXT,
                    "confirm_url": {"type": "string", "format": "uri"},
                    "accepted_at": _TIME,
                    "journals": {"type": "integer"},
                    "loan_ids": {"type": "array", "items": _TEXT, "description": "20 of them at most"},
                },
            },
        },
        "uploads": {
            "type": "array",
            "description": "Repayments to be reviewed and finalised",
            "items": {
                "type": "object",
                "required": ["upload_id", "accepted_at", "rows", "periods", "problems"],
                "properties": {
                    "upload_id": _TEXT,
                    "accepted_at": _TIME,
                    "rows": {"type": "integer"},
                    "periods": {"type": "array", "items": _TEXT},
                    "problems": _LIST_OF_SUBMISSIONS,
                },
            },
        },
    },
}
_DONE: dict[str, Any] = {
    "type": "object",
    "required": ["kind", "kiva_reference", "by", "at"],
    "properties": {"kind": {"type": "string", **_KIND}, "kiva_reference": _TEXT, "by": _TEXT, "at": _TIME},
}
_CHECKS: dict[str, Any] = {
    "type": "object",
    "required": ["checks"],
    "properties": {
        "checks": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "ok", "detail"],
                "properties": {
                    "name": _TEXT,
                    "ok": {"type": "boolean"},
                    "detail": _TEXT,
                    "mend": {"type": "string", "description": "What to do where it is not right"},
                },
            },
        }
    },
}
_PROBLEM: dict[str, Any] = {
    "description": "RFC 9457 problem details",
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "errors": {
            "type": "array",
            "items": {"type": "object", "properties": {"field": _TEXT, "rule": _TEXT}},
        },
        "references": {"type": "array", "items": _TEXT},
    },
}
