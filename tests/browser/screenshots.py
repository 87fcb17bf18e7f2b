"""`make screenshots`: the README's pictures of the pages, from a run of the stack on this machine."""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome

from chromium import not_installed, start_chromium
from e2e.world import World
from local.stack import ROOT, down, step, up

IMAGES = ROOT / "docs" / "images"
WIDTH = 1100
MOST_BYTES = 150_000
COLOURS = 64
"""A page has fewer; the rest is the smoothing of letters."""


def fill(world: World) -> None:
    """Something of every kind, as events/ has it, and two calls that nobody knows the outcome of."""
    world.housekeeping()  # which fetches Kiva's lists: one of the drafts names a location that is not in them
    for name in ("loan_draft_individual", "loan_draft_group", "journal_updates", "repayments"):
        event = json.loads((ROOT / "events" / "api" / f"{name}.json").read_text())
        body = event["body"].replace("Machakos: Kenya", "Naivasha: Kenya")
        world.stack.call("POST", event["path"], body.encode(), event["headers"] | {"Prefer": "wait"})
    known = [{"loan_id": f"L-{number}-1", "client_id": "C-1", "amount": 1250.5} for number in (90017, 90041)]
    world.post("repayment", world.repayments(5, period="2026-09"), Prefer="wait")
    world.post("repayment", {"period": "2026-09", "repayments": known}, Prefer="wait")
    draft = world.draft()
    draft["entreps"][0]["loan_id"] = "L-81207-1"
    for kind, message in (("loan_draft", draft), ("repayment", world.repayments(3))):
        for reference in world.die_before_sending(kind, message):
            world.note(kind, reference, "SENDING")
    world.housekeeping()


def take(browser: Chrome, url: str, file: Path, height: int) -> None:
    """Draw a page from its top, in few colours."""
    browser.get(url)
    browser.set_window_size(WIDTH, height)
    browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    browser.save_screenshot(str(file))
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(COLOURS).save(file, optimize=True)
    if file.stat().st_size > MOST_BYTES:
        sys.exit(f"{file} has {file.stat().st_size} bytes, more than {MOST_BYTES}")


def main() -> None:
    """Start a stack, submit to it, draw, stop it."""
    if missing := not_installed():
        sys.exit(missing)
    state = ROOT / ".local" / "screenshots"
    profile = Path(tempfile.mkdtemp(prefix="chromium-"))
    stack = up(state=state, parameters={"CsvColumns": "3"})
    try:
        with step("Submitting and drawing"), start_chromium(profile, profile) as browser:
            world = World(stack)
            fill(world)
            IMAGES.mkdir(exist_ok=True)
            take(browser, stack.console, IMAGES / "console.png", 1300)
            (group,) = [kept for kept in world.sandbox("drafts")["data"] if len(kept["body"]["entreps"]) > 1]
            draft = f"{stack.sandbox}/pa2/drafts/{group['loan_draft_uuid']}"
            take(browser, draft, IMAGES / "sandbox.png", 1500)
    finally:
        down(state)
        shutil.rmtree(profile, ignore_errors=True)


if __name__ == "__main__":
    main()
