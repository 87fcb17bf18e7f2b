"""Amounts of one loan and month: which stands at Kiva last, and which came again and was not sent.

Kiva has no update. A corrected amount is a row of another upload, and what Kiva took last is what counts there; only
the ledger knows which. An amount that comes again after another one is not sent, for it may be a late copy: it is said.
"""

from decimal import Decimal
from itertools import pairwise
from typing import Any

from msgspec import Struct

from .ledger import Ledger, Row, State
from .settings import AmountMode

ATTEMPTS = 5


class Versions(Struct, frozen=True):
    """The amounts of a loan and month that Kiva has, in the order in which it took them, and those it may have."""

    taken: list[Row]
    in_doubt: list[Row]

    def before(self, row: Row) -> Row | None:
        """The one that this replaced."""
        return next((each for each in reversed(self.taken) if _order(each) < _order(row)), None)

    def after(self, row: Row) -> Row | None:
        """The one that replaced this."""
        return next((each for each in self.taken if _order(each) > _order(row)), None)


def _order(row: Row) -> tuple[str, str]:
    return row.taken_at, row.reference


def versions_of(ledger: Ledger, row: Row) -> Versions:
    """All amounts of the loan and month of a row, itself among them; none where it states none."""
    rows = ledger.list_month(row) if row.states_month else []
    taken = sorted((each for each in rows if each.state is State.ACCEPTED), key=_order)
    return Versions(taken, [each for each in rows if each.state is State.UNKNOWN])


def linked(ledger: Ledger, row: Row, mode: AmountMode) -> Versions:
    """As `versions_of`; and where Kiva has this row, it and its neighbours say what replaced what.

    A cumulative amount that is less than the one before it gets a warning. Doing it twice changes nothing.

    Raises:
        TimeoutError: others change these rows again and again.
    """
    for _ in range(ATTEMPTS):
        versions = versions_of(ledger, row)
        references = [each.reference for each in versions.taken]
        place = references.index(row.reference) if row.reference in references else len(references) + 1
        pairs = pairwise(versions.taken[max(place - 1, 0) : place + 2])
        if all(ledger.link(older, newer, falls(older, newer, mode)) for older, newer in pairs):
            return versions
    raise TimeoutError("the amounts of a month change again and again")


def falls(older: Row, newer: Row, mode: AmountMode) -> str:
    """The warning where the principal that was repaid to date becomes less; else empty."""
    if mode is not AmountMode.CUMULATIVE_PRINCIPAL or Decimal(newer.amount) >= Decimal(older.amount):
        return ""
    upload = older.outcome.kiva.get("upload_id", "?") if older.outcome else "?"
    return f"$.amount: is less than {older.amount}, which Kiva has for this month by upload {upload}"


def shown(row: Row, versions: Versions) -> dict[str, Any]:
    """For a client: what it replaced, what replaced it, and which stands at Kiva last; what is not so is left out."""
    before, after = versions.before(row), versions.after(row)
    is_taken = row.state is State.ACCEPTED
    told = {
        "replaces": before.reference if before and is_taken else "",
        "replaced_by": after.reference if after and is_taken else "",
        "stands_last": versions.taken[-1].reference if versions.taken else "",
        "in_doubt": [each.reference for each in versions.in_doubt if each.reference != row.reference],
        "not_sent": not_sent(row, versions),
    }
    if told["stands_last"] == row.reference:
        del told["stands_last"]
    return {name: value for name, value in told.items() if value}


def not_sent(row: Row, versions: Versions) -> str:
    """Why an amount that came again was not sent; empty where it did not come after another one."""
    after = versions.after(row)
    doubts = [each.reference for each in versions.in_doubt if row.taken_at < each.updated_at < row.came_again_at]
    if row.state is not State.ACCEPTED or not (doubts or (after and after.taken_at < row.came_again_at)):
        return ""
    doubt = f", and nobody knows whether Kiva has {', '.join(doubts)}" if doubts else ""
    return not_sent_text(row, f"{versions.taken[-1].reference} stands at Kiva last{doubt}")


def not_sent_text(row: Row, why: str) -> str:
    """The same in words."""
    return (
        f"this amount was reported before; it came again at {row.came_again_at[:16]} and was not sent again, "
        f"since {why}; give the message a reference to send it again"
    )
