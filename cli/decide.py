"""`relay decide`: what a decision is about and what it does, said before it is made."""

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from cli import show
from cli.relay_api import RelayApi, every_submission
from cli.stacks import StackOfStage
from kiva_partner.decisions import Choice, day_before
from kiva_partner.messages import Kind


def of_the_same_call(api: RelayApi, submission: Mapping[str, Any]) -> list[str]:
    """The references of all that are decided together, the given one first."""
    first, kind, state, call = (
        submission["reference"],
        submission["kind"],
        submission["state"],
        submission.get("call_id"),
    )
    # A draft is alone in its call, and so is a row that was refused although its call was not.
    together = call and kind != Kind.LOAN_DRAFT and (state == "UNKNOWN" or submission.get("http_status"))
    since = {"since": day_before(submission["updated_at"]).isoformat()} if state == "REJECTED" else {}
    unknown = every_submission(api, kind=kind, state=state, **since) if together else ()
    return [first, *(it["reference"] for it in unknown if it.get("call_id") == call and it["reference"] != first)]


def consequences(decision: Choice, kiva_reference: str, references: Sequence[str], excepted: Sequence[str] = ()) -> str:
    """What a decision will do, in two lines."""
    but = f", except {len(excepted)}, which become REJECTED" if excepted else ""
    more = f" and {len(references) - show.FEW} more" if len(references) > show.FEW else ""
    what = {
        Choice.ACCEPTED: f"Kiva has them as {kiva_reference}: they become ACCEPTED, and are never sent again{but}.",
        Choice.SEND_AGAIN: "Kiva has them not: they are sent again. If Kiva has them after all, it has them twice.",
        Choice.REOPEN: "Kiva refused them, and nothing is wrong with them: each may be sent once more, by its event.",
        Choice.ABANDON: "They are given up: whether Kiva has them or not, they are not sent again.",
    }[decision]
    return f"Decided together: {', '.join(references[: show.FEW])}{more}\n{what}"


def confirm(stack: StackOfStage, what: str) -> None:
    """Ask on standard error; where it is about real loans, for more than a keystroke."""
    for line in what.splitlines():
        show.say(show.harmless(line))
    ask(stack.name, stack.output("KivaEnvironment"))


def ask(stack: str, environment: str) -> None:
    """Ask whether to go on with a stack of this name; raises typer.Abort unless the answer is yes."""
    if environment == "production":
        if typer.prompt("This is Kiva's production. Type production to go on", err=True) != "production":
            raise typer.Abort
    else:
        typer.confirm(f"Do it in {stack}?", abort=True, err=True)
