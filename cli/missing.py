"""`relay missing`: which loans that pay back have no repayment of a month at Kiva."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cli.relay_api import RelayApi, every_loan, every_submission
from cli.show import Submission

PAYING: Final = ("payingBack", "defaulted")
"""Kiva's statuses of loans of which a repayment can be reported."""
ON_THEIR_WAY: Final = ("QUEUED", "SENDING", "RETRY", "UNKNOWN")


@dataclass(frozen=True)
class Month:
    """What Kiva has of a month, and what it has not."""

    expected: int
    missing: Sequence[Mapping[str, Any]]
    on_their_way: Sequence[Submission]


def look(api: RelayApi, period: str) -> Month:
    """Compare Kiva's loans with the repayments of a month (YYYY-MM). Raises as `RelayApi.get`."""
    loans = {_name(loan): loan for status in PAYING for loan in every_loan(api, status=status)}
    # Open ones first: what ends meanwhile is then found among those that Kiva has.
    underway = {it["loan_id"]: it for state in ON_THEIR_WAY for it in _of(api, period, state)}
    accepted = {it["loan_id"] for it in _of(api, period, "ACCEPTED")}
    left = {name: loan for name, loan in loans.items() if name not in accepted}
    return Month(
        expected=len(loans),
        missing=[loan for name, loan in left.items() if name not in underway],
        on_their_way=[underway[name] for name in left if name in underway],
    )


def _name(loan: Mapping[str, Any]) -> str:
    """The partner's id of a loan. One that Kiva has without it cannot be reported at all, and so is missing."""
    return str(loan.get("internal_loan_id") or f"Kiva's {loan.get('kiva_id')}")


def _of(api: RelayApi, period: str, state: str) -> list[Submission]:
    # Nobody reports a month before it has begun.
    found = every_submission(api, kind="repayment", state=state, since=f"{period}-01")
    return [each for each in found if each.get("period") == period]
