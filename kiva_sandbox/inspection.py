"""`/_sandbox/`: what only the sandbox has. It asks for no token, being for the tests and people of this machine."""

from typing import Any

from fastapi import APIRouter, Depends, HTTPException

from kiva_sandbox.state import NotPublishable
from kiva_sandbox.switches import Switches, choices
from kiva_sandbox.web import Answer, Board, JsonBody, KeptState, sent_from_here

inspection = APIRouter(prefix="/_sandbox", dependencies=[Depends(sent_from_here)])


@inspection.get("/health")
async def health() -> Answer:
    """Say that the sandbox answers."""
    return Answer({"status": "ok"})


@inspection.get("/drafts")
async def drafts(state: KeptState) -> Answer:
    """Show every draft with its whole body and the messages PA2 would show."""
    return _all(state.drafts())


@inspection.get("/journals")
async def journals(state: KeptState) -> Answer:
    """Show every journal with its archive and whether a person has confirmed it."""
    return _all(state.journals())


@inspection.get("/uploads")
async def uploads(state: KeptState) -> Answer:
    """Show every upload with its rows, their problems, and whether a person has finalised it."""
    return _all(state.uploads())


@inspection.get("/loans")
async def loans(state: KeptState) -> Answer:
    """Show every loan at once."""
    return _all(state.loans())


@inspection.get("/counters")
async def counters(state: KeptState) -> Answer:
    """Count what came in, including what was refused."""
    token_requests, calls = state.counters()
    return Answer({"token_requests": token_requests, "calls": calls})


@inspection.post("/reset")
async def reset(state: KeptState, board: Board) -> Answer:
    """Go back to the state and the switches at start."""
    state.reset()
    board.reset()
    return Answer({"status": "ok"})


@inspection.get("/switches")
async def switches(board: Board) -> Answer:
    """Show every switch as it stands, with its default, what it can be, and what it does."""
    return _switches(board.now)


@inspection.patch("/switches")
async def switch(body: JsonBody, board: Board) -> Answer:
    """Set some switches for all calls from now on, and show all; when one does not exist, none is changed."""
    if not isinstance(body, dict):
        raise HTTPException(400, "The switches to change must be a JSON object")
    return _switches(board.change(body))


@inspection.post("/drafts/{uuid}/publish")
async def publish(uuid: str, state: KeptState) -> Answer:
    """Complete and publish a draft as its coordinator would, and show the loan it becomes."""
    try:
        return Answer(state.publish(uuid, completed=True))
    except KeyError:
        raise HTTPException(404, "No draft has this uuid") from None
    except NotPublishable as reason:
        raise HTTPException(409, str(reason)) from None


@inspection.post("/journals/{archive_id}/confirm")
async def confirm(archive_id: str, state: KeptState) -> Answer:
    """Confirm an archive as a person would at its confirm URL, and show its journals."""
    try:
        return _all(state.confirm(archive_id))
    except KeyError:
        raise HTTPException(404, "No archive has this id") from None


@inspection.post("/uploads/{upload_id}/finalise")
async def finalise(upload_id: int, state: KeptState) -> Answer:
    """Finalise an upload as a person would after reviewing it, and show it."""
    try:
        return Answer(state.finalise(upload_id))
    except KeyError:
        raise HTTPException(404, "No upload has this id") from None


def _switches(now: Switches) -> Answer:
    return Answer(
        {
            name: {
                "value": getattr(now, name),
                "default": field.default,
                "choices": choices(name),
                "description": field.description,
            }
            for name, field in Switches.model_fields.items()
        }
    )


def _all(data: list[Any]) -> Answer:
    return Answer({"total": len(data), "data": data})
