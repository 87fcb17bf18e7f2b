"""`relay check`: whether everything between this machine and Kiva works together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from cli.relay_api import NoAnswer, Refused
from cli.stacks import NoSuchStack, StackOfStage

Check = Mapping[str, Any]
"""Its name, whether it is ok, a detail, and how to mend it."""


def checks_of(stack_of: Callable[[str], StackOfStage], stage: str) -> Iterator[Check]:
    """From here to Kiva; what comes behind something that fails cannot be known."""
    mend = ""
    try:
        stack = stack_of(stage)
        told = f"{stack.name} talks to Kiva's {stack.output('KivaEnvironment')}"
    except (NoSuchStack, ClientError, BotoCoreError) as error:
        mend = str(error)
    yield {"name": "stack", "ok": not mend, "detail": "cannot be looked at" if mend else told, "mend": mend}
    if mend:
        return
    found: Sequence[Check] = ()
    try:
        found = stack.api.get("check")["checks"]
    except (NoSuchStack, NoAnswer) as error:
        mend = str(error)
    except Refused as error:
        mend = {
            401: "your AWS credentials are not valid; log in again",
            403: "ask for execute-api:Invoke on the stack's API; or the stack is of an older version: deploy this one",
            404: "the stack is of an older version: deploy this one",
        }.get(error.status, str(error))
    yield {"name": "api", "ok": not mend, "detail": "does not answer you" if mend else "answers you", "mend": mend}
    yield from found
