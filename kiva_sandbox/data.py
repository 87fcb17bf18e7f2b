"""What the sandbox knows before anybody calls it: one partner, its choices in PA2, and a portfolio of loans.

Everybody and everything here is invented. All of it is a function of the loan's number, so that a bigger portfolio
begins with the same loans, and a test can work out what the sandbox holds without asking it.
"""

from dataclasses import dataclass
from decimal import Decimal
from random import Random
from string import ascii_uppercase
from typing import NotRequired, TypedDict
from uuid import NAMESPACE_URL, uuid5

SCOPES = ("create:repayment", "read:loans", "create:loan_draft", "create:journal_update")
REPAYABLE = frozenset({"payingBack", "defaulted"})
"""The statuses of loans that a repayment report must hold; a repayment to any other loan is a problem row."""


@dataclass(frozen=True)
class Partner:
    """A field partner: its id in every path, its credentials, and the scopes Kiva has authorised it for."""

    id: str = "9001"
    name: str = "Sandbox MFI"
    client_id: str = "sandbox-client"
    # Full of characters that break a form body put together by hand. It opens nothing but this imitation.
    client_secret: str = "s3cr&t+/="  # noqa: S105  # pragma: allowlist secret
    scopes: tuple[str, ...] = SCOPES


@dataclass(frozen=True)
class _Country:
    currency: str
    per_dollar: Decimal
    towns: tuple[str, ...]


_COUNTRIES = {
    "Kenya": _Country("KES", Decimal("126.30"), ("Kisumu", "Nakuru", "Machakos")),
    "Guinea-Bissau": _Country("XOF", Decimal("605.00"), ("São Domingos", "Bafatá", "Gabú")),
    "Tajikistan": _Country("TJS", Decimal("10.90"), ("Khujand", "Кӯлоб")),
}
_LANGUAGES = ((1, "en", "English"), (3, "pt", "Portuguese"), (4, "ru", "Russian"))

PER_DOLLAR = {country.currency: country.per_dollar for country in _COUNTRIES.values()}
"""Units of each of the partner's currencies that one US dollar buys. Invented, and never moving."""

CONFIG: dict[str, list[dict[str, int | str]]] = {
    "themes": [
        {"theme_type_id": number, "theme_type": name}
        for number, name in (
            (1, "Green"),
            (2, "Higher Education"),
            (48, "General"),
            (63, "Community Impact Loan"),
            (105, "Water and Sanitation"),
        )
    ],
    "activities": [
        {"activity_id": number, "activity": name}
        for number, name in (
            (12, "Agriculture"),
            (20, "Bakery"),
            (33, "Fishing"),
            (47, "Livestock"),
            (61, "Food Stall"),
            (78, "Tailoring"),
            (90, "Water Distribution"),
        )
    ],
    # One row per pair, as Kiva sends it: every currency repeats once per language.
    "locales": [
        {"currency": country.currency, "language_code": code, "language_id": number, "language_name": name}
        for country in _COUNTRIES.values()
        for number, code, name in _LANGUAGES
    ],
    "locations": [
        {"country": name, "location": town, "full_name": f"{town}: {name}"}
        for name, country in _COUNTRIES.items()
        for town in country.towns
    ],
}
"""The lists of `config/{name}`, as they stand on the wire."""


class Loan(TypedDict):
    """One loan of `GET loans`, named and typed as on the wire: prices are strings, times are epoch seconds."""

    kiva_id: str
    uuid: str
    borrower_count: int
    internal_loan_id: str
    internal_client_id: str
    partner_id: str
    partner: str
    name: str
    location: str
    status: str
    status_detail: str
    loan_price: str
    loan_local_price: str
    loan_currency: str
    create_time: int
    planned_expiration_time: int
    planned_inactive_expire_time: int
    delinquent: bool
    fundedAmount: float
    flexible_fundraising_enabled: str
    ended_time: NotRequired[int]
    refunded_time: NotRequired[int]
    expired_time: NotRequired[int]
    defaulted_time: NotRequired[int]
    issue_feedback_time: NotRequired[int]
    issue_reported_by: NotRequired[str]


