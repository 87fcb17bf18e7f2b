"""What Kiva answers when all is well, for every imitation of it in the tests. One that runs alone needs only this."""

from typing import Any

SCOPES = "create:repayment read:loans create:loan_draft create:journal_update"


def token_answer(token: str) -> dict[str, Any]:
    """What Kiva's token endpoint answers, as an object."""
    return {
        "access_token": token,
        "scope": SCOPES,
        "partnerId": "9001",
        "token_type": "bearer",
        "expires_in": 43_199,
    }


def created(path: str, number: int) -> dict[str, str]:
    """Kiva's references of what a POST to `path` has created."""
    return {
        "loan_draft": {"loan_draft_uuid": f"00000000-0000-4000-8000-{number:012}"},
        "journals": {"archive_id": str(number), "confirm_url": f"https://partners.kiva.org/confirm/{number}"},
        "repayments": {"upload_id": str(number)},
    }[path]
