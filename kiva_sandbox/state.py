"""Everything the sandbox has received, and the loans it knows; in memory, and safe to use from several threads."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from threading import Lock
from typing import Any, NamedTuple, TypedDict
from uuid import uuid4

from kiva_sandbox import pa2
from kiva_sandbox.bodies import Draft, Repayment, Repayments
from kiva_sandbox.data import PER_DOLLAR, REPAYABLE, Loan, members, new_loan

CALLS = ("loan_draft", "journals", "repayments", "loans", "config")
RECOMMENDED_ROWS = 300


class DraftKept(TypedDict):
    """A draft as received, and what PA2 says about it. `received_at` is ISO 8601 in UTC, here and below."""

    loan_draft_uuid: str
    received_at: str
    published: bool
    pa2_messages: list[str]
    body: dict[str, Any]


class JournalKept(TypedDict):
    """One journal as received; the journals of one call share an archive, and a person confirms the archive."""

    archive_id: str
    confirmed: bool
    received_at: str
    journal: dict[str, Any]


class Row(TypedDict):
    """One row of an upload; `recorded` is false where a problem of severity error kept it out."""

    loan_id: str
    client_id: str | None
    amount: float
    recorded: bool


class Problem(TypedDict):
    """What Kiva says about one row. `loan_id` is empty when it is about the whole upload."""

    loan_id: str
    details: str
    code: str
    severity: str


class Upload(TypedDict):
    """One call of `POST repayments`: in PA2, one CSV that a person reviews and finalises."""

    upload_id: int
    received_at: str
    finalised: bool
    rows: list[Row]
    problems: list[Problem]


class NotPublishable(Exception):
    """The draft cannot become a loan; the text says why."""


class _Known(NamedTuple):
    """Whose id a row has: of `one` borrower, of a `group` or of a `member` of one; the clients it may name."""

    kind: str
    clients: set[str]
    loan: Loan


_OTHERWISE = {
    "member": ("member_of_group", "This is one member's id; the group's repayment is reported by the group's id"),
    "group": ("group_not_members", "This is a group's id; the group's repayment is reported by its members' ids"),
}


@dataclass
class _Kept:
    loans: list[Loan]
    members: dict[str, list[tuple[str, Loan]]]
    drafts: dict[str, tuple[DraftKept, Draft]] = field(default_factory=dict)
    journals: list[JournalKept] = field(default_factory=list)
    archives: int = 48_000
    uploads: list[Upload] = field(default_factory=list)
    reported: dict[str, Decimal] = field(default_factory=dict)
    token_requests: int = 0
    calls: Counter[str] = field(default_factory=Counter)


def _kept(loans: Sequence[Loan]) -> _Kept:
    kept = _Kept(list(loans), {})
    for loan in loans:
        _add_members(kept, loan, members(loan))
    return kept


def _add_members(kept: _Kept, loan: Loan, ids: Sequence[tuple[str, str]]) -> None:
    for loan_id, client_id in ids:
        kept.members.setdefault(loan_id, []).append((client_id, loan))


class State:
    """What one sandbox holds. It starts with `loans` and goes back to them on `reset`."""

    def __init__(self, loans: Sequence[Loan], now: Callable[[], datetime]) -> None:
        self._first_loans = tuple(loans)
        self.now = now
        self._lock = Lock()
        self._kept = _kept(loans)

    def reset(self) -> None:
        """Forget everything received and count from zero again. Tokens already issued stay valid."""
        with self._lock:
            self._kept = _kept(self._first_loans)

    def count_token_request(self) -> None:
        """Count one token request, granted or not."""
        with self._lock:
            self._kept.token_requests += 1

    def count_call(self, name: str) -> None:
        """Count one call to the endpoint `name` of CALLS, allowed or not."""
        with self._lock:
            self._kept.calls[name] += 1

    def add_draft(self, body: dict[str, Any], draft: Draft) -> DraftKept:
        """Keep a draft. A repeated one is another draft: Kiva has no key to know it by."""
        kept: DraftKept = {
            "loan_draft_uuid": str(uuid4()),
            "received_at": self._time(),
            "published": False,
            "pa2_messages": pa2.messages(draft, self.now().date()),
            "body": body,
        }
        with self._lock:
            self._kept.drafts[kept["loan_draft_uuid"]] = (kept, draft)
        return kept

    def has_draft(self, loan_id: str) -> bool:
        """Whether a draft, or a loan, with this id of the partner's is here already; a group has the group's."""
        with self._lock:
            return any(draft.loan_id == loan_id for _, draft in self._kept.drafts.values()) or any(
                loan["internal_loan_id"] == loan_id for loan in self._kept.loans
            )

    def publish(self, uuid: str, *, completed: bool) -> Loan:
        """Do what a coordinator does after resolving PA2's messages: turn the draft into a loan that raises funds.

        There is no wizard here to resolve them in: `completed` says that somebody did, and the loan is made of what was
        sent. Raises KeyError for an unknown draft, NotPublishable when it is published, when PA2's messages stand, or
        when it lacks what makes a loan.
        """
        with self._lock:
            kept, draft = self._kept.drafts[uuid]
            if kept["published"]:
                raise NotPublishable("this draft is already published")
            if kept["pa2_messages"] and not completed:
                raise NotPublishable("PA2 has messages about this draft: complete it in the wizard first")
            loan = _loan_of(uuid, draft, len(self._kept.loans) + 1, int(self.now().timestamp()))
            self._kept.loans.append(loan)
            if draft.is_group:
                _add_members(self._kept, loan, [(each.loan_id or "", each.client_id or "") for each in draft.entreps])
            kept["published"] = True
        return loan

    def add_journals(self, bodies: list[dict[str, Any]]) -> str:
        """Keep the journals of one call, as they came, under a new archive; returns the archive's id."""
        with self._lock:
            self._kept.archives += 1
            archive_id = str(self._kept.archives)
            self._kept.journals += [
                {"archive_id": archive_id, "confirmed": False, "received_at": self._time(), "journal": body}
                for body in bodies
            ]
        return archive_id

    def confirm(self, archive_id: str) -> list[JournalKept]:
        """Do what a person does at the confirm URL: publish the archive's journals. Raises KeyError when unknown."""
        with self._lock:
            archive = [kept for kept in self._kept.journals if kept["archive_id"] == archive_id]
            if not archive:
                raise KeyError(archive_id)
            for kept in archive:
                kept["confirmed"] = True
            return [kept.copy() for kept in archive]

    def add_upload(self, report: Repayments, *, by_member: bool = False) -> Upload:
        """Keep a repayment report and what is wrong with its rows; rows in error do not count as reported.

        A group's repayment is reported by the group's id, or with `by_member` by those of its members.
        """
        with self._lock:
            known: dict[str, list[_Known]] = {}
            for loan in self._kept.loans:
                known.setdefault(loan["internal_loan_id"], []).append(
                    _Known("group" if loan["borrower_count"] > 1 else "one", {loan["internal_client_id"]}, loan)
                )
            for loan_id, groups in self._kept.members.items():
                known.setdefault(loan_id, []).extend(
                    _Known("member", {client_id, loan["internal_client_id"]}, loan) for client_id, loan in groups
                )
            unexpected = "group" if by_member else "member"
            upload: Upload = {
                "upload_id": 90_001 + len(self._kept.uploads),
                "received_at": self._time(),
                "finalised": False,
                "rows": [],
                "problems": [],
            }
            for row in report.repayments:
                problem = _problem(row, known.get(row.loan_id, []), unexpected, self._kept.reported.get(row.loan_id))
                recorded = problem is None or problem["severity"] != "error"
                if problem:
                    upload["problems"].append(problem)
                if recorded:
                    self._kept.reported[row.loan_id] = row.amount
                upload["rows"].append(
                    {
                        "loan_id": row.loan_id,
                        "client_id": row.client_id,
                        "amount": float(row.amount),
                        "recorded": recorded,
                    }
                )
            if len(report.repayments) > RECOMMENDED_ROWS:
                details = f"{len(report.repayments)} rows in one call; at most {RECOMMENDED_ROWS} are recommended"
                upload["problems"].append(
                    {"loan_id": "", "details": details, "code": "repayment.too_many_rows", "severity": "warning"}
                )
            self._kept.uploads.append(upload)
        return upload

    def finalise(self, upload_id: int) -> Upload:
        """Do what a person does in PA2 > Repayments: close the upload after review. Raises KeyError when unknown."""
        with self._lock:
            for upload in self._kept.uploads:
                if upload["upload_id"] == upload_id:
                    upload["finalised"] = True
                    return upload.copy()
        raise KeyError(upload_id)

    def find_loans(self, query: str, status: str, offset: int, limit: int) -> tuple[int, list[Loan]]:
        """How many loans match, and the page of them that begins at `offset`; an empty query or status matches all."""
        with self._lock:
            found = [
                loan for loan in self._kept.loans if _matches(loan, query) and (not status or loan["status"] == status)
            ]
        return len(found), found[offset : offset + limit]

    def drafts(self) -> list[DraftKept]:
        """All drafts, oldest first."""
        with self._lock:
            return [kept.copy() for kept, _ in self._kept.drafts.values()]

    def journals(self) -> list[JournalKept]:
        """All journals, oldest first."""
        with self._lock:
            return [kept.copy() for kept in self._kept.journals]

    def uploads(self) -> list[Upload]:
        """All uploads, oldest first."""
        with self._lock:
            return [upload.copy() for upload in self._kept.uploads]

    def loans(self) -> list[Loan]:
        """All loans: the portfolio, then what was published."""
        with self._lock:
            return list(self._kept.loans)

    def counters(self) -> tuple[int, dict[str, int]]:
        """How many token requests and how many calls per endpoint have come in."""
        with self._lock:
            return self._kept.token_requests, {name: self._kept.calls[name] for name in CALLS}

    def _time(self) -> str:
        return self.now().isoformat(timespec="milliseconds")