_DAY = 86_400
_FIRST_LOAN_MADE = 1_735_689_600  # 2025-01-01, fixed: a portfolio that moved with the clock would not be the same twice
_NAMES = (
    "Akinyi", "Fatumata", "Inácio", "Mariama", "Wanjiru", "Otieno", "Зарина", "Binta", "Chebet", "Domingos", "Фирӯз",
    "Aissatu", "Njeri", "Quintino", "Мадина", "Kiprono", "Nhima", "Odhiambo", "Сафар", "Tchuma",
)  # fmt: skip
_GROUPS = ("Horta Nova", "Tumaini", "Umoja", "Boa Esperança", "Рӯшноӣ")
# Of fifty loans in a row these are not `payingBack`. All fourteen statuses occur.
_STATUS_OF_FIFTY = {
    2: "fundRaising", 5: "ended", 8: "defaulted", 13: "raised", 16: "reviewed", 20: "inactive", 23: "expired",
    26: "defaulted", 29: "issue", 32: "refunded", 35: "inactive_expired", 38: "issue_revising", 41: "deleted",
    44: "defaulted", 47: "issue_approving",
}  # fmt: skip
_NOTHING_FUNDED = frozenset(
    {"inactive", "inactive_expired", "issue", "issue_revising", "issue_approving", "reviewed", "deleted"}
)


def portfolio(size: int = 500) -> list[Loan]:
    """The first `size` loans of the sandbox's partner; the same ones each time, whatever the size.

    Loan number n has the ids `L-{70000 + n}-1` and `C-{18000 + n}`. Of 500 loans 350 are `payingBack`, 30 `defaulted`.
    """
    return [_seeded_loan(number) for number in range(1, size + 1)]


def members(loan: Loan) -> list[tuple[str, str]]:
    """Loan and client id of each member of a group of the portfolio: `L-70010-1-A`, …. Of another loan, none.

    They are the partner's alone: `GET loans` knows the group.
    """
    count = loan["borrower_count"]
    letters = ascii_uppercase[:count] if count > 1 else ""
    return [(f"{loan['internal_loan_id']}-{letter}", f"{loan['internal_client_id']}-{letter}") for letter in letters]


def new_loan(
    number: int,
    *,
    uuid: str,
    loan_id: str,
    client_id: str,
    name: str,
    borrowers: int,
    location: str,
    currency: str,
    local_price: Decimal,
    status: str,
    create_time: int,
) -> Loan:
    """A loan of the sandbox's partner with nothing funded; `number` makes its public Kiva id, times are epoch seconds.

    Raises KeyError when `currency` is not one of the partner's.
    """
    partner = Partner()
    return {
        "kiva_id": str(2_990_000 + number),
        "uuid": uuid,
        "borrower_count": borrowers,
        "internal_loan_id": loan_id,
        "internal_client_id": client_id,
        "partner_id": partner.id,
        "partner": partner.name,
        "name": name,
        "location": location,
        "status": status,
        "status_detail": status,
        "loan_price": f"{local_price / PER_DOLLAR[currency]:.2f}",
        "loan_local_price": f"{local_price:.2f}",
        "loan_currency": currency,
        "create_time": create_time,
        "planned_expiration_time": create_time + 30 * _DAY,
        "planned_inactive_expire_time": create_time + 37 * _DAY,
        "delinquent": False,
        "fundedAmount": 0.0,
        "flexible_fundraising_enabled": "false",
    }


def _seeded_loan(number: int) -> Loan:
    chance = Random(number)  # noqa: S311 - variety, not secrecy
    country_name, country = chance.choice(list(_COUNTRIES.items()))
    dollars = 25 * chance.randint(4, 60)
    is_group = number % 10 == 0
    status = _STATUS_OF_FIFTY.get(number % 50, "payingBack")
    loan_id = f"L-{70_000 + number}-1"
    loan = new_loan(
        number,
        uuid=str(uuid5(NAMESPACE_URL, loan_id)),
        loan_id=loan_id,
        client_id=f"C-{18_000 + number}",
        name=chance.choice(_GROUPS if is_group else _NAMES),
        borrowers=chance.randint(3, 8) if is_group else 1,
        location=f"{chance.choice(country.towns)}: {country_name}",
        currency=country.currency,
        local_price=dollars * country.per_dollar,
        status=status,
        create_time=_FIRST_LOAN_MADE + chance.randrange(365 * _DAY),
    )
    loan["delinquent"] = status == "defaulted" or (status == "payingBack" and number % 12 == 0)
    if status in {"fundRaising", "expired"}:
        loan["fundedAmount"] = dollars / 4
    elif status not in _NOTHING_FUNDED:
        loan["fundedAmount"] = float(dollars)
    settled = loan["create_time"] + 200 * _DAY
    match status:
        case "ended":
            loan["ended_time"] = settled
        case "refunded":
            loan["refunded_time"] = settled
        case "expired":
            loan["expired_time"] = loan["planned_expiration_time"]
        case "defaulted":
            loan["defaulted_time"] = settled
        case "issue" | "issue_revising" | "issue_approving":
            loan["issue_feedback_time"] = loan["create_time"] + 2 * _DAY
            loan["issue_reported_by"] = "kiva-reviewer"
    return loan
