"""Everything the sandbox has received, and the loans it knows: an SQLite database, in memory or in a file.

What is looked up stands in columns, as bytes of UTF-8: half a surrogate pair, which JSON can carry, is no TEXT. All
else stands as JSON, as it came.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from decimal import Decimal
from itertools import batched
from pathlib import Path
from threading import Lock
from typing import Any, TypedDict, cast, get_args
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from kiva_sandbox import pa2
from kiva_sandbox.bodies import Draft, Repayment, Repayments
from kiva_sandbox.data import PER_DOLLAR, REPAYABLE, Loan, members, new_loan
from kiva_sandbox.switches import Call
from kiva_sandbox.tokens import new_signing_key

RECOMMENDED_ROWS = 300

# Both stand in the header of the file (https://www.sqlite.org/pragma.html#pragma_application_id).
_APPLICATION = int.from_bytes(b"Kiva")
_VERSION = 1
"""To be raised with every change of the tables: a file of another version is refused."""
_TABLES = {
    # Of a loan, what is searched for is casefolded.
    "loans": "(number INTEGER PRIMARY KEY, uuid BLOB, status BLOB, name BLOB, loan_id BLOB, client_id BLOB, "
    "kiva_id BLOB, loan TEXT)",
    # The partner's ids that belong to a loan, exactly: of `one` borrower, of a `group`, or of a `member` of one; each
    # with a client that a row may name beside it.
    "ids": "(id BLOB, kind TEXT, client_id BLOB, number INTEGER REFERENCES loans, "
    "PRIMARY KEY (id, kind, client_id, number)) WITHOUT ROWID",
    "drafts": "(number INTEGER PRIMARY KEY, uuid BLOB UNIQUE, loan_id BLOB, received_at TEXT, published INTEGER, "
    "pa2_messages TEXT, body TEXT)",
    "archives": "(number INTEGER PRIMARY KEY, archive_id BLOB UNIQUE, received_at TEXT, confirmed INTEGER, "
    "journals TEXT)",
    "uploads": "(upload_id INTEGER PRIMARY KEY, received_at TEXT, finalised INTEGER, rows TEXT, problems TEXT)",
    "reported": "(loan_id BLOB PRIMARY KEY, amount TEXT) WITHOUT ROWID",
    "counters": "(name TEXT PRIMARY KEY, count INTEGER)",
    "signing_key": "(pem BLOB)",
}
_INDEXES = ("loans (uuid)", "drafts (loan_id)")
_LAST_INTEGER = 2**63 - 1
_OTHER = "name another file"


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


class Unusable(Exception):
    """The file cannot hold the sandbox's state; the text says why, and what to do."""


class NotPublishable(Exception):
    """The draft cannot become a loan; the text says why."""


_OTHERWISE = {
    "member": ("member_of_group", "This is one member's id; the group's repayment is reported by the group's id"),
    "group": ("group_not_members", "This is a group's id; the group's repayment is reported by its members' ids"),
}


