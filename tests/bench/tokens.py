"""How often Kiva is asked for a token: by cold starts, in a day, and after it has refused one.

The textbook asks once for each environment, whatever the others do, so a tenth of the cold starts shows what it needs.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

from bench.environment import INTERPRETER, Artefact, Figure, Stage, alone

TOKEN_WORKER = Path(__file__).with_name("token_worker.py")

STARTS, STARTS_OF_THE_TEXTBOOK = 1000, 100
TOKEN_SECONDS, AWS_SECONDS = 0.3, 0.005
"""How long each takes to answer those who come at the same time."""


def measure(on: Stage) -> dict[str, Figure]:
    """Token requests, by the name of the metric."""
    return {**_cold_starts(on), **_day(on), **_refused(on)}


def _cold_starts(on: Stage) -> dict[str, Figure]:
    ours, how_long = _play(on, on.ours, "cold_starts", starts=STARTS, at_a_time=50)
    theirs, _ = _play(on, on.textbook, "cold_starts", starts=STARTS_OF_THE_TEXTBOOK, at_a_time=50)
    how = f"50 at a time, empty store; the textbook: {theirs} for {STARTS_OF_THE_TEXTBOOK}"
    textbook = theirs * STARTS / STARTS_OF_THE_TEXTBOOK
    return {"token_requests_per_1000_cold_starts": Figure(ours, textbook, {"how": how, **how_long})}


def _day(on: Stage) -> dict[str, Figure]:
    """With housekeeping as template.yaml has it, and without: the worse of the two days counts."""
    days = {
        housekeeping: _play(on, on.ours, "day", workers=100, poll_seconds=30, housekeeping=housekeeping)
        for housekeeping in (True, False)
    }
    textbook, _ = _play(on, on.textbook, "day", workers=100, poll_seconds=30, housekeeping=False)
    requests, waits = ({day: each[part] for day, each in days.items()} for part in (0, 1))
    how = "100 environments, each every 30 s; while one asks Kiva all others want the token too; clock simulated"
    return {
        "token_requests_in_a_day": Figure(
            max(requests.values()),
            textbook,
            {"how": how, "with_housekeeping": requests[True], "without": requests[False]},
        ),
        "token_waits_in_a_day": Figure(max(each["waits"] for each in waits.values()), textbook, {"how": how}),
    }


def _refused(on: Stage) -> dict[str, Figure]:
    ours, _ = _play(on, on.ours, "refused", workers=200, at_a_time=50)
    textbook, _ = _play(on, on.textbook, "refused", workers=200, at_a_time=50)
    how = "200 environments discard the token that all hold, as after a 401, and get another; 50 at a time"
    return {"token_requests_after_401": Figure(ours, textbook, {"how": how})}


def _play(on: Stage, artefact: Artefact, scenario: str, **told: Any) -> tuple[int, dict[str, Any]]:
    """Play a scenario of token_worker.py from an empty store: how often Kiva was asked, and what else was seen."""
    on.aws.reset()
    # A day's clock is simulated, so nothing that takes time has a say in it.
    real = scenario != "day"
    on.aws.set(latency=real * AWS_SECONDS)
    on.kiva.set(token_latency=real * TOKEN_SECONDS)
    with subprocess.Popen(  # noqa: S603 our own command
        [INTERPRETER, TOKEN_WORKER, artefact.name, scenario, json.dumps(told)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=artefact.environment("repayment"),
        cwd=artefact.paths["repayment"][0],
        text=True,
    ) as process:
        try:
            ready = process.stdout.readline()
            before = on.kiva.counts()["token"]
            seen, _ = process.communicate("go\n")
        finally:
            process.kill()
    if not (ready and seen):
        raise RuntimeError(f"{artefact.name} did not get through {scenario}; why stands above")
    return on.kiva.counts()["token"] - before, json.loads(seen)


if __name__ == "__main__":
    alone(measure)
