"""The whole system on one machine: an embedded AWS (MiniStack), an imitation of Kiva, and the real template on it.

    python -m local.stack up | status | logs | down

`sam build` and `sam deploy` are the real ones. The functions run under AWS's own runtime client, each in an environment
that holds nothing but that client, so that they see only what the layer brings and fail as they would fail in AWS. All
that a run starts or writes is in its state folder, which `down` empties.
"""

import argparse
import contextlib
import fcntl
import json
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from shlex import quote
from typing import Any, Final, NoReturn, TextIO
from urllib.parse import urlsplit

import requests
import yaml
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from cli.deploy import deploy_command
from cli.show import fit_every_terminal
from cli.stacks import KINDS, find, local_stack
from cli.templates import given
from kiva_sandbox.data import Partner
from kiva_sandbox.tokens import AUDIENCES
from local import containers, processes
from local.processes import LOOPBACK, StackError, free_port

ROOT: Final = Path(__file__).resolve().parent.parent
VENVS: Final = ROOT / ".venvs"
STATE: Final = ROOT / ".local" / "stack"
REGION: Final = "us-east-1"
START_SECONDS: Final = 30.0
LOANS: Final = 1500
"""Loans in the imitation of Kiva: as many as the reports in events/ know."""
PARTNER: Final = Partner()
"""Whom the imitation of Kiva knows, and samconfig.toml."""

# What Powertools adds to every line.
_ALWAYS_LOGGED: Final = frozenset(
    {
        "timestamp", "location", "service", "xray_trace_id", "cold_start", "sampling_rate",
        "function_name", "function_arn", "function_memory_size", "function_request_id",
    }
)  # fmt: skip
# In every state folder: nothing is ever removed from a folder without it.
_MARK: Final = "this-folder-belongs-to-a-stack"
# The account owner of MiniStack; it checks everybody else's permissions, and whether a request is signed at all.
_ROOT_USER: Final = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}

