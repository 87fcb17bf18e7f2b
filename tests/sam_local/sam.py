"""`sam local` as the README writes it, in front of a stack of these tests' own; and what the template leads to what."""

import contextlib
import itertools
import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from guide import blocks
from local.containers import docker
from local.processes import StackError, tail
from local.stack import Stack
from template.cloudformation import ROOT, named, of_type, read

EVENTS: Final = ROOT / "events"
FILES: Final = sorted(EVENTS.glob("*/*.json"))
ENDS: Final = dict(
    re.findall(r"^\| `(\S+\.json)` \|.*\| ([^|]+) \|$", (EVENTS / "README.md").read_text(), re.MULTILINE)
)
"""A file -> how it ends, by events/README.md."""
IMAGE: Final = "public.ecr.aws/lambda/python:3.13-x86_64"
"""What SAM runs these functions in, with samconfig.toml's architecture."""
STATE: Final = ".local/stack"
"""Where the README has what `make up` wrote."""
START_SECONDS: Final = 120.0
"""Only ends what would never end."""


# --- what is run ----------------------------------------------------------------------------------------------------

DOCUMENTED: Final = [
    line
    for document in (ROOT / "README.md", EVENTS / "README.md")
    for block in blocks(document)
    for line in block.text.splitlines()
    if line.startswith("sam local")
]
(_BLOCK,) = blocks(ROOT / "README.md", "run")
_BEFORE: Final = [line for line in _BLOCK.text.splitlines() if not line.startswith(("make up", "sam local"))]


def shape(line: str) -> tuple[str, ...]:
    """The words of a documented line, with what may differ left open: which function, and which file."""
    words = shlex.split(line)
    if words[2] == "invoke":
        words[3], words[words.index("--event") + 1] = "{function}", "{file}"
    return tuple(words)


INVOKE, START_API = (
    next(shape(line) for line in DOCUMENTED if shlex.split(line)[2] == command) for command in ("invoke", "start-api")
)


def missing() -> str:
    """Why no container can be run, by what was tried; empty when one can. An image that is not there is pulled."""
    try:
        docker("version")
        try:
            docker("image", "inspect", IMAGE)
        except StackError:
            docker("pull", "--quiet", "--platform", "linux/amd64", IMAGE)
    except StackError as problem:
        return f"`sam local` needs a container engine and {IMAGE}. {problem}"
    return ""


@dataclass(frozen=True)
class Answer:
    """What a function answered, and after how many seconds the command had ended."""

    function: str
    file: str
    document: Any
    seconds: float


@dataclass
class SamLocal:
    """The documented commands, about one stack; all that the containers write stays in a folder."""

    stack: Stack
    folder: Path
    number: Any = field(default_factory=itertools.count)

    def invoke(self, function: str, file: Path) -> Answer:
        """Invoke a function with a file of events/."""
        name = file.relative_to(EVENTS).as_posix()
        words = [{"{function}": function, "{file}": f"events/{name}"}.get(word, word) for word in INVOKE]
        log = self._log()
        started = time.monotonic()
        with log.open("wb") as written, self._start(words, stdout=subprocess.PIPE, stderr=written) as process:
            answered, _ = process.communicate()
        assert process.returncode == 0, f"{shlex.join(words)} said last:\n{tail(log.read_text())}"
        return Answer(function, name, json.loads(answered), time.monotonic() - started)

    @contextlib.contextmanager
    def api(self, port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
        """Keep the API running; gives its address and its process."""
        log = self._log()
        command = [*START_API, "--port", str(port)]
        with log.open("wb") as written, self._start(command, stdout=subprocess.DEVNULL, stderr=written) as process:
            try:
                deadline = time.monotonic() + START_SECONDS
                while b"Running on" not in log.read_bytes():
                    assert process.poll() is None, f"start-api has ended. It said last:\n{tail(log.read_text())}"
                    assert time.monotonic() < deadline, f"It does not answer. It said last:\n{tail(log.read_text())}"
                    time.sleep(0.2)
                yield f"http://127.0.0.1:{port}", process
            finally:
                process.terminate()

    def logs(self) -> str:
        """All that the containers, and SAM about them, have written so far."""
        return "".join(log.read_text() for log in self.folder.glob("*.log"))

    def _log(self) -> Path:
        return self.folder / f"{next(self.number)}.log"

    def _start(self, command: Sequence[str], **streams: Any) -> subprocess.Popen[bytes]:
        """The README's lines up to this one. What else differs: whose state, and that no newer image is looked for."""
        lines = [*_BEFORE, "exec " + shlex.join([*command, "--skip-pull-image"])]
        script = "\n".join(lines).replace(STATE, self.stack.state)
        return subprocess.Popen(["/bin/sh", "-euc", script], cwd=ROOT, env=_environment(), **streams)  # noqa: S603 our own


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | {"PATH": f"{ROOT}/.venvs/sam/bin:{kept['PATH']}", "SAM_CLI_TELEMETRY": "0"}


def containers() -> list[str]:
    """The containers that there are of what this checkout has built, running or not."""
    every = docker("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Mounts}}").splitlines()
    return [container for container in every if f"{ROOT}/.aws-sam/build/" in container]


# --- what leads to what ---------------------------------------------------------------------------------------------


def routes() -> dict[str, str]:
    """`GET /loans` and so on -> the function behind it."""
    return {
        f"{event['Properties']['Method']} {event['Properties']['Path']}": function
        for function, event in _events()
        if event["Type"] == "Api"
    }


def sources() -> dict[str, str]:
    """A queue, a schedule or a table, by its name without the stack's -> the function that it feeds."""
    template = read()
    queues = {name: _own(queue["QueueName"]) for name, queue in of_type(template, "AWS::SQS::Queue").items()}
    mappings = of_type(template, "AWS::Lambda::EventSourceMapping").values()
    sources = {named(it["EventSourceArn"]).partition(".")[0]: named(it["FunctionName"]) for it in mappings}
    return {queues.get(source, source): function for source, function in sources.items()} | {
        _own(event["Properties"]["Name"]): function for function, event in _events() if event["Type"] == "ScheduleV2"
    }


def feeds(file: Path) -> str:
    """The route, queue, schedule or table that an event comes from."""
    event = json.loads(file.read_text())
    if "httpMethod" in event:
        return f"{event['httpMethod']} {event['resource']}"
    arn = event["Records"][0]["eventSourceARN"] if "Records" in event else event["resources"][0]
    found = re.search(r"[:/]kiva-relay-stage-([A-Za-z-]*[a-z])", arn)
    assert found, f"{file.name} is from {arn}, which is nothing of this stack"
    return found[1]


def _events() -> Iterator[tuple[str, dict[str, Any]]]:
    for function, properties in functions().items():
        yield from ((function, event) for event in properties.get("Events", {}).values())


def functions() -> dict[str, dict[str, Any]]:
    """The properties of every function of the template."""
    return of_type(read(), "AWS::Serverless::Function")


def _own(name: Any) -> str:
    return named(name).removeprefix("${AWS::StackName}-")


FED_BY: Final = routes() | sources()
