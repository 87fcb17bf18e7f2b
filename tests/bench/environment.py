"""Both implementations as they were built, made to trust the stub that plays Kiva, and their execution environments.

What runs here is what `sam build` made, by the bare interpreter that stands for Lambda's, with the variables that
template.yaml gives the function: its parameters' defaults, and for everything a stack would create a name of the stub.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Self

import yaml

from bench import stubs
from bench.stubs import Stub
from sockets import certificate

ROOT = Path(__file__).parents[2]
INTERPRETER = ROOT / ".venvs" / "runtime" / "bin" / "python"
WORKER = Path(__file__).with_name("worker.py")

FUNCTIONS = {
    "loan_draft": "LoanDraftsFunction",
    "journal_update": "JournalUpdatesFunction",
    "repayment": "RepaymentsFunction",
}

LAMBDA = {
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_SESSION_TOKEN": "none",
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
    "AWS_LAMBDA_FUNCTION_NAME": "benchmark",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    # X-Ray samples one invocation in twenty; this is one of the nineteen, which are cheaper for who traces.
    "_X_AMZN_TRACE_ID": "Root=1-6a14a5b0-0123456789abcdef01234567;Parent=0123456789abcdef;Sampled=0",
    "LANG": "en_US.UTF-8",
    "TZ": ":UTC",
    # /var/task and /opt are read-only in Lambda: what was not compiled is compiled by every environment again.
    "PYTHONDONTWRITEBYTECODE": "1",
    # In Lambda it would go to the log; here it would stand in the middle of the table.
    "PYTHONWARNINGS": "ignore",
}
"""What Lambda itself sets, as far as anybody reads it."""

_series = count(1)


class Figure(NamedTuple):
    """One metric of both, None where one has none. `detail` says how it was measured, and what else there is."""

    ours: float | None
    textbook: float | None
    detail: dict[str, Any]


def ratios(ours: Iterable[float], textbook: Iterable[float]) -> dict[str, float]:
    """For a Figure's detail: how many times less ours took in rounds in turn."""
    each = [theirs / mine for mine, theirs in zip(ours, textbook, strict=True)]
    return {"ratio_min": min(each), "ratio_median": median(each)}


@dataclass(frozen=True)
class Run:
    """What some invocations took: seconds, bytes, and how often each stub was asked for each thing."""

    submissions: int
    cpu: float
    wall: float
    peak: int
    memory: int
    kiva: Mapping[str, int]
    aws: Mapping[str, int]

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds of one submission."""
        return 1000 * self.cpu / self.submissions

    @property
    def per_second(self) -> float:
        """Submissions in a second."""
        return self.submissions / self.wall

    @property
    def write_units(self) -> float:
        """What DynamoDB writes, in the table and in its indexes."""
        return self.aws["wru"] + self.aws["index_wru"]


@dataclass(frozen=True)
class Artefact:
    """One implementation. `paths` and `handlers` by kind, `variables` as for the first of its functions."""

    name: str
    paths: Mapping[str, tuple[Path, ...]]
    handlers: Mapping[str, str]
    variables: Mapping[str, Mapping[str, str]]
    home: Path = field(repr=False)

    def environment(self, kind: str, **more: str) -> dict[str, str]:
        """All the variables of a process that runs the function of a kind; nothing of this machine's gets in."""
        paths = self.paths[kind]
        of_lambda = {**LAMBDA, "LAMBDA_TASK_ROOT": str(paths[0]), "HOME": str(self.home), "PATH": os.defpath}
        return {**of_lambda, **self.variables[kind], "PYTHONPATH": os.pathsep.join(map(str, paths)), **more}


