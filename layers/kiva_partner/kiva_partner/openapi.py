"""This API as an OpenAPI 3.1 document, made from the very types that check the messages."""

import re
from typing import Any

import msgspec

from . import examples
from .client import CONFIG_NAMES
from .decisions import Choice, Decision
from .ledger import State
from .messages import MAX_MESSAGE_BYTES, MAX_ROWS, Kind, json_schema
from .sending import Pause, Resume

_OVERVIEW = f"""
Every event reaches Kiva once, or a person is told exactly why not.

**Requests are signed** with AWS Signature Version 4 for the service `execute-api`; the caller's policy must allow
`execute-api:Invoke` on the route.

**Repeating is always safe.** A submission is known for ever by its reference: the message's own `reference`, or one
made of its ids. The same content under the same reference is answered with what became of it; other content is refused
(409), because Kiva has no update.

**The outcome comes later.** A POST is answered with 202 and a `Location` to read; with the header `Prefer: wait` it is
submitted at once and answered with the outcome. The gateway gives up after 29 s while the work goes on: repeat it then.

| Limit | |
|---|---|
| Message | {MAX_MESSAGE_BYTES:,} bytes; up to 6 MB with an inline photo |
| Rows of a message | {MAX_ROWS:,} journals or repayments, 100 borrowers, 500 dates |
| Photo | PNG, JPEG or GIF of 5 MiB; above 4 MiB only through the payload bucket (`photo`) |
| Amounts | at most two decimals |
| Requests | 20 a second, in bursts of 40 |

An unknown field is an error, and so is `null`: what is optional is left out.

**Errors are problem details** (RFC 9457), which name fields and rules and never a value. These are the gateway's own,
as `{{"message": "…"}}`: 403 (signature or permission), 429 (too many requests), 504 (no answer within 29 s).
"""
_SUBMIT, _OUTCOMES, _PEOPLE, _KIVA, _STACK = "Submit", "Outcomes", "People", "Kiva", "Stack"
_TAGS = {
    _SUBMIT: "What a producer sends; the queues take the same messages",
    _OUTCOMES: "What became of it",
    _PEOPLE: "What waits for a person, and what people say of it",
    _KIVA: "Read from Kiva as it is there",
    _STACK: "Whether it is set up right, and this document",
}
_SERVER = {
    "url": "https://{api}.execute-api.{region}.amazonaws.com/v1",
    "description": "The stack's output `ApiUrl`",
    "variables": {
        "api": {"default": "api-id", "description": "The API's id, which AWS has chosen"},
        "region": {"default": "us-east-1", "description": "The region that the stack is in"},
    },
}
_ROUTES = {
    Kind.LOAN_DRAFT: ("/loan-drafts", "Submit a loan draft; a person publishes it in PA2"),
    Kind.JOURNAL_UPDATE: ("/journal-updates", "Submit borrower updates; a person confirms them in PA2"),
    Kind.REPAYMENT: ("/repayments", "Submit repayments of a month; a person finalises the upload in PA2"),
}
_MORE = {
    Kind.LOAN_DRAFT: """
One entry in `entreps` is an individual loan. Two or more are a group, which needs `group_name`, `internal_client_id`,
`internal_loan_id` and `not_pictured`. Without a `reference`, the loan id is it (of a group: `internal_loan_id`).
""",
    Kind.JOURNAL_UPDATE: """
Each is known as `reference:loan id`, or without a `reference` by its loan id and a hash of subject and body.
Three-column partners give `internal_client_id`.
""",
    Kind.REPAYMENT: """
What `amount` means was agreed with Kiva (the stack's `RepaymentAmountMode`): the principal repaid to date, the
principal outstanding, or an instalment. Each row is known as `reference:loan id`, or without a `reference` as
`period:loan id:amount` or `loan id:payment_id`. Three-column partners give `client_id`.
""",
}


def document() -> dict[str, Any]:
    """The whole document, as plain JSON values."""
    schemas: dict[str, Any] = {
        "Submission": _SUBMISSION,
        "Submissions": _SUBMISSIONS,
        "Waiting": _WAITING,
        "Done": _DONE,
        "Sending": _SENDING,
        "Checks": _CHECKS,
        "Health": _HEALTH,
        "Problem": _PROBLEM,
    }
    paths: dict[str, Any] = {}
    for kind, (path, text) in _ROUTES.items():
        schema, parts = json_schema(kind, "#/components/schemas/{name}")
        schemas |= parts
        paths[path] = {"post": _submit(kind, text, schema)}
    paths |= _READS
    (decision, pause, resume), parts = msgspec.json.schema_components(
        [Decision, Pause, Resume], ref_template="#/components/schemas/{name}"
    )
    schemas |= parts
    paths["/submissions/{kind}/{reference}/decision"] = {"post": _decide(decision)}
    paths["/waiting/{kind}/{reference}/done"] = {"post": _mark_done()}
    paths["/pause"] = {"post": _pause(pause)}
    paths["/resume"] = {"post": _resume(resume)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kiva-relay",
            "version": "1",
            "description": _flowing(_OVERVIEW),
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [_SERVER],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "security": [{"iam": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "iam": {
                    "type": "apiKey",
                    "name": "Authorization",
                    "in": "header",
                    "description": "AWS Signature Version 4 for the service `execute-api`",
                    "x-amazon-apigateway-authtype": "awsSigv4",
                }
            },
        },
    }


