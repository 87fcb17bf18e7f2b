"""Request bodies as Kiva reads them: unknown keys are ignored, and next to nothing in a draft is mandatory."""

import math
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _finite(amount: Decimal) -> Decimal:
    # As text it escapes what JSON allows a number to be; a sum with it would overflow, and JSON could not show it.
    if not math.isfinite(float(amount)):
        raise ValueError("not a finite number")
    return amount


Amount = Annotated[Decimal, AfterValidator(_finite)]


class _Body(BaseModel):
    # A JSON number where a string belongs is taken as its text, as Java services do.
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)


class Entrep(_Body):
    """One borrower of a draft."""

    client_id: str | None = None
    loan_id: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    gender: str | None = None
    amount: Amount | None = None


class Instalment(_Body):
    """One expected payment of a draft's schedule, in the loan's currency."""

    date: str | None = None
    principal: Amount | None = None
    interest: Amount | None = None


class Draft(_Body):
    """The body of `POST loan_draft`."""

    activity_id: int | None = None
    theme_type_id: int | None = None
    description_language_id: int | None = None
    location: str | None = None
    currency: str | None = None
    loanuse: str | None = None
    description: str | None = None
    client_waiver_signed: bool | None = None
    disburse_time: str | None = None
    entreps: list[Entrep] = []
    schedule: list[Instalment] = []
    image_encoded: str | None = None
    image_url: str | None = None
    group_name: str | None = None
    internal_client_id: str | None = None
    internal_loan_id: str | None = None
    not_pictured: list[bool] | None = None

    @property
    def is_group(self) -> bool:
        """Whether several borrowers share the loan: Kiva's schema has no other sign of it."""
        return len(self.entreps) > 1

    @property
    def group_fields(self) -> list[str]:
        """Names of the group-only fields that this draft carries."""
        names = ("group_name", "internal_client_id", "internal_loan_id", "not_pictured")
        return [name for name in names if getattr(self, name) is not None]

    @property
    def loan_id(self) -> str | None:
        """The partner's id of the loan as a whole: the group's, or that of the one borrower."""
        return self.internal_loan_id if self.is_group else self._borrower.loan_id

    @property
    def client_id(self) -> str | None:
        """The partner's id of whoever bears the loan: the group's, or that of the one borrower."""
        return self.internal_client_id if self.is_group else self._borrower.client_id

    @property
    def name(self) -> str | None:
        """What lenders read: the group's name, or the one borrower's first name."""
        return self.group_name if self.is_group else self._borrower.first_name

    @property
    def _borrower(self) -> Entrep:
        return self.entreps[0] if self.entreps else Entrep()

    @property
    def amount(self) -> Decimal:
        """What all borrowers ask for together, in the loan's currency."""
        return sum((entrep.amount or Decimal() for entrep in self.entreps), Decimal())


class Journal(_Body):
    """One update about a borrower."""

    internal_loan_id: str
    internal_client_id: str | None = None
    subject: str
    body: str
    image_url: str | None = None


class Journals(_Body):
    """The body of `POST journals`."""

    journals: list[Journal] = Field(min_length=1)


class Repayment(_Body):
    """One row of a repayment report; the amount is in the loan's currency."""

    loan_id: str
    client_id: str | None = None
    amount: Amount


class Repayments(_Body):
    """The body of `POST repayments`."""

    repayments: list[Repayment] = Field(min_length=1)