class State:
    """What one sandbox holds, for several threads. It starts with `loans` and goes back to them on `reset`.

    Without a `file` it is in memory. A file that is new or empty gets the `loans`; another one goes on with its own,
    those of its own start included, and no other sandbox may use it until `close`. Every change is in the file before
    its method returns.

    Raises:
        Unusable: the file cannot be made, is something else, is of another version, or is in use.
    """

    def __init__(self, loans: Sequence[Loan], now: Callable[[], datetime], file: Path | None = None) -> None:
        self.now = now
        self._lock = Lock()
        self._db = _opened(file, loans)

    def close(self) -> None:
        """Let go of the file, or forget what is in memory. Nothing can be asked afterwards."""
        with self._lock:
            self._db.close()

    def reset(self) -> None:
        """Forget everything received and count from zero again. Tokens already issued stay valid."""
        with self._transaction() as db:
            db.execute("DELETE FROM ids WHERE number IN (SELECT loans.number FROM loans JOIN drafts USING (uuid))")
            db.execute("DELETE FROM loans WHERE uuid IN (SELECT uuid FROM drafts)")
            for table in ("drafts", "archives", "uploads", "reported", "counters"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608 - of these alone

    def signing_key(self) -> RSAPrivateKey:
        """The key of this state's tokens: made when first asked for, and kept, so that tokens survive a restart."""
        with self._transaction() as db:
            kept = db.execute("SELECT pem FROM signing_key").fetchone()
            if kept:
                return cast("RSAPrivateKey", load_pem_private_key(kept["pem"], password=None))
            key = new_signing_key()
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            db.execute("INSERT INTO signing_key VALUES (?)", [pem])
        return key

    def count(self, call: Call) -> None:
        """Count one call, allowed or not."""
        with self._transaction() as db:
            db.execute("INSERT INTO counters VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1", [call])

    def add_draft(self, body: dict[str, Any], draft: Draft) -> DraftKept:
        """Keep a draft. A repeated one is another draft: Kiva has no key to know it by."""
        kept: DraftKept = {
            "loan_draft_uuid": str(uuid4()),
            "received_at": self._time(),
            "published": False,
            "pa2_messages": pa2.messages(draft, self.now().date()),
            "body": body,
        }
        with self._transaction() as db:
            db.execute(
                "INSERT INTO drafts VALUES (NULL, ?, ?, ?, FALSE, ?, ?)",
                [
                    _bytes(kept["loan_draft_uuid"]),
                    None if draft.loan_id is None else _bytes(draft.loan_id),
                    kept["received_at"],
                    json.dumps(kept["pa2_messages"]),
                    json.dumps(body),
                ],
            )
        return kept

    def has_draft(self, loan_id: str) -> bool:
        """Whether a draft, or a loan, with this id of the partner's is here already; a group has the group's."""
        with self._transaction() as db:
            found = db.execute(
                "SELECT 1 FROM drafts WHERE loan_id = :id UNION SELECT 1 FROM ids WHERE id = :id AND kind != 'member'",
                {"id": _bytes(loan_id)},
            )
            return found.fetchall() != []

    def publish(self, uuid: str, *, completed: bool) -> Loan:
        """Do what a coordinator does after resolving PA2's messages: turn the draft into a loan that raises funds.

        There is no wizard here to resolve them in: `completed` says that somebody did, and the loan is made of what was
        sent. Raises KeyError for an unknown draft, NotPublishable when it is published, when PA2's messages stand, or
        when it lacks what makes a loan.
        """
        with self._transaction() as db:
            kept = _draft(db, uuid)
            if not kept:
                raise KeyError(uuid)
            if kept["published"]:
                raise NotPublishable("this draft is already published")
            if kept["pa2_messages"] and not completed:
                raise NotPublishable("PA2 has messages about this draft: complete it in the wizard first")
            draft = Draft.model_validate(kept["body"])
            number = _count(db, "loans") + 1
            loan = _loan_of(uuid, draft, number, int(self.now().timestamp()))
            each_member = [(each.loan_id or "", each.client_id or "") for each in draft.entreps if draft.is_group]
            _add_loan(db, number, loan, each_member)
            db.execute("UPDATE drafts SET published = TRUE WHERE uuid = ?", [_bytes(uuid)])
        return loan

    def add_journals(self, bodies: list[dict[str, Any]]) -> str:
        """Keep the journals of one call, as they came, under a new archive; returns the archive's id."""
        with self._transaction() as db:
            archive_id = str(48_001 + _count(db, "archives"))
            db.execute(
                "INSERT INTO archives VALUES (NULL, ?, ?, FALSE, ?)",
                [_bytes(archive_id), self._time(), json.dumps(bodies)],
            )
        return archive_id

    def confirm(self, archive_id: str) -> list[JournalKept]:
        """Do what a person does at the confirm URL: publish the archive's journals. Raises KeyError when unknown."""
        with self._transaction() as db:
            db.execute("UPDATE archives SET confirmed = TRUE WHERE archive_id = ?", [_bytes(archive_id)])
            archive = _archive(db, archive_id)
        if not archive:
            raise KeyError(archive_id)
        return archive

    def add_upload(self, report: Repayments, *, by_member: bool = False) -> Upload:
        """Keep a repayment report and what is wrong with its rows; rows in error do not count as reported.

        A group's repayment is reported by the group's id, or with `by_member` by those of its members.
        """
        unexpected = "group" if by_member else "member"
        with self._transaction() as db:
            upload: Upload = {
                "upload_id": 90_001 + _count(db, "uploads"),
                "received_at": self._time(),
                "finalised": False,
                "rows": [],
                "problems": [],
            }
            known = _known(db, {_bytes(row.loan_id) for row in report.repayments})
            reported = {
                loan_id: Decimal(rows[0]["amount"]) for loan_id, rows in known.items() if rows[0]["amount"] is not None
            }
            for row in report.repayments:
                loan_id = _bytes(row.loan_id)
                found = known.get(loan_id, [])
                problem = _problem(row, found, unexpected, reported.get(loan_id))
                recorded = problem is None or problem["severity"] != "error"
                if problem:
                    upload["problems"].append(problem)
                if recorded:
                    reported[loan_id] = row.amount
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
            db.executemany(
                "INSERT OR REPLACE INTO reported VALUES (?, ?)",
                [(loan_id, str(amount)) for loan_id, amount in reported.items()],
            )
            db.execute(
                "INSERT INTO uploads VALUES (?, ?, FALSE, ?, ?)",
                [
                    upload["upload_id"],
                    upload["received_at"],
                    json.dumps(upload["rows"]),
                    json.dumps(upload["problems"]),
                ],
            )
        return upload

    def finalise(self, upload_id: int) -> Upload:
        """Do what a person does in PA2 > Repayments: close the upload after review. Raises KeyError when unknown."""
        with self._transaction() as db:
            db.execute("UPDATE uploads SET finalised = TRUE WHERE upload_id = ?", [str(upload_id)])
            upload = _upload(db, upload_id)
        if not upload:
            raise KeyError(upload_id)
        return upload

    def find_loans(self, query: str, status: str, offset: int, limit: int) -> tuple[int, list[Loan]]:
        """How many loans match, and the page of them that begins at `offset`; an empty query or status matches all.

        As in PA2's search box, a query is part of a name, or a whole loan, client or Kiva id, in any case.
        """
        matching = (
            "FROM loans WHERE (:query = x'' OR instr(name, :query) OR :query IN (loan_id, client_id, kiva_id)) "
            "AND (:status = x'' OR status = :status)"
        )
        asked = {
            "query": _folded(query.strip()),
            "status": _bytes(status),
            "limit": min(limit, _LAST_INTEGER),
            "offset": min(offset, _LAST_INTEGER),
        }
        with self._transaction() as db:
            total = db.execute(f"SELECT count(*) {matching}", asked).fetchone()[0]
            page = db.execute(f"SELECT loan {matching} ORDER BY number LIMIT :limit OFFSET :offset", asked).fetchall()
        return total, [json.loads(row["loan"]) for row in page]

    def waiting(self) -> dict[str, tuple[int, int]]:
        """How many drafts, archives and uploads wait for a person, and of how many."""
        with self._transaction() as db:
            return {
                table: tuple(
                    db.execute(f"SELECT count(*) FILTER (WHERE NOT {done}), count(*) FROM {table}").fetchone()  # noqa: S608 - named here
                )
                for table, done in (("drafts", "published"), ("archives", "confirmed"), ("uploads", "finalised"))
            }

    def drafts(self) -> list[DraftKept]:
        """All drafts, oldest first."""
        with self._transaction() as db:
            return [_draft_of(row) for row in db.execute("SELECT * FROM drafts ORDER BY number")]

    def draft(self, uuid: str) -> DraftKept | None:
        """One draft."""
        with self._transaction() as db:
            return _draft(db, uuid)

    def journals(self) -> list[JournalKept]:
        """All journals, oldest first."""
        with self._transaction() as db:
            return [kept for row in db.execute("SELECT * FROM archives ORDER BY number") for kept in _journals_of(row)]

    def archive(self, archive_id: str) -> list[JournalKept]:
        """The journals of one archive; none when it is unknown."""
        with self._transaction() as db:
            return _archive(db, archive_id)

    def uploads(self) -> list[Upload]:
        """All uploads, oldest first."""
        with self._transaction() as db:
            return [_upload_of(row) for row in db.execute("SELECT * FROM uploads ORDER BY upload_id")]

    def upload(self, upload_id: int) -> Upload | None:
        """One upload."""
        with self._transaction() as db:
            return _upload(db, upload_id)

    def loans(self) -> list[Loan]:
        """All loans: the portfolio, then what was published."""
        return self.find_loans("", "", 0, _LAST_INTEGER)[1]

    def loan(self, uuid: str) -> Loan | None:
        """One loan, which has the uuid of the draft it was."""
        with self._transaction() as db:
            row = db.execute("SELECT loan FROM loans WHERE uuid = ?", [_bytes(uuid)]).fetchone()
        return json.loads(row["loan"]) if row else None

    def kiva_ids(self, loan_ids: Sequence[str]) -> dict[str, str]:
        """Kiva's public id of each loan that the partner calls by one of these ids; unknown ones are left out."""
        found = {}
        with self._transaction() as db:
            for loan_id in set(loan_ids):
                for row in db.execute(
                    "SELECT loan FROM ids JOIN loans USING (number) WHERE id = ? AND kind != 'member' ORDER BY number",
                    [_bytes(loan_id)],
                ):
                    found[loan_id] = json.loads(row["loan"])["kiva_id"]
        return found

    def counters(self) -> tuple[int, dict[str, int]]:
        """How many token requests and how many calls per endpoint have come in."""
        with self._transaction() as db:
            counts = {row["name"]: row["count"] for row in db.execute("SELECT * FROM counters")}
        calls = {call: counts.get(call, 0) for call in get_args(Call)}
        return calls.pop("token"), calls

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of what is done in it, or nothing of it; one at a time."""
        with self._lock, self._db as db:
            db.execute("BEGIN")
            yield db

    def _time(self) -> str:
        return self.now().isoformat(timespec="milliseconds")


def _opened(file: Path | None, first_loans: Sequence[Loan]) -> sqlite3.Connection:
    """The database in `file`, or in memory; with its tables and the first loans when it is new."""
    if file and file.exists() and not file.is_file():
        raise Unusable(f"{file} is no file: {_OTHER}")
    try:
        if file and not file.exists():
            file.touch(mode=0o600, exist_ok=False)  # SQLite would let everybody read it
        # Absolute, since SQLite takes names like `:memory:` for something else.
        name = file.absolute() if file else ":memory:"
        with ExitStack() as failing:
            db = sqlite3.connect(name, timeout=0, isolation_level=None, check_same_thread=False)
            failing.callback(db.close)
            db.row_factory = sqlite3.Row
            _prepare(db, file, first_loans)
            failing.pop_all()
    except (OSError, sqlite3.Error) as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            raise Unusable(f"{file} is in use, maybe by another sandbox: stop that one, or {_OTHER}") from None
        raise Unusable(f"{file} cannot be used ({error}): {_OTHER}") from None
    return db


def _prepare(db: sqlite3.Connection, file: Path | None, first_loans: Sequence[Loan]) -> None:
    """Take the database for this sandbox alone, see that it is one of ours, and make it when it is empty."""
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    # What is written outlives this process, however it ends, without waiting for the disk each time. A machine that
    # loses power may damage the file (https://www.sqlite.org/pragma.html#pragma_synchronous), which is told below.
    db.execute("PRAGMA synchronous = OFF")
    with db:
        db.execute("BEGIN EXCLUSIVE")
        if _header(db, "schema_version") == _header(db, "application_id") == 0:
            _make(db, first_loans)
        elif _header(db, "application_id") != _APPLICATION:
            raise Unusable(f"{file} holds something else than a sandbox's state: {_OTHER}")
        elif _header(db, "user_version") != _VERSION:
            raise Unusable(f"{file} is of another version of the sandbox: remove it, or {_OTHER}")
        elif db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise Unusable(f"{file} is damaged: remove it, or {_OTHER}")
        if file:
            file.chmod(0o600)  # before anything is written: SQLite gives its journal the same mode
        db.execute(f"PRAGMA user_version = {_VERSION}")  # a write, so that a file that cannot be written is refused now


def _header(db: sqlite3.Connection, name: str) -> object:
    return db.execute(f"PRAGMA {name}").fetchone()[0]


def _make(db: sqlite3.Connection, first_loans: Sequence[Loan]) -> None:
    for table, columns in _TABLES.items():
        db.execute(f"CREATE TABLE {table} {columns}")
    for number, index in enumerate(_INDEXES):
        db.execute(f"CREATE INDEX index_{number} ON {index}")
    db.execute(f"PRAGMA application_id = {_APPLICATION}")
    for number, loan in enumerate(first_loans, 1):
        _add_loan(db, number, loan, members(loan))


def _add_loan(db: sqlite3.Connection, number: int, loan: Loan, each_member: Sequence[tuple[str, str]]) -> None:
    """Add a loan, and loan and client id of each member of a group: a row may name the group's client beside it too."""
    loan_id, client_id = loan["internal_loan_id"], loan["internal_client_id"]
    searched = (loan["name"], loan_id, client_id, loan["kiva_id"])
    db.execute(
        "INSERT INTO loans VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [number, _bytes(loan["uuid"]), _bytes(loan["status"]), *map(_folded, searched), json.dumps(loan)],
    )
    ids = {(loan_id, "group" if loan["borrower_count"] > 1 else "one", client_id)}
    ids |= {(member, "member", client) for member, own in each_member if member for client in (own, client_id)}
    db.executemany(
        "INSERT INTO ids VALUES (?, ?, ?, ?)",
        [(_bytes(each), kind, _bytes(client), number) for each, kind, client in ids],
    )


def _count(db: sqlite3.Connection, table: str) -> int:
    return cast("int", db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - named by us


def _draft(db: sqlite3.Connection, uuid: str) -> DraftKept | None:
    row = db.execute("SELECT * FROM drafts WHERE uuid = ?", [_bytes(uuid)]).fetchone()
    return _draft_of(row) if row else None


def _draft_of(row: sqlite3.Row) -> DraftKept:
    return {
        "loan_draft_uuid": row["uuid"].decode(),
        "received_at": row["received_at"],
        "published": bool(row["published"]),
        "pa2_messages": json.loads(row["pa2_messages"]),
        "body": json.loads(row["body"]),
    }


def _archive(db: sqlite3.Connection, archive_id: str) -> list[JournalKept]:
    row = db.execute("SELECT * FROM archives WHERE archive_id = ?", [_bytes(archive_id)]).fetchone()
    return _journals_of(row) if row else []


def _journals_of(row: sqlite3.Row) -> list[JournalKept]:
    return [
        {
            "archive_id": row["archive_id"].decode(),
            "confirmed": bool(row["confirmed"]),
            "received_at": row["received_at"],
            "journal": journal,
        }
        for journal in json.loads(row["journals"])
    ]


def _upload(db: sqlite3.Connection, upload_id: int) -> Upload | None:
    # As text, since a page's address can hold a number of any length; SQLite compares it as a number still.
    row = db.execute("SELECT * FROM uploads WHERE upload_id = ?", [str(upload_id)]).fetchone()
    return _upload_of(row) if row else None


def _upload_of(row: sqlite3.Row) -> Upload:
    return {
        "upload_id": row["upload_id"],
        "received_at": row["received_at"],
        "finalised": bool(row["finalised"]),
        "rows": json.loads(row["rows"]),
        "problems": json.loads(row["problems"]),
    }


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


def _known(db: sqlite3.Connection, loan_ids: Iterable[bytes]) -> dict[bytes, list[sqlite3.Row]]:
    """By id: what is known of the loans with it, and the amount reported last."""
    known: dict[bytes, list[sqlite3.Row]] = {}
    for some in batched(loan_ids, 1000):  # SQLite takes 32,766 parameters, and a call may have more rows
        marks = ", ".join("?" * len(some))
        for row in db.execute(
            "SELECT id, kind, ids.client_id, status, amount FROM ids JOIN loans USING (number) "  # noqa: S608 - of `?` alone
            f"LEFT JOIN reported ON reported.loan_id = id WHERE id IN ({marks})",
            some,
        ):
            known.setdefault(row["id"], []).append(row)
    return known


def _problem(row: Repayment, known: list[sqlite3.Row], unexpected: str, reported: Decimal | None) -> Problem | None:
    """The first thing wrong with a row, errors before warnings. The codes are invented: Kiva's are not public."""
    usable = [each for each in known if each["kind"] != unexpected]
    severity = "error"
    if not known:
        code, details = "loan_not_found", "No loan with this id is expecting a repayment"
    elif not usable:
        code, details = _OTHERWISE[unexpected]
    elif row.client_id and _bytes(row.client_id) not in {each["client_id"] for each in usable}:
        code, details = "client_not_found", "The loan with this id belongs to another client"
    elif all(each["status"].decode() not in REPAYABLE for each in usable):
        code, details = "loan_not_expected", "The loan is neither paying back nor defaulted"
    elif reported is not None and row.amount < reported:
        severity = "warning"
        code, details = "amount_below_expected", "Amount is lower than reported before"
    else:
        return None
    return {"loan_id": row.loan_id, "details": details, "code": f"repayment.{code}", "severity": severity}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _folded(text: str) -> bytes:
    """`text` as a search compares it; SQLite's own `lower` knows ASCII alone."""
    return _bytes(text.casefold())