def _flowing(text: str) -> str:
    """Markdown without this file's line ends, each of which Swagger UI would show as a break."""
    return re.sub(r"(?<![|\n])\n(?![|\n])", " ", text.strip())


def _json(name: str, media_type: str = "application/json", example: Any = None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    return {media_type: content | ({"example": example} if example else {})}


def _answer(text: str, name: str, example: Any = None) -> dict[str, Any]:
    return {"description": text, "content": _json(name, example=example)}


def _problem(text: str, example: Any = None) -> dict[str, Any]:
    return {"description": text, "content": _json("Problem", "application/problem+json", example)}


def _submit(kind: Kind, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    location = {"Location": {"description": "Where its outcome is to be read", "schema": {"type": "string"}}}
    shown = examples.answers(kind)
    return {
        "tags": [_SUBMIT],
        "summary": text,
        "description": _flowing(_MORE[kind]),
        "operationId": f"submit_{kind}",
        "parameters": [
            {
                "name": "Prefer",
                "in": "header",
                "schema": {"type": "string"},
                "description": "`wait` (RFC 7240) submits at once and answers with the outcome",
            }
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "examples": examples.REQUESTS[kind]}},
        },
        "responses": {
            "200": {**_answer("It has its outcome", "Submissions", shown["200"]), "headers": location},
            "202": {**_answer("Taken in; its outcome comes later", "Submissions", shown["202"]), "headers": location},
            "400": _problem("The message breaks a rule: `errors` names field and rule", shown["400"]),
            "409": _problem("The reference belongs to other content", shown["409"]),
            "413": _problem("The message is too large"),
            "415": _problem("The message is not JSON"),
            "422": _problem("Kiva refused it; nothing was created", shown["422"]),
            "502": _problem("Kiva refuses this stack's own settings; its operator is alarmed"),
            "503": _problem("It was not taken in; send it again"),
        },
    }


def _decide(schema: dict[str, Any]) -> dict[str, Any]:
    later = {"description": "Seconds, where waiting helps", "schema": {"type": "integer"}}
    return {
        "tags": [_PEOPLE],
        "summary": "Say what is true of an UNKNOWN submission and of those of its call, or give up one that is STUCK",
        "operationId": "decide_submission",
        "parameters": [
            _parameter("kind", "Which kind", where="path", **_KIND),
            _parameter("reference", "The reference of the submission", where="path"),
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "examples": examples.DECISIONS}},
        },
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
        "tags": [_PEOPLE],
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


def _pause(schema: dict[str, Any]) -> dict[str, Any]:
    text = """
From then on nothing of the kind is sent to Kiva, by a queue or by the API; without a kind nothing at all. What is under
way ends as ever. Messages wait in their queues, whose seven days go on. Repeating it changes nothing: the first stands.
"""
    return _say("Have a kind, or everything, not be sent until somebody resumes it", text, "pause", schema)


def _resume(schema: dict[str, Any]) -> dict[str, Any]:
    text = """
With `restored` it ends no pause. It says that somebody has judged what was sent since the backup that the ledger was
restored from; until then nothing is sent.
"""
    return _say("End a pause, or confirm a ledger that was restored from a backup", text, "resume", schema)


def _say(summary: str, text: str, operation: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "tags": [_PEOPLE],
        "summary": summary,
        "description": _flowing(text),
        "operationId": operation,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "examples": getattr(examples, f"{operation.upper()}S")}},
        },
        "responses": {
            "200": _answer("How it stands with sending now", "Sending"),
            "400": _problem("It breaks a rule: `errors` names field and rule"),
            "503": _problem("Nobody knows whether it was written down; send it again"),
        },
    }


def _parameter(name: str, text: str, *, where: str = "query", **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": text,
        "schema": {"type": "string", **schema},
    }