def _loan_of(uuid: str, draft: Draft, number: int, create_time: int) -> Loan:
    if not draft.loan_id:
        raise NotPublishable("the draft has no entreps[0].loan_id (individual) or internal_loan_id (group)")
    if draft.amount <= 0 or draft.currency not in PER_DOLLAR:
        raise NotPublishable("the draft has no amount in one of the partner's currencies")
    return new_loan(
        number,
        uuid=uuid,
        loan_id=draft.loan_id,
        client_id=draft.client_id or "",
        name=draft.name or "",
        borrowers=len(draft.entreps),
        location=draft.location or "",
        currency=draft.currency,
        local_price=draft.amount,
        status="fundRaising",
        create_time=create_time,
    )


def _problem(row: Repayment, known: list[_Known], unexpected: str, reported: Decimal | None) -> Problem | None:
    """The first thing wrong with a row, errors before warnings. The codes are invented: Kiva's are not public."""
    usable = [each for each in known if each.kind != unexpected]
    if not known:
        code, severity, details = "loan_not_found", "error", "No loan with this id is expecting a repayment"
    elif not usable:
        code, details = _OTHERWISE[unexpected]
        severity = "error"
    elif row.client_id and not any(row.client_id in each.clients for each in usable):
        code, severity, details = "client_not_found", "error", "The loan with this id belongs to another client"
    elif not any(each.loan["status"] in REPAYABLE for each in usable):
        code, severity, details = "loan_not_expected", "error", "The loan is neither paying back nor defaulted"
    elif reported is not None and row.amount < reported:
        code, severity, details = "amount_below_expected", "warning", "Amount is lower than reported before"
    else:
        return None
    return {"loan_id": row.loan_id, "details": details, "code": f"repayment.{code}", "severity": severity}


def _matches(loan: Loan, query: str) -> bool:
    """As in PA2's search box: part of a name, or a whole loan, client or Kiva id."""
    sought = query.strip().casefold()
    ids = (loan["internal_loan_id"], loan["internal_client_id"], loan["kiva_id"])
    return sought in loan["name"].casefold() or sought in {text.casefold() for text in ids}
