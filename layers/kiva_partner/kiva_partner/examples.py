"""What the OpenAPI document shows as examples. Everybody in here is invented.

Requests are written down; answers are those of the API itself. Only the console imports this, through `openapi`.
"""

import json
from typing import Any

from . import api
from .errors import InvalidMessage, Violation
from .ledger import Outcome, Row, State
from .messages import Kind, Message, parse
from .settings import AmountMode, PartnerRules

REQUESTS: dict[Kind, dict[str, Any]] = {
    Kind.LOAN_DRAFT: {
        "individual": {
            "summary": "An individual loan, with a photo that lies in the bucket",
            "value": {
                "activity_id": 61,
                "theme_type_id": 48,
                "description_language_id": 1,
                "location": "Kisumu: Kenya",
                "currency": "KES",
                "loanuse": "to restock her stall with maize flour and cooking oil.",
                "description": "Akinyi has run a food stall beside the bus park for six years.",
                "client_waiver_signed": True,
                "disburse_time": "2026-12-01",
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
                    {"date": "2027-01-01", "principal": 30000.00, "interest": 900.00},
                    {"date": "2027-02-01", "principal": 30000.00, "interest": 450.00},
                ],
                "photo": {"s3_key": "photos/L-77310-2.jpg"},
            },
        },
        "group": {
            "summary": "A group of two, under a reference of the producer's own",
            "value": {
                "reference": "mis-2026-004711",
                "activity_id": 61,
                "theme_type_id": 48,
                "description_language_id": 1,
                "location": "Kisumu: Kenya",
                "currency": "KES",
                "loanuse": "to restock their stalls with maize flour and cooking oil.",
                "description": "Two sisters have run food stalls beside the bus park for six years.",
                "client_waiver_signed": True,
                "disburse_time": "2026-12-01",
                "group_name": "Tumaini",
                "internal_client_id": "G-0513",
                "internal_loan_id": "GL-0513-1",
                "not_pictured": [False, True],
                "entreps": [
                    {
                        "client_id": "C-20419",
                        "loan_id": "L-77311-1",
                        "first_name": "Wanjiru",
                        "last_name": "Kamau",
                        "gender": "female",
                        "amount": 60000.00,
                    },
                    {
                        "client_id": "C-20420",
                        "loan_id": "L-77312-1",
                        "first_name": "Njeri",
                        "last_name": "Kamau",
                        "gender": "female",
                        "amount": 40000.00,
                    },
                ],
                "schedule": [
                    {"date": "2027-01-01", "principal": 50000.00, "interest": 1500.00},
                    {"date": "2027-02-01", "principal": 50000.00, "interest": 750.00},
                ],
                "photo": {"s3_key": "photos/GL-0513-1.jpg"},
            },
        },
    },
    Kind.JOURNAL_UPDATE: {
        "visit": {
            "summary": "Two updates under a reference of the producer's own",
            "value": {
                "reference": "visit-2026-11-0193",
                "journals": [
                    {
                        "internal_loan_id": "L-70011-1",
                        "internal_client_id": "C-18011",
                        "subject": "A second stall",
                        "body": "With the first profits Akinyi rented a second table.",
                        "image_url": "https://media.example.org/journals/18011.jpg",
                    },
                    {
                        "internal_loan_id": "L-70012-1",
                        "internal_client_id": "C-18012",
                        "subject": "The shop is painted",
                        "body": "Njeri painted her shop, and put up a sign that can be read from the road.",
                    },
                ],
            },
        }
    },
    Kind.REPAYMENT: {
        "month": {
            "summary": "A month's report",
            "value": {
                "period": "2026-10",
                "repayments": [
                    {"loan_id": "L-70011-1", "client_id": "C-18011", "amount": 42000.00},
                    {"loan_id": "L-70012-1", "client_id": "C-18012", "amount": 8250.50},
                ],
            },
        },
        "payments": {
            "summary": "Single payments (RepaymentAmountMode=instalment), each with the producer's own id of it",
            "value": {
                "period": "2026-10",
                "repayments": [
                    {"loan_id": "L-70011-1", "client_id": "C-18011", "amount": 3500.00, "payment_id": "P-88120"}
                ],
            },
        },
    },
}

