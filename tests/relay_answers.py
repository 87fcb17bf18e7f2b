"""The relay's API as the coordinator's page sees it.

A fake, because a page's tests need what a real stack shows only after hours (outcomes that may be decided), seldom
(thousands of refused rows), or never (words that attack a browser). What the real API answers is held by `functions/`
and `e2e/`.
"""

import json
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from cli.relay_api import Refused, Reply

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
WHEN = "2026-11-25T09:00:00+00:00"
MOST_SHOWN = 500
UUID = "462cb9b9-a293-4d84-a339-cd976ebb396e"
PARAMETERS = {
    "KivaEnvironment": "stage",
    "KivaPartnerId": "9001",
    "KivaApiBaseUrl": "",
}

WELL = {
    "at": "2026-11-28T10:00:00+00:00",
    "environment": "stage",
    "partner_id": "9001",
    "token": {"expires_at": "2026-11-28T20:15:00+00:00"},
    "housekeeping": {"ended_at": "2026-11-28T09:57:00+00:00", "result": {"token": "kept"}},
    "digest": {"ended_at": "2026-11-27T06:00:05+00:00", "result": {"drafts": 2}},
    "restored": False,
    "kinds": [{"kind": kind} for kind in ("loan_draft", "journal_update", "repayment")],
}
"""What `GET /health` tells of a stack of which nothing is to be told."""


def submission(kind: str = "repayment", number: int = 1, state: str = "REJECTED", **facts: Any) -> dict[str, Any]:
    """A submission as the API shows it."""
    loan_id = f"L-{number}"
    return {
        "kind": kind,
        "reference": {"repayment": f"2026-10:{loan_id}:100.00"}.get(kind, f"{loan_id}~2F{kind[0]}"),
        "loan_id": loan_id,
        "state": state,
        "next_step": "correct it in your system and send it anew",
        "attempts": 1,
        "created_at": WHEN,
        "updated_at": WHEN,
        **facts,
    }


def refused(number: int, **facts: Any) -> dict[str, Any]:
    """A row of a report that Kiva refused."""
    problem = {"severity": "error", "code": "repayment.loan_not_found", "details": "No loan with this id is known"}
    return submission(number=number, period="2026-10", problems=[problem], kiva={"upload_id": "90001"}, **facts)


def call(kind: str, *numbers: int, decidable_at: str = WHEN, **facts: Any) -> dict[str, Any]:
    """A call to Kiva that nobody knows the outcome of."""
    unknown = {"reason": "Kiva gave no answer in time", "http_status": 504, "call_id": f"call-{numbers[0]}", **facts}
    return {
        "kind": kind,
        "call_id": f"call-{numbers[0]}",
        "sent_at": WHEN,
        "decidable_at": decidable_at,
        "look_in": "PA2 > Loans > Drafts, then Loans",
        "look_for": f"loan L-{numbers[0]}",
        "rows": len(numbers),
        "submissions": [submission(kind, number, "UNKNOWN", **unknown) for number in numbers],
    }


def waiting() -> dict[str, Any]:
    """Something in every section."""
    earlier = {"decision": "send-again", "reason": "not in PA2", "by": "arn:aws:iam::1:user/amina", "at": WHEN}
    return {
        "days": 60,
        "sending": {
            "restored": False,
            "says": [],
            "kinds": [{"kind": kind} for kind in ("loan_draft", "journal_update", "repayment")],
        },
        "unknown": [
            call("loan_draft", 1, decisions=[earlier]),
            call("repayment", 2, 3, 4, 5, 6, 7, 8, decidable_at="2026-11-25T13:00:00+00:00"),
        ],
        "stuck": [
            submission("journal_update", 13, "STUCK", reason="its message is a dead letter: it was received 100 times")
        ],
        "rejected": [submission("loan_draft", 10, reason="api.error: activity_id is not valid"), refused(11)],
        "not_sent": [
            submission(
                number=40, state="ACCEPTED", period="2026-10", amount="100.00", replaced_by="2026-10:L-40:120.00"
            )
        ],
        "uploads": [
            {
                "upload_id": "90001",
                "accepted_at": WHEN,
                "rows": 250,
                "periods": ["2026-10"],
                "problems": [refused(11), submission(number=12, state="ACCEPTED", kiva={"upload_id": "90001"})],
            }
        ],
        "archives": [
            {
                "archive_id": "48001",
                "confirm_url": "https://partners.staging.kiva.org/pa2/journals/confirm/48001",
                "accepted_at": WHEN,
                "journals": 3,
                "loan_ids": ["L-20", "L-21", "L-22"],
            }
        ],
        "drafts": [
            {
                "reference": "L-30",
                "loan_id": "L-30",
                "loan_draft_uuid": UUID,
                "accepted_at": WHEN,
                "warnings": ["a photo is missing"],
            },
            {
                "reference": "L-31",
                "loan_id": "L-31",
                "loan_draft_uuid": UUID.replace("4", "5"),
                "accepted_at": WHEN,
                "warnings": [],
            },
        ],
    }


