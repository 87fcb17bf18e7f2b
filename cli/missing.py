"""`relay missing`: which loans that pay back have no repayment of a month at Kiva.

Kept apart: what Kiva has, what is on its way or nobody knows of, what has no month and may be of this one, and what
Kiva certainly has not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from cli.files import MONTHS_AHEAD
from cli.relay_api import RelayApi, every_loan, every_submission
from cli.show import Submission, words_of
from kiva_partner.ledger import State

PAYING: Final = ("payingBack", "defaulted")
"""Kiva's statuses of loans of which a repayment can be reported."""
_NOT_AT_KIVA: Final = (State.STUCK, State.REJECTED, State.ABANDONED)
# What ends meanwhile is then found among what has ended, and what is stuck no more among what is on its way.
_OPEN_FIRST: Final = tuple(
    dict.fromkeys((State.STUCK, *(it for it in State if not it.is_final), State.ACCEPTED, *_NOT_AT_KIVA))
)


@dataclass(frozen=True)
class Month:
    """What Kiva has of a month, and what it has not.

    `missing` are Kiva's loans, with the `state` and `reason` of what is stuck, refused or given up, if known.
    """

    expected: int
    missing: Sequence[Mapping[str, Any]]
    on_their_way: Sequence[Submission]
    without_month: Sequence[Submission]


def look(api: RelayApi, period: str) -> Month:
    """Compare Kiva's loans with the repayments of a month (YYYY-MM). Raises as `RelayApi.get`."""
    loans = {_name(loan): loan for status in PAYING for loan in every_loan(api, status=status)}
    since = _earliest(period)
    accepted: set[str] = set()
    underway: dict[str, Submission] = {}
    without: dict[str, Submission] = {}
    ended: dict[str, Submission] = {}
    for state in _OPEN_FIRST:
        for each in every_submission(api, kind="repayment", state=state, since=since):
            loan, month = each["loan_id"], each.get("period", "")
            if month not in ("", period):
                continue
            if not month:
                if state not in (State.STUCK, State.REJECTED):  # of anything else Kiva may have it
                    without.setdefault(loan, each)
            elif state in _NOT_AT_KIVA:
                ended.setdefault(loan, each)
            elif state is State.ACCEPTED:
                accepted.add(loan)
            else:
                underway[loan] = each
    left = [name for name in loans if name not in accepted]
    return Month(
        expected=len(loans),
        missing=[{**loans[it], **_end_of(ended.get(it))} for it in left if it not in underway and it not in without],
        on_their_way=[underway[name] for name in left if name in underway],
        without_month=[without[name] for name in left if name in without and name not in underway],
    )


def _earliest(period: str) -> str:
    """The first day on which a report of a month may have come.

    A month in advance is usual, and `relay submit` asks about more. The day is UTC's, and elsewhere the month begins on
    another, so one month more is read.
    """
    year, month = map(int, period.split("-"))
    months = year * 12 + month - 1 - (MONTHS_AHEAD + 1)
    return date(months // 12, months % 12 + 1, 1).isoformat()


def _name(loan: Mapping[str, Any]) -> str:
    """The partner's id of a loan. One that Kiva has without it cannot be reported at all, and so is missing."""
    return str(loan.get("internal_loan_id") or f"Kiva's {loan.get('kiva_id')}")


def _end_of(submission: Submission | None) -> Mapping[str, str]:
    """What became of a report that Kiva has not, or of which nobody knows any more whether it has it."""
    if not submission:
        return {}
    reason = words_of(submission)
    if submission["state"] == State.ABANDONED:
        reason = "given up, and nobody knows whether Kiva has it: look in PA2 before you send it again"
    return {"reference": submission["reference"], "state": submission["state"], "reason": reason}