# A profile in a person's own files has no say in it either.
_NO_FILES: Final = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A running local stack: where everything answers.

    `api` is the URL in front of the routes; requests to it must be signed (`call` does that). `queues` and
    `dead_letter_queues` give the URL for each kind of submission. `console` is the coordinator's page, where it was
    started.
    """

    state: str
    name: str
    endpoint: str
    sandbox: str
    api: str
    queues: Mapping[str, str]
    dead_letter_queues: Mapping[str, str]
    console: str = ""

    # Any, because boto3 makes its clients at run time: annotate the variable to have it checked.
    def client(self, service: str) -> Any:
        """Return a boto3 client of the embedded AWS, as the account's owner."""
        return client_of(self.endpoint, service)

    def call(
        self, method: str, path: str, body: str | bytes = b"", headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Send a request to the relay's API, signed as AWS wants it (Signature Version 4). `path` starts with `/`."""
        request = AWSRequest(method, self.api + path, data=body, headers=dict(headers or {}))
        SigV4Auth(Credentials("test", "test"), "execute-api", REGION).add_auth(request)
        prepared = request.prepare()
        return _send(method, prepared.url, data=body, headers=dict(prepared.headers), timeout=60)

    def ask_sandbox(self, method: str, path: str, content: Any = None) -> requests.Response:
        """Look at what the imitation of Kiva has, switch it, or play a person in PA2. `path` is below `/_sandbox/`."""
        return _send(method, f"{self.sandbox}/_sandbox/{path}", json=content, timeout=10)

    def physical_id(self, logical_id: str) -> str:
        """Return what AWS calls a resource of the template: a queue's URL, a table's or a function's name."""
        return _physical_id(self.endpoint, self.name, logical_id)


def up(
    *,
    state: Path = STATE,
    port: int | None = None,
    sandbox_port: int | None = None,
    parameters: Mapping[str, str] | None = None,
    host: str = LOOPBACK,
) -> Stack:
    """Start the embedded AWS and the imitation of Kiva, build, deploy, store credentials, serve the coordinator's page.

    Args:
        state: Folder for all that this run leaves on disk; one stack per folder.
        port: Port of the embedded AWS; by default 4566 or, if that is taken, any free one.
        sandbox_port: Port of the imitation of Kiva; by default 8080 or any free one.
        parameters: Template parameters that differ from samconfig.toml's `local` section.
        host: This machine's address to listen at; `containers.address()` is the one that containers reach.

    Raises:
        StackError: It could not be done. Then, as on an interruption, everything that was started is stopped again.
    """
    with _alone(state):
        if running := attach(state):
            raise StackError(f"A stack is already running at {running.endpoint}. Stop it first: make down")
        stack = _up(state, port, sandbox_port, parameters or {}, host)
        try:
            return _with_console(stack)
        except BaseException:
            _down(state)
            raise


def attach(state: Path = STATE) -> Stack | None:
    """Return the stack that an earlier `up` left running, or None if there is none or it is not complete."""
    try:
        described = json.loads((state / "stack.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if all(processes.alive(name, state=state) for name in ("ministack", "sandbox")):
        return Stack(**described)
    return None


def deploy(stack: Stack, parameters: Mapping[str, str]) -> None:
    """Deploy the same build again with other template parameters, for example `{"CsvColumns": "3"}`."""
    with step("sam deploy " + " ".join(f"{key}={value}" for key, value in parameters.items())):
        _deploy(Path(stack.state), stack.endpoint, stack.sandbox, parameters)


def down(state: Path = STATE) -> bool:
    """Stop everything that was started with this state folder, finished or not, and remove the folder.

    Returns:
        Whether something was still running.
    """
    with _alone(state):
        return _down(state)


@contextlib.contextmanager
def running(
    *,
    state: Path,
    parameters: Mapping[str, str] | None = None,
    port: int | None = None,
    sandbox_port: int | None = None,
    host: str = LOOPBACK,
) -> Iterator[Stack]:
    """Keep a stack for the length of a block; for programs that must leave nothing behind, however they end.

    What an earlier run in the same folder left is removed first. Arguments and errors are those of `up`.
    """
    with _alone(state), _stopped_by_signals():
        _down(state)
        stack = _up(state, port, sandbox_port, parameters or {}, host)
        try:
            yield stack
        finally:
            with step("Stopping"):
                _down(state)


def ministack(state: Path, host: str, port: int, *, permissions: bool = True) -> None:
    """Start the embedded AWS alone, with its files in an existing folder; `processes.stop("ministack", …)` ends it.

    Args:
        state: The folder.
        host: This machine's address to listen at.
        port: Its port.
        permissions: Whether it checks signatures and permissions, as AWS does.
    """
    with processes.for_the_owner_alone():
        (state / "tmp").mkdir()
    endpoint = f"http://{host}:{port}"
    # Nothing of the caller's environment: MiniStack hands its own down to the functions.
    environment = _ROOT_USER | {
        "PATH": os.defpath,
        "TMPDIR": str(state / "tmp"),
        "GATEWAY_PORT": str(port),
        "BIND_HOST": host,
        "MINISTACK_HOST": host,
        "AWS_ENDPOINT_URL": endpoint,
        "AUTH": str(permissions).lower(),
        "IOT_MTLS_ENABLED": "0",
    }
    command = [str(VENVS / "local" / "bin" / "ministack")]
    processes.start("ministack", command, state=state, environment=environment, folder=state)
    _wait_for("ministack", f"{endpoint}/_ministack/health", state)


@contextlib.contextmanager
def step(what: str, file: TextIO | None = None) -> Iterator[None]:
    """Show what is being done, and then how many seconds it took; on standard output, unless told where."""
    print(f"{what} … ".ljust(48), end="", file=file, flush=True)
    started = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", file=file, flush=True)
        raise
    print(f"{time.monotonic() - started:5.1f} s", file=file, flush=True)


def _alone(state: Path) -> contextlib.AbstractContextManager[None]:
    return processes.exclusively(
        state.with_name(state.name + ".lock"),
        f"Another run is using {state}. Wait for it to end, then try again.",
    )


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Turn a polite kill and a closed terminal into an exception, so that clean-up runs as it does on Ctrl-C."""

    def leave(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _up(state: Path, port: int | None, sandbox_port: int | None, parameters: Mapping[str, str], host: str) -> Stack:
    if _down(state):
        print("What an earlier run left behind was stopped and removed.")
    aws_port = free_port(4566, insisted=port, option="--port", host=host)
    kiva_port = free_port(8080, insisted=sandbox_port, option="--sandbox-port", host=host)
    endpoint, sandbox = f"http://{host}:{aws_port}", f"http://{host}:{kiva_port}"
    try:
        with processes.for_the_owner_alone():
            state.mkdir(parents=True, exist_ok=True)
            state.chmod(0o700)
            (state / _MARK).touch()
        with step(f"Starting MiniStack on port {aws_port}"):
            ministack(state, host, aws_port)
        with step(f"Starting the imitation of Kiva on port {kiva_port}"):
            _start_sandbox(state, host, kiva_port)
        with step("sam build"):
            _build(state / "build")
        with step("sam deploy"):
            _deploy(state, endpoint, sandbox, parameters)
        stack = _describe(state, endpoint, sandbox)
        stack.client("secretsmanager").put_secret_value(
            SecretId=stack.physical_id("CredentialsSecret"),
            SecretString=json.dumps(
                {
                    "client_id": PARTNER.client_id,
                    "client_secret": PARTNER.client_secret,
                    "environment": "sandbox",
                    "partner_id": PARTNER.id,
                }
            ),
        )
    except BaseException:
        _down(state)
        raise
    _keep(stack, "env.json", json.dumps(_variables_for_containers(stack), indent=2))
    _keep(stack, "aws.sh", _account_for_shells(stack))
    # Written last: its presence is what tells a complete stack from a half-finished one.
    _keep(stack, "stack.json", json.dumps(asdict(stack), indent=2))
    return stack


def _keep(stack: Stack, name: str, text: str) -> None:
    with processes.for_the_owner_alone():
        (Path(stack.state) / name).write_text(text, encoding="utf-8")


def _with_console(stack: Stack) -> Stack:
    """Serve the coordinator's page of a complete stack in the background; only this machine reaches it."""
    state, port = Path(stack.state), free_port(8090, insisted=None, option="")
    command = [sys.executable, "-m", "local.console", "--state", stack.state, "--port", str(port)]
    with step(f"Starting the coordinator's page on port {port}"):
        processes.start("console", command, state=state, environment=_environment(), folder=ROOT)
        _wait_for("console", f"http://{LOOPBACK}:{port}/page.css", state)
    shown = replace(stack, console=f"http://{LOOPBACK}:{port}/")
    _keep(shown, "stack.json", json.dumps(asdict(shown), indent=2))
    return shown


def _down(state: Path) -> bool:
    if state.exists() and not (state / _MARK).exists() and any(state.iterdir()):
        raise StackError(f"{state} holds other things than a stack. Choose an empty or a new folder with --state.")
    stopped = [processes.stop(name, state=state) for name in ("console", "sandbox", "ministack")]
    shutil.rmtree(state, ignore_errors=True)
    return any(stopped)


def _start_sandbox(state: Path, host: str, port: int) -> None:
    options = ["--host", host, "--port", str(port), "--loans", str(LOANS)]
    command = [sys.executable, "-m", "kiva_sandbox", *options]
    processes.start("sandbox", command, state=state, environment=_environment(), folder=ROOT)
    _wait_for("sandbox", f"http://{host}:{port}/_sandbox/health", state)


def _wait_for(name: str, url: str, state: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while processes.alive(name, state=state) and time.monotonic() < deadline:
        with contextlib.suppress(requests.ConnectionError, requests.Timeout):
            if _send("GET", url, timeout=1).ok:
                return
        time.sleep(0.1)
    ended = "does not answer" if processes.alive(name, state=state) else "ended"
    log = (state / f"{name}.log").read_text(errors="replace")
    raise StackError(f"{name} was started but {ended}. It said last:\n{processes.tail(log)}")


def _send(method: str, url: str, **arguments: Any) -> requests.Response:
    """Ask a server of this machine, past whatever proxy the environment names."""
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, **arguments)


def _environment() -> dict[str, str]:
    """The caller's environment without what leads to a real AWS account, and with a real python3.13 first on PATH."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")} | _NO_FILES
    # .venvs/uv holds python3.13 and pip, which is what `sam build` looks for; a pyenv shim would not do.
    path = os.pathsep.join([str(VENVS / "uv" / "bin"), os.environ.get("PATH", os.defpath)])
    return kept | {"PATH": path, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "SAM_CLI_TELEMETRY": "0"}


def _sam(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    command = [str(VENVS / "sam" / "bin" / "sam"), *arguments]
    return processes.run(command, environment=_environment() | dict(environment or {}), folder=ROOT)


def _build(into: Path) -> None:
    """Build into .aws-sam, where SAM keeps its cache, and copy the result, which this run may then change."""
    cache = ROOT / ".aws-sam"
    cache.mkdir(exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _sam("build", "--cached", "--parallel")
        shutil.copytree(cache / "build", into)
    _adapt(into)
    for each in (into, *into.rglob("*")):
        each.chmod(each.stat().st_mode & 0o700)


def _adapt(build: Path) -> None:
    """Change a built template where MiniStack and AWS differ.

    MiniStack would import a `python3.13` handler into its own interpreter. A `provided` one it starts as AWS does, and
    there each function starts AWS's runtime client itself.
    """
    template_file = build / "template.yaml"
    template = yaml.safe_load(template_file.read_text(encoding="utf-8"))
    bootstrap = (
        "#!/bin/sh\n"
        f'export PYTHONPATH="$LAMBDA_TASK_ROOT":{quote(str(build / "KivaPartnerLayer" / "python"))}\n'
        f'exec {quote(str(VENVS / "runtime" / "bin" / "python"))} -m awslambdaric "$_HANDLER"\n'
    )
    for logical_id, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::Serverless::Function":
            properties["Runtime"] = "provided.al2023"
            file = build / logical_id / "bootstrap"
            file.write_text(bootstrap)
            file.chmod(0o755)
            for statement in properties["Policies"][-1]["Statement"]:
                # For a batch MiniStack wants a right of its own; AWS knows none.
                if "sqs:ChangeMessageVisibility" in statement.get("Action", ()):
                    statement["Action"].append("sqs:ChangeMessageVisibilityBatch")
        elif resource["Type"] == "AWS::Lambda::EventSourceMapping" and "ScalingConfig" in properties:
            # A number from a parameter arrives as text, on which MiniStack's poller stumbles and delivers nothing.
            scaling = properties["ScalingConfig"]
            parameter = template["Parameters"][scaling["MaximumConcurrency"]["Ref"]]
            scaling["MaximumConcurrency"] = int(parameter["Default"])
    template_file.write_text(yaml.safe_dump(template, sort_keys=False))


def _deploy(state: Path, endpoint: str, sandbox: str, parameters: Mapping[str, str]) -> None:
    aws = urlsplit(endpoint).hostname or ""
    overrides = given("local", _samconfig()) | {
        "AwsEndpointUrl": endpoint,
        "KivaTokenUrl": f"{sandbox}/oauth/token",
        "KivaAudience": AUDIENCES[0],
        "KivaApiBaseUrl": sandbox,
        # The name that Lambda gives to what this machine is.
        "Architecture": {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "x86_64"),
        **parameters,
    }
    _sam(
        *deploy_command(
            "local",
            overrides,
            f"--config-file={ROOT / 'samconfig.toml'}",
            f"--template-file={state / 'build' / 'template.yaml'}",
            "--no-confirm-changeset",
            "--no-fail-on-empty-changeset",
        ),
        environment=_ROOT_USER | {"AWS_ENDPOINT_URL": endpoint, "NO_PROXY": aws, "no_proxy": aws},
    )


def _samconfig() -> str:
    return (ROOT / "samconfig.toml").read_text(encoding="utf-8")


def _describe(state: Path, endpoint: str, sandbox: str) -> Stack:
    name, _ = find("local", _samconfig())
    api = _physical_id(endpoint, name, "RelayApi")
    stage = client_of(endpoint, "apigateway").get_stages(restApiId=api)["item"][0]["stageName"]
    return Stack(
        state=str(state),
        name=name,
        endpoint=endpoint,
        sandbox=sandbox,
        api=f"{endpoint}/restapis/{api}/{stage}/_user_request_",
        queues={kind: _physical_id(endpoint, name, f"{prefix}Queue") for kind, prefix in KINDS.items()},
        dead_letter_queues={
            kind: _physical_id(endpoint, name, f"{prefix}DeadLetterQueue") for kind, prefix in KINDS.items()
        },
    )


def _variables_for_containers(stack: Stack) -> dict[str, dict[str, str]]:
    """What `sam local --env-vars` takes: the deployed functions' variables, with this machine as containers call it."""
    functions = yaml.safe_load((Path(stack.state) / "build" / "template.yaml").read_text(encoding="utf-8"))["Resources"]
    client = stack.client("lambda")
    return {
        logical_id: {
            name: value.replace(LOOPBACK, "host.docker.internal")
            for name, value in client.get_function_configuration(FunctionName=stack.physical_id(logical_id))[
                "Environment"
            ]["Variables"].items()
        }
        for logical_id, resource in functions.items()
        if resource["Type"] == "AWS::Serverless::Function"
    }


def _account_for_shells(stack: Stack) -> str:
    """What a shell reads in to be the owner of the embedded AWS, and nobody else's guest meanwhile."""
    variables = _ROOT_USER | _NO_FILES | {"AWS_ENDPOINT_URL": stack.endpoint}
    exports = " ".join(f"{name}={value}" for name, value in variables.items())
    return f"unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN AWS_CA_BUNDLE\nexport {exports}\n"


def client_of(endpoint: str, service: str) -> Any:
    """Return a boto3 client of the embedded AWS at an endpoint, as the account's owner, past every proxy."""
    return local_stack("", endpoint, "", REGION).client(service)


def _physical_id(endpoint: str, stack: str, logical_id: str) -> str:
    found = client_of(endpoint, "cloudformation").describe_stack_resource(StackName=stack, LogicalResourceId=logical_id)
    physical_id: str = found["StackResourceDetail"]["PhysicalResourceId"]
    return physical_id


def logs(stack: Stack, *, follow: bool) -> Iterator[str]:
    """Yield what the functions have logged, readably, oldest first; `follow` goes on with what comes, for ever."""
    client = stack.client("logs")
    since: dict[str, int] = {}
    seen: set[tuple[str, int, str]] = set()
    while True:
        lines: list[tuple[int, str]] = []
        for group in client.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{stack.name}-")["logGroups"]:
            name = group["logGroupName"]
            for event in client.filter_log_events(logGroupName=name, startTime=since.get(name, 0))["events"]:
                stamp, message = event["timestamp"], event["message"]
                # MiniStack gives events no id.
                key = (event["logStreamName"], stamp, message)
                if key not in seen:
                    seen.add(key)
                    since[name] = max(since.get(name, 0), stamp)
                    if text := _readable(message):
                        clock = datetime.fromtimestamp(stamp / 1000, UTC).strftime("%H:%M:%S")
                        lines.append((stamp, f"{clock}  {name.split(f'{stack.name}-')[1]:<16}  {text}"))
        yield from (line for _, line in sorted(lines, key=itemgetter(0)))
        if not follow:
            return
        time.sleep(1)


def _readable(message: str) -> str:
    """Shorten a log line to what a person looks for; empty for a line that only machines need."""
    if message.startswith(("START RequestId", "END RequestId")):
        return ""
    if message.startswith("REPORT RequestId"):
        return message.split("\t")[1]
    try:
        record = json.loads(message)
    except ValueError:
        return message.rstrip()
    if not isinstance(record, dict) or "_aws" in record:
        return ""
    shown = [str(record.pop("level", "")).ljust(8), str(record.pop("message", ""))]
    return " ".join([*shown, *(f"{key}={value}" for key, value in record.items() if key not in _ALWAYS_LOGGED)])


def _print_urls(stack: Stack) -> None:
    rows = {"What waits for you": stack.console} if stack.console else {}
    rows |= {"AWS": stack.endpoint, "Kiva sandbox": stack.sandbox, "API (signed)": stack.api}
    rows |= {f"queue {kind}": url for kind, url in stack.queues.items()}
    for label, url in rows.items():
        print(f"  {label:<22} {url}")
    state = os.path.relpath(stack.state)
    print(
        "\n  make logs   what the functions say\n  make down   stop everything and remove it"
        f"\n  . {state}/aws.sh   this shell is the owner of this AWS, for `aws` and `sam`"
        f"\n  sam local invoke … --config-env local --env-vars {state}/env.json   one of them in a container"
    )


def main() -> int:
    """Run the command line; 0 when done, 1 with a message when not."""
    fit_every_terminal()
    parser = argparse.ArgumentParser(prog="python -m local.stack", description="The whole system on this machine.")
    parser.add_argument("--state", type=Path, default=STATE, help="folder for all that the stack leaves on disk")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="build, deploy and keep running")
    start.add_argument("--port", type=int, help="port of the embedded AWS (default: 4566, or a free one)")
    start.add_argument(
        "--host",
        default=LOOPBACK,
        help="address of this machine to listen at; `docker`: the one that containers reach (default: %(default)s)",
    )
    start.add_argument("--sandbox-port", type=int, help="port of the imitation of Kiva (default: 8080, or a free one)")
    commands.add_parser("status", help="show where everything answers")
    commands.add_parser("logs", help="follow what the functions log, until Ctrl-C")
    commands.add_parser("down", help="stop everything and remove it")
    chosen = parser.parse_args()
    state = chosen.state.resolve()
    try:
        with _stopped_by_signals():
            if chosen.command == "up":
                ports = {"port": chosen.port, "sandbox_port": chosen.sandbox_port}
                host = containers.address() if chosen.host == "docker" else chosen.host
                _print_urls(up(state=state, host=host, **ports))
            elif chosen.command == "down":
                print("Stopped." if down(state) else "Nothing was running.")
            elif stack := attach(state):
                if chosen.command == "status":
                    _print_urls(stack)
                else:
                    for line in logs(stack, follow=True):
                        print(line, flush=True)
            else:
                raise StackError("No stack is running here. Start one: make up")
    except StackError as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