@dataclass
class FakeRelay:
    """Answers like `RelayApi`. `loans` are Kiva's; `fails` is what it raises from now on; `posted` what it was sent."""

    waiting: dict[str, Any] = field(default_factory=waiting)
    submissions: list[dict[str, Any]] = field(default_factory=list)
    loans: list[dict[str, Any]] = field(default_factory=list)
    fails: Exception | None = None
    refuses: Exception | None = None
    asked: list[tuple[tuple[str, ...], dict[str, Any]]] = field(default_factory=list)
    posted: list[tuple[tuple[str, ...], dict[str, Any]]] = field(default_factory=list)

    def get(self, *path: str, **query: str | int) -> Any:
        self.asked.append((path, query))
        if self.fails:
            raise self.fails
        match path:
            case ("waiting",):
                return self._waiting()
            case ("submissions",):
                return {"submissions": [row for row in self._known() if row["loan_id"] == query["loan_id"]]}
            case ("submissions", kind, reference):
                for row in self._known():
                    if (row["kind"], row["reference"]) == (kind, reference):
                        return row
                if message := [row for row in self._known() if row["reference"].startswith(f"{reference}:")]:
                    return {"kind": kind, "reference": reference, "states": {}, "submissions": message}
                raise Refused(404, {"title": "No submission of this kind has this reference"})
            case ("loans",):
                found = [loan for loan in self.loans if query["query"] in loan["internal_loan_id"]]
                return {"total_records": len(found), "loans": found}
        raise AssertionError(path)

    def post(self, *path: str, body: bytes, **_: str) -> Reply:
        self.posted.append((path, json.loads(body)))
        if self.refuses:
            raise self.refuses
        match path:
            case ("submissions", kind, reference, "decision"):
                return Reply(200, self._decide(kind, reference, json.loads(body)["decision"]))
            case ("waiting", kind, reference, "done"):
                self._take_off(reference)
                return Reply(200, {"kind": kind, "kiva_reference": reference, "by": "arn", "at": WHEN})
        raise AssertionError(path)

    def _waiting(self) -> dict[str, Any]:
        """As much of it as the relay lists, and how much there is."""
        told = deepcopy(self.waiting)
        room = MOST_SHOWN
        for unknown in told.get("unknown", ()):
            del unknown.get("submissions", [])[max(room, 1) :]
            room -= len(unknown.get("submissions", ()))
        for upload in told.get("uploads", ()):
            if problems := upload.get("problems"):
                upload["problem_rows"] = len(problems)
                del problems[MOST_SHOWN:]
        names = ("unknown", "stuck", "rejected", "not_sent", "uploads", "archives", "drafts")
        sections = [name for name in names if name in told]
        if len(sections) == len(names):  # else it is a relay of another version
            told["counts"] = {name: len(told[name]) for name in sections}
        for name in sections:
            del told[name][MOST_SHOWN:]
        return told

    def _known(self) -> list[dict[str, Any]]:
        calls = [row for call in self.waiting["unknown"] for row in call["submissions"]]
        return [*self.submissions, *calls, *self.waiting["stuck"], *self.waiting["rejected"]]

    def _decide(self, kind: str, reference: str, decision: str) -> dict[str, Any]:
        state = {"accepted": "ACCEPTED", "send-again": "RETRY", "abandon": "ABANDONED", "reopen": "REJECTED"}[decision]
        for each in list(self.waiting["unknown"]):
            if reference in [row["reference"] for row in each["submissions"]]:
                self.waiting["unknown"].remove(each)
                decided = [{**row, "state": state} for row in each["submissions"]]
                self.submissions += decided
                return {"submissions": decided} if len(decided) > 1 else decided[0]
        for row in list(self.waiting["stuck"]):
            if reference == row["reference"] and decision == "abandon":
                self.waiting["stuck"].remove(row)
                self.submissions.append({**row, "state": state})
                return self.submissions[-1]
        for row in self._known():
            if row["reference"] == reference and decision == "reopen":
                return {**row, "reopened": True}
        raise Refused(409, {"title": "It cannot be decided now", "detail": "somebody else decided it"})

    def _take_off(self, reference: str) -> None:
        names = {
            "rejected": "reference",
            "not_sent": "reference",
            "uploads": "upload_id",
            "archives": "archive_id",
            "drafts": "loan_draft_uuid",
        }
        for section, name in names.items():
            self.waiting[section] = [each for each in self.waiting[section] if each[name] != reference]


def stack_with(api: FakeRelay, **parameters: str) -> Any:
    """A stack whose API is the fake."""
    return SimpleNamespace(name="kiva-relay-stage", parameters={**PARAMETERS, **parameters}, api=api)