DECISIONS: dict[str, Any] = {
    "accepted": {
        "summary": "Kiva has it, under this reference",
        "value": {
            "decision": "accepted",
            "kiva_reference": "69c919c8-884b-460a-86d4-8da7ab596d57",
            "reason": "found in PA2 > Loans > Drafts",
        },
    },
    "accepted-except": {
        "summary": "Kiva has the upload, and has not taken these rows of it",
        "value": {
            "decision": "accepted",
            "kiva_reference": "90001",
            "except": ["2026-10:L-90017-1:5250.00"],
            "reason": "PA2 > Repayments shows the upload without this loan",
        },
    },
    "send-again": {
        "summary": "Kiva has it not",
        "value": {"decision": "send-again", "reason": "neither among the drafts nor among the loans"},
    },
    "abandon": {
        "summary": "It is not to be sent, whether Kiva has it or not",
        "value": {"decision": "abandon", "reason": "the borrower has withdrawn"},
    },
    "reopen": {
        "summary": "Kiva refused it, and nothing is wrong with it: its event may be sent again",
        "value": {"decision": "reopen", "reason": "the location has been added in PA2"},
    },
}


_RULES = PartnerRules(needs_client_id=True, amount_mode=AmountMode.CUMULATIVE_PRINCIPAL, max_image_bytes=0)
_TAKEN_IN = "2026-11-25T09:22:00.000000+00:00"
_SETTLED = "2026-11-25T09:22:04.000000+00:00"
_CALL = "0b5e7f8a-3f0e-4d8e-9a51-5f0c1f3c7a90"
_KIVA = {
    Kind.LOAN_DRAFT: {"loan_draft_uuid": "69c919c8-884b-460a-86d4-8da7ab596d57"},
    Kind.JOURNAL_UPDATE: {
        "archive_id": "48002",
        "confirm_url": "https://partners.kiva.org/pa2/journals/confirm/48002",
    },
    Kind.REPAYMENT: {"upload_id": "90001"},
}
_REFUSED = {
    Kind.LOAN_DRAFT: Outcome(
        State.REJECTED,
        "Kiva refused it with HTTP 400: location is not defined for this partner",
        http_status=400,
        call_id=_CALL,
    ),
    Kind.JOURNAL_UPDATE: Outcome(State.REJECTED, "Kiva refused it with HTTP 400", http_status=400, call_id=_CALL),
    Kind.REPAYMENT: Outcome(
        State.REJECTED,
        "Kiva took the upload but refused this row",
        _KIVA[Kind.REPAYMENT],
        (
            {
                "severity": "error",
                "code": "repayment.loan_not_found",
                "details": "No loan with this id is expecting a repayment",
            },
        ),
        call_id=_CALL,
    ),
}
_WRONG = {
    Kind.LOAN_DRAFT: Violation("$.entreps[0].amount", "must have at most two decimals"),
    Kind.JOURNAL_UPDATE: Violation("$.journals[1].title", "is not a field of this kind of message"),
    Kind.REPAYMENT: Violation("$.repayments[1].loan_id", "is twice in this message"),
}


def answers(kind: Kind) -> dict[str, Any]:
    """By status, what the API itself answers to the first example of a kind, and to some that are wrong."""
    (first, *_) = REQUESTS[kind].values()
    message = parse(kind, json.dumps(first["value"]), _RULES)
    accepted = Outcome(State.ACCEPTED, kiva=_KIVA[kind], http_status=200, call_id=_CALL)
    every = [
        api.answer(message, _rows(message, State.QUEUED), {}),
        api.answer(message, _rows(message, State.ACCEPTED, accepted), {}),
        api.answer(message, _rows(message, State.REJECTED, _REFUSED[kind]), {}),
        api.problem(InvalidMessage(_WRONG[kind])),
        api.conflict([each.reference for each in message.submissions]),
    ]
    return {str(answer.status): answer.body for answer in every}


def _rows(message: Message, state: State, outcome: Outcome | None = None) -> list[Row]:
    return [
        Row(
            message.kind,
            each.reference,
            each.loan_id,
            state,
            fingerprint=each.fingerprint,
            created_at=_TAKEN_IN,
            updated_at=_SETTLED if outcome else _TAKEN_IN,
            attempts=1 if outcome else 0,
            period=each.period,
            outcome=outcome,
        )
        for each in message.submissions
    ]


PAUSES: dict[str, Any] = {
    "kind": {
        "summary": "Of one kind",
        "value": {"kind": "repayment", "reason": "October was exported twice; finance looks into it"},
    },
    "all": {"summary": "Of everything", "value": {"reason": "Kiva's maintenance, Saturday 02:00 to 06:00 UTC"}},
}

RESUMES: dict[str, Any] = {
    "kind": {"summary": "Of one kind", "value": {"kind": "repayment", "reason": "the second export is withdrawn"}},
    "all": {"summary": "Of everything", "value": {"reason": "Kiva is back"}},
    "restored": {
        "summary": "The ledger was restored from a backup, and what was sent since then is judged",
        "value": {"restored": True, "reason": "nothing was sent between 02:10 and 02:55 by the logs"},
    },
}
