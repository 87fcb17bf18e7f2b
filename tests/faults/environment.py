"""Execution environments that can be killed: a warm process that forks a child for every invocation.

The child runs the real handler on the real runtime, at any point in time, and dies where it is told to. So a kill costs
what an invocation costs, not a start of Python.
"""

import gc
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from itertools import count
from multiprocessing import get_context

import time_machine

from fakes import Context
from faults.aws import CREDENTIALS
from kiva_partner import relay, runtime
from kiva_partner.ledger import Ledger
from kiva_partner.relay import Relay

FUNCTIONS = ("loan_drafts", "journal_updates", "repayments", "console", "housekeeping")
SECONDS = 290.0
"""An invocation may take; nearly the functions' timeout."""

CLAIMED_TOGETHER = 5
"""Instead of the layer's 50, so that a handful of submissions are several waves, some of them of several rounds."""

HARMLESS = {"dynamodb": "list_tables", "sqs": "list_queues", "s3": "list_buckets", "secretsmanager": "list_secrets"}


@dataclass(frozen=True)
class Death:
    """Where an invocation is killed: `when` "before" or "after" the `occurrence`th call of a function.

    `where` is `module:Class.method` or `module:function`. "within" is for a method that takes bytes: half of them go.
    Only bytes that begin like a JSON object count there, so that it is the body of a POST.
    """

    when: str
    where: str
    occurrence: int = 1


@dataclass(frozen=True)
class Invocation:
    function: str
    event: dict
    variables: dict[str, str]
    ahead: float = 0.0
    """Seconds by which its clock is ahead of this machine's."""
    death: Death | None = None
    hurried: bool = False
    """Whether sleeping costs no time: then it moves the clock instead."""


class Killed(Exception):
    """The invocation ended without an answer."""


class RunningContext(Context):
    """Lambda's context, with time that runs."""

    def __init__(self, seconds):
        super().__init__()
        self._ends = time.time() + seconds

    def get_remaining_time_in_millis(self):
        return max(0, int((self._ends - time.time()) * 1000))


class Environment:
    """Used by one thread at a time, except for `kill`."""

    def __init__(self, endpoint, log, **variables):
        """`log` is a file for all that is logged, `variables` are boto3's beyond the endpoint."""
        self.log = log
        self._pipe, theirs = get_context("spawn").Pipe()
        variables = {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint, **variables}
        self._process = get_context("spawn").Process(target=_serve, args=(theirs, variables, log), daemon=True)
        self._process.start()
        theirs.close()
        self._child = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pipe.close()
        self._process.join(10)
        self._process.kill()
        self._process.join()

    def invoke(self, invocation):
        """Give the handler's answer. Raises Killed when there is none."""
        self._pipe.send(invocation)
        self._child = self._pipe.recv()
        self._pipe.send("go")
        answer = None
        while True:
            what, value = self._pipe.recv()
            if what == "ended":
                break
            answer = value
        if value == -signal.SIGKILL:
            raise Killed
        assert value == 0, f"the handler failed: {answer}"
        return answer

    def kill(self):
        """Kill the invocation that is running, as seen from outside."""
        os.kill(self._child, signal.SIGKILL)


def _serve(pipe, variables, log):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which closes our pipe
    relay.CLAIMED_TOGETHER = CLAIMED_TOGETHER
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(variables)
    import_module("jwt")  # which only they import who fetch a token
    handlers = {name: import_module(f"{name}.app").handler for name in FUNCTIONS}
    runtime._tls()
    for service, harmless in HARMLESS.items():
        client = runtime.aws(service)()
        getattr(client, harmless)()  # reads and parses much that no child has to read again
        client.close()
    gc.freeze()  # so that a child's collections do not copy all that it shares with us
    while True:
        try:
            invocation = pipe.recv()
        except EOFError:
            return
        child = os.fork()
        if child == 0:
            _run(pipe, handlers, invocation)
        _, status = os.waitpid(child, 0)
        pipe.send(("ended", os.waitstatus_to_exitcode(status)))


def _run(pipe, handlers, invocation):
    try:
        pipe.send(os.getpid())
        pipe.recv()
        os.environ.update(invocation.variables)
        clock = time_machine.travel(time.time() + invocation.ahead, tick=True).start()
        if invocation.hurried:
            _hurry(clock)
        if invocation.death:
            _arrange(invocation.death)
        answer = handlers[invocation.function](invocation.event, RunningContext(SECONDS))
        pipe.send(("answer", answer))
        sys.stdout.flush()
        os._exit(0)
    except BaseException:  # noqa: BLE001 nobody else would tell
        pipe.send(("answer", traceback.format_exc()))
        os._exit(1)


def _hurry(clock):
    time.sleep = clock.shift  # botocore's between its attempts
    for owner in (Ledger, Relay):
        owner.__init__.__kwdefaults__["sleep"] = clock.shift


def _arrange(death):
    module, _, path = death.where.partition(":")
    owner = import_module(module)
    *within, name = path.split(".")
    for each in within:
        owner = getattr(owner, each)
    original = getattr(owner, name)
    calls = count(1)

    @wraps(original)
    def dying(*args, **kwargs):
        if (death.when == "within" and not args[-1].startswith(b"{")) or next(calls) != death.occurrence:
            return original(*args, **kwargs)
        if death.when == "after":
            original(*args, **kwargs)
        elif death.when == "within":
            original(*args[:-1], args[-1][: len(args[-1]) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    setattr(owner, name, dying)