def _read(tag: str, text: str, operation: str, answer: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
    responses = {"200": answer, "400": _problem("A parameter is wrong"), "404": _problem("There is no such thing")}
    asked = {"parameters": list(parameters), "responses": responses}
    return {"get": {"tags": [tag], "summary": text, "operationId": operation, **asked}}


def _object(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": {"type": "object"}}}}


_KIND: dict[str, Any] = {"enum": list(Kind)}
_READS: dict[str, Any] = {
    "/submissions": _read(
        _OUTCOMES,
        "Submissions of a kind in a state, the latest change first; or those of a loan, the newest first",
        "list_submissions",
        _answer("Some submissions, and the cursor of the next page", "Submissions"),
        _parameter("kind", "Which kind; needed unless a loan is given", **_KIND),
        _parameter("state", "Which state; needed unless a loan is given", enum=list(State)),
        _parameter("loan_id", "Of which loan, of every kind and in every state"),
        _parameter("since", "Only what has changed since this day (UTC)", format="date"),
        _parameter("limit", "1 to 1000; 100 if not given", type="integer"),
        _parameter("cursor", "`cursor` of the page before, of the same list; another one is refused"),
    ),
    "/submissions/{kind}/{reference}": _read(
        _OUTCOMES,
        "What became of a submission, or of all submissions of a message",
        "read_submission",
        _answer("What is known", "Submissions"),
        _parameter("kind", "Which kind", where="path", **_KIND),
        _parameter("reference", "The reference of the submission or of the message", where="path"),
        _parameter(
            "cursor", "`cursor` of the answer before, where a message has more submissions than one answer holds"
        ),
    ),
    "/waiting": _read(
        _PEOPLE,
        "What waits for a person: outcomes to decide, refusals, and what is to be published, confirmed or finalised",
        "list_waiting",
        _answer("All of it, the latest first, but for what was marked as done", "Waiting"),
        _parameter("days", "Of how many days, 1 to 400; 60 if not given", type="integer"),
    ),
    "/check": _read(
        _STACK,
        "Whether Kiva takes the credentials, for this partner, with every scope; asks for a new token",
        "check",
        _answer("What was looked at, and the mend of what is not right", "Checks"),
    ),
    "/health": _read(
        _STACK,
        "How the stack stands right now; Kiva is not asked",
        "health",
        _answer("What is in doubt, open or waiting; what is not is left out", "Health"),
    ),
    "/loans": _read(
        _KIVA,
        "Kiva's loans of this partner",
        "list_loans",
        _object("`total_records` and `loans`, as Kiva gives them"),
        _parameter("query", "A name, a loan id, a client id or a Kiva id"),
        _parameter("status", "One of Kiva's statuses, such as payingBack"),
        _parameter("offset", "From 0", type="integer"),
        _parameter("limit", "1 to 300", type="integer"),
    ),
    "/config/{name}": _read(
        _KIVA,
        "One of Kiva's lists for this partner",
        "read_config",
        _object("The list, and `as_of_date_time`"),
        _parameter("name", "Which list", where="path", enum=list(CONFIG_NAMES)),
    ),
    "/openapi.json": _read(_STACK, "This document", "read_openapi", _object("An OpenAPI 3.1 document")),
}

_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_WORD: dict[str, Any] = {
    "type": "object",
    "required": ["by", "reason", "at"],
    "properties": {"by": {"type": "string", "description": "The ARN of who said so"}, "reason": _TEXT, "at": _TIME},
}
_KEPT_BACK: dict[str, Any] = {
    "paused": {**_WORD, "description": "Somebody paused it: nothing of the kind is sent before it is resumed"},
    "resumed": {**_WORD, "description": "Who ended its last pause"},
    "open_until": {
        **_TIME,
        "description": "The circuit is open: nothing of the kind is sent before, and then one on trial",
    },
}
_RESTORED = {
    "type": "boolean",
    "description": "The ledger was restored from a backup; nothing is sent before somebody confirms it",
}
_SENDING: dict[str, Any] = {
    "type": "object",
    "required": ["restored", "says", "kinds"],
    "properties": {
        "restored": _RESTORED,
        "says": {"type": "array", "items": _TEXT, "description": "What keeps anything from being sent, to be read"},
        "kinds": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["kind"],
                "properties": {"kind": {"type": "string", **_KIND}, **_KEPT_BACK},
            },
        },
    },
}
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
        "problems": {
            "type": "array",
            "items": {"type": "object"},
            "description": "What Kiva found, the worst first: severity, code, details; and the loan_id that it names,"
            " where that is not simply this one",
        },
        "reason": _TEXT,
        "reopened": {"type": "boolean", "description": "Refused, and to be sent once more with its event"},
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
        "amount": {"type": "string", "description": "What a repayment states for its loan and month"},
        "replaces": {"type": "string", "description": "The amount of this loan and month that Kiva took before"},
        "replaced_by": {"type": "string", "description": "The amount of this loan and month that Kiva took after"},
        "stands_last": {"type": "string", "description": "The one that Kiva took last, where that is another one"},
        "in_doubt": {
            "type": "array",
            "items": _TEXT,
            "description": "Others of this loan and month of which nobody knows whether Kiva has them",
        },
        "not_sent": {
            "type": "string",
            "description": "It came again after another amount of its month, and was not sent again",
        },
    },
}
_LIST_OF_SUBMISSIONS: dict[str, Any] = {"type": "array", "items": {"$ref": "#/components/schemas/Submission"}}
_SUBMISSIONS: dict[str, Any] = {
    "description": "One submission, or several; of a message with the count of each state, over all answers",
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
                "more": {"type": "integer", "description": "How many of a message are not in this answer"},
                "cursor": {"type": "string", "description": "Reads on from here, where there is more"},
            },
        },
    ],
}
_WAITING: dict[str, Any] = {
    "type": "object",
    "required": [
        *("days", "sending", "counts", "unknown", "stuck", "rejected", "not_sent", "drafts", "archives", "uploads"),
    ],
    "properties": {
        "days": {"type": "integer"},
        "sending": {"$ref": "#/components/schemas/Sending"},
        "counts": {
            "type": "object",
            "description": "How much of each sort waits. Of each no more than the latest 500 are listed",
            "required": ["unknown", "stuck", "rejected", "not_sent", "uploads", "archives", "drafts"],
            "additionalProperties": {"type": "integer"},
        },
        "unknown": {
            "type": "array",
            "description": "Calls to Kiva of which nobody knows what they came to; each is decided as a whole",
            "items": {
                "type": "object",
                "required": [
                    "kind",
                    "call_id",
                    "sent_at",
                    "decidable_at",
                    "look_in",
                    "look_for",
                    "rows",
                    "submissions",
                ],
                "properties": {
                    "kind": {"type": "string", **_KIND},
                    "call_id": _TEXT,
                    "sent_at": _TIME,
                    "decidable_at": {**_TIME, "description": "Decisions before this time are refused"},
                    "look_in": {"type": "string", "description": "Where in PA2 a person sees whether Kiva has it"},
                    "look_for": _TEXT,
                    "kiva_reference": {"type": "string", "description": "Kiva's id of it, where an answer told it"},
                    "rows": {"type": "integer", "description": "How many submissions; one is listed at least"},
                    "submissions": _LIST_OF_SUBMISSIONS,
                },
            },
        },
        "stuck": {
            **_LIST_OF_SUBMISSIONS,
            "description": "Kiva has not got these, and no message brings them there by itself: `reason` says why",
        },
        "rejected": _LIST_OF_SUBMISSIONS,
        "not_sent": {
            **_LIST_OF_SUBMISSIONS,
            "description": "Amounts that came again after another one of their month, and were not sent again",
        },
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
                "required": ["upload_id", "accepted_at", "rows", "periods", "problem_rows", "problems"],
                "properties": {
                    "upload_id": _TEXT,
                    "accepted_at": _TIME,
                    "rows": {"type": "integer"},
                    "periods": {"type": "array", "items": _TEXT},
                    "problem_rows": {"type": "integer", "description": "How many rows have a problem"},
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
_COUNT: dict[str, Any] = {
    "type": "object",
    "required": ["submissions", "since"],
    "properties": {
        "submissions": {"type": "integer"},
        "more": {"type": "boolean", "description": "There are more than were counted, all of them changed later"},
        "since": _TIME,
        "reason": {"type": "string", "description": "Of what is to be retried: why the last one was not sent"},
        "calls": {"type": "integer", "description": "Of what is UNKNOWN: calls to Kiva, each decided as a whole"},
        "decidable_at": {**_TIME, "description": "Of what is UNKNOWN: when the first of its calls can be decided"},
    },
}
_RUN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "ended_at": _TIME,
        "result": {"type": "object", "description": "How much it did of each thing"},
    },
}
_HEALTH: dict[str, Any] = {
    "type": "object",
    "required": ["at", "environment", "partner_id", "token", "housekeeping", "digest", "restored", "kinds"],
    "properties": {
        "at": _TIME,
        "environment": {"type": "string", "enum": ["stage", "production", "sandbox"]},
        "partner_id": _TEXT,
        "token": {
            "type": "object",
            "description": "The token that all functions share, never itself; empty where there is none",
            "properties": {
                "expires_at": _TIME,
                "scopes_missing": {"type": "array", "items": _TEXT},
                "problem": {"type": "string", "description": "Why it cannot be read"},
            },
        },
        "housekeeping": {**_RUN, "description": "Its last run that ended well; empty before the first"},
        "digest": {**_RUN, "description": "The last one; empty before the first"},
        "restored": _RESTORED,
        "kinds": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["kind"],
                "properties": {
                    "kind": {"type": "string", **_KIND},
                    **_KEPT_BACK,
                    **{it.lower(): _COUNT for it in (State.QUEUED, State.RETRY, State.STUCK, State.UNKNOWN)},
                    "refused": {**_COUNT, "description": "What Kiva refused within the last hour"},
                },
            },
        },
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
