"""Request bodies as Kiva reads them: unknown keys are ignored, and next to nothing in a draft is mandatory.

What is said of the fields stands in the OpenAPI document too. It is from Kiva's samples and documentation
(github.com/kiva/fps-sdk); where these are silent, from how PA2 asks for the same thing.
"""

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
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, use_attribute_docstrings=True)


class Entrep(_Body):
    """One borrower of a draft."""

    client_id: str | None = None
    """The partner's own id of the borrower."""
    loan_id: str | None = None
    """The partner's own id of the loan; in a group, of this borrower's part of it."""
    first_name: str | None = None
    """In any script."""
    last_name: str | None = None
    """In any script."""
    gender: str | None = None
    """`female`, `male` or `unknown`; Kiva publishes no list."""
    amount: Amount | None = None
    """What this borrower asks for, as principal, in `currency`; more than zero."""


class Instalment(_Body):
    """One expected payment of a draft's schedule, in the loan's currency."""

    date: str | None = None
    """`YYYY-MM-DD`; later than the one before."""
    principal: Amount | None = None
    """In the loan's currency. All of them together are the amount of the borrowers."""
    interest: Amount | None = None
    """In the loan's currency, as planned."""


class Draft(_Body):
    """The body of `POST loan_draft`."""

    activity_id: int | None = None
    """What the loan is for: an `activity_id` of `config/activities`."""
    theme_type_id: int | None = None
    """The loan theme: a `theme_type_id` of `config/themes`. Left out, not 0, when it is not known."""
    description_language_id: int | None = None
    """The language of the description: a `language_id` of `config/locales`."""
    location: str | None = None
    """Where the borrower lives: a `full_name` of `config/locations`, `Town: Country`."""
    currency: str | None = None
    """ISO 4217 code of all amounts: a `currency` of `config/locales`."""
    loanuse: str | None = None
    """The purpose in a few words, which go on from "a loan of 475 dollars helps …": `to buy …`."""
    description: str | None = None
    """The borrower's story, as lenders read it."""
    client_waiver_signed: bool | None = None
    """Whether the borrower has agreed to be shown. PA2 publishes no loan without."""
    disburse_time: str | None = None
    """The day of disbursal, `YYYY-MM-DD`: less than 30 days past and not more than 90 days ahead."""
    entreps: list[Entrep] = []
    """The borrowers: one for an individual loan, two or more for a group."""
    schedule: list[Instalment] = []
    """The payments that are expected, the first one first."""
    image_encoded: str | None = None
    """The photo as a data URI in base64, with its true media type: `image/jpeg`, `image/png` or `image/gif`."""
    image_url: str | None = None
    """Deprecated by Kiva since 2022, and still taken: send `image_encoded`."""
    group_name: str | None = None
    """Group loans only; absent for an individual. What lenders read as the name."""
    internal_client_id: str | None = None
    """Group loans only; absent for an individual. The partner's own id of the group."""
    internal_loan_id: str | None = None
    """Group loans only; absent for an individual. The partner's own id of the group's loan."""
    not_pictured: list[bool] | None = None
    """Group loans only; absent for an individual. Whether the photo lacks them, for all `entreps` in their order."""

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
    """The partner's own id of the loan, as `GET loans` has it; for a group that of the group."""
    internal_client_id: str | None = None
    """Needed by partners whose CSV upload format in PA2 has three columns."""
    subject: str
    """Its headline."""
    body: str
    """Its text."""
    image_url: str | None = None
    """A photo that Kiva can fetch; there is no way to send one along."""


class Journals(_Body):
    """The body of `POST journals`."""

    journals: list[Journal] = Field(min_length=1)
    """They share an archive, which a person confirms as a whole."""


class Repayment(_Body):
    """One row of a repayment report; the amount is in the loan's currency."""

    loan_id: str
    """The partner's own id of the loan, the `internal_loan_id` of `GET loans`; for a group that of the group."""
    client_id: str | None = None
    """Needed by partners whose CSV upload format in PA2 has three columns."""
    amount: Amount
    """In the loan's currency. By the partner's setting at Kiva: the principal repaid to date, or outstanding."""


class Repayments(_Body):
    """The body of `POST repayments`."""

    repayments: list[Repayment] = Field(min_length=1)
    """One for each loan that is `payingBack` or `defaulted`; Kiva asks for 200 to 300 at most in a call."""