class Worker:
    """An execution environment that waits for invocations. Stops on leaving."""

    def __init__(self, stage: "Stage", artefact: Artefact, kind: str, **variables: str) -> None:
        self._stage = stage
        # By its number no two workers report the same loan.
        told = {"handler": artefact.handlers[kind], "kind": kind, "loans": f"L{next(_series)}"}
        self._process = subprocess.Popen(  # noqa: S603 our own command
            [INTERPRETER, WORKER, json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=artefact.environment(kind, **variables),
            cwd=artefact.paths[kind][0],
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def invoke(self, invocations: int, messages: int) -> Run:
        """Have it work. Raises as `invoke_all`."""
        return invoke_all(self._stage, [self], invocations, messages)

    def begin(self, invocations: int, messages: int) -> None:
        """Tell it what to do."""
        self._process.stdin.write(json.dumps({"invocations": invocations, "messages": messages}) + "\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, float]:
        """Wait until it is done."""
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the worker ended without an answer; why stands above")
        return json.loads(answer)


def invoke_all(stage: "Stage", workers: Sequence[Worker], invocations: int, messages: int) -> Run:
    """Have each of the workers work, all at the same time; CPU is all of them, time and memory the one that has most.

    Raises RuntimeError unless Kiva's stub got exactly what was sent.
    """
    kiva, aws = stage.kiva.counts(), stage.aws.counts()
    for worker in workers:
        worker.begin(invocations, messages)
    answers = [worker.end() for worker in workers]
    kiva, aws = _since(kiva, stage.kiva.counts()), _since(aws, stage.aws.counts())
    sent = len(workers) * invocations * messages
    if kiva["rows"] != sent or kiva["duplicates"]:
        raise RuntimeError(f"{sent} submissions were sent, Kiva's stub has {kiva}")
    cpu = sum(answer["cpu"] for answer in answers)
    most = {name: max(answer[name] for answer in answers) for name in ("wall", "peak", "memory")}
    return Run(sent, cpu, **most, kiva=kiva, aws=aws)


def _since(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    return {name: number - before.get(name, 0) for name, number in after.items()}


@dataclass(frozen=True)
class Stage:
    """The two stubs, and the two implementations to run against them."""

    kiva: Stub
    aws: Stub
    ours: Artefact
    textbook: Artefact

    def worker(self, artefact: Artefact, kind: str, **variables: str) -> Worker:
        """Start an execution environment; `variables` replace some of the function's."""
        return Worker(self, artefact, kind, **variables)

    def latency(self, *, kiva: float, aws: float) -> None:
        """Seconds before each of their answers, token requests aside."""
        self.kiva.set(latency=kiva)
        self.aws.set(latency=aws)


@contextmanager
def stage() -> Iterator[Stage]:
    """Start the stubs and copy the artefacts; leave nothing behind."""
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        trusted, _ = certificate(folder / "kiva.pem", "localhost")
        kiva, aws = opened.enter_context(stubs.kiva(trusted)), opened.enter_context(stubs.aws())
        authority = trusted.read_text().partition("-----BEGIN EC PRIVATE")[0]
        stack = _stack(kiva.url, aws.url)
        ours = _ours(_copy(ROOT / ".aws-sam" / "build", folder / "ours", authority), stack)
        textbook = _textbook(_copy(ROOT / ".aws-sam" / "textbook" / "build", folder / "textbook", authority), stack)
        yield Stage(kiva, aws, ours, textbook)


def alone(measure: Callable[[Stage], Mapping[str, Any]]) -> None:
    """Run one measurement by itself and print its figures."""
    with stage() as on:
        for name, figures in measure(on).items():
            print(f"{name:40} {figures}")  # noqa: T201 asked for on the command line


def _stack(kiva: str, aws: str) -> dict[str, str]:
    """The variables that come from a stack's resources and from whoever deploys it."""
    return {
        "KIVA_ENVIRONMENT": "sandbox",
        "KIVA_TOKEN_URL": f"{kiva}/oauth/token",
        "KIVA_AUDIENCE": "https://audience.kiva.test",
        "KIVA_API_BASE_URL": kiva,
        "KIVA_PARTNER_ID": "9001",
        "KIVA_CREDENTIALS_SECRET": "credentials",
        "TOKEN_STORE_NAME": "token",
        "ENCRYPTION_KEY": "arn:aws:kms:us-east-1:000000000000:key/benchmark",
        "LEDGER_TABLE": "ledger",
        "PAYLOAD_BUCKET": "payloads",
        "QUEUE_URL": f"{aws}/000000000000/queue",
        "DEAD_LETTER_QUEUE_URL": f"{aws}/000000000000/dead-letters",
        "AWS_ENDPOINT_URL": aws,
        "POWERTOOLS_SERVICE_NAME": "benchmark",
    }


def _ours(build: Path, stack: Mapping[str, str]) -> Artefact:
    template = yaml.safe_load((build / "template.yaml").read_text())
    layer = build / "KivaPartnerLayer"
    variables = {}
    for kind, function in FUNCTIONS.items():
        own = template["Resources"][function]["Properties"]["Environment"]["Variables"]
        declared = template["Globals"]["Function"]["Environment"]["Variables"] | own
        values = {name: stack.get(name) or _default(value, template["Parameters"]) for name, value in declared.items()}
        variables[kind] = {name: value.replace("/opt/", f"{layer}/") for name, value in values.items()}
    paths = {kind: (build / function, layer / "python") for kind, function in FUNCTIONS.items()}
    return Artefact("kiva-relay", paths, dict.fromkeys(FUNCTIONS, "app.handler"), variables, build.parent)


def _default(value: Any, parameters: Mapping[str, Any]) -> str:
    match value:
        case str():
            return value
        case {"Ref": name} if "Default" in parameters.get(name, {}):
            return str(parameters[name]["Default"])
    raise ValueError(f"the benchmark does not know what {value} of the template is")


def _textbook(build: Path, stack: Mapping[str, str]) -> Artefact:
    """One function with everything in it, which is given the variables of our Globals."""
    (code,) = (path.parent for path in build.glob("*/app.py"))
    handlers = {"loan_draft": "app.drafts_handler", "repayment": "app.repayments_handler"}
    variables = {**stack, "POWERTOOLS_METRICS_NAMESPACE": "KivaRelay", "POWERTOOLS_LOG_LEVEL": "INFO"}
    paths, every = dict.fromkeys(handlers, (code,)), dict.fromkeys(handlers, variables)
    return Artefact("textbook", paths, handlers, every, build.parent)


def _copy(build: Path, copy: Path, authority: str) -> Path:
    """The built artefact again, with one more certificate authority in the bundle that it brings."""
    if not (build / "template.yaml").exists():  # SAM writes it when all the rest is there
        raise FileNotFoundError(f"there is no {build.relative_to(ROOT)}: `make bench` builds it")
    shutil.copytree(build, copy)
    for bundle in copy.glob("**/certifi/cacert.pem"):
        bundle.write_text(bundle.read_text() + authority)
    return copy
