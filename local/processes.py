"""Background programs of the local stack: started, found again by a later command, and stopped.

Each program inherits its open pid file and with it an exclusive lock, which the kernel keeps for as long as the program
lives. So a pid is trusted only while its lock is held: after a crash or a reboot nothing of anybody else's is killed.
"""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

STOP_SECONDS: Final = 10.0
LOOPBACK: Final = "127.0.0.1"


class StackError(Exception):
    """The local stack cannot go on. The message says what happened and what to do about it."""


def free_port(preferred: int, *, insisted: int | None, option: str, host: str = LOOPBACK) -> int:
    """Choose a TCP port of an address: the one insisted on, else the preferred one if it is free, else any free one.

    Raises:
        StackError: The port insisted on is taken; `option` is how another one is chosen. Or the address is not ours.
    """
    if not belongs_to_this_machine(host):
        raise StackError(f"{host} is no address of this machine, so nothing can listen there. Choose another host.")
    if insisted is not None:
        if not _is_free(host, insisted):
            raise StackError(
                f"Port {insisted} is taken by another program. Stop that program, or choose another port with {option}."
            )
        return insisted
    if _is_free(host, preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def belongs_to_this_machine(host: str) -> bool:
    """Tell whether one can listen at an address."""
    return _is_free(host, 0)


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: what a connection that just closed still holds does not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def start(name: str, command: Sequence[str], *, state: Path, environment: Mapping[str, str], folder: Path) -> None:
    """Start `command` in the background; its output goes to `state`/`name`.log, its pid to `state`/`name`.pid.

    Nobody else may read either, or what the program writes: a log can hold what borrowers told.
    """
    with (
        for_the_owner_alone(),
        (state / f"{name}.pid").open("w") as pid_file,
        (state / f"{name}.log").open("wb") as log,
    ):
        fcntl.flock(pid_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            pass_fds=[pid_file.fileno()],
            # A group of its own: Ctrl-C in the terminal is for us, who then stop it and all that it started.
            start_new_session=True,
        )
        pid_file.write(str(process.pid))
    # It outlives this process on purpose; without a return code Popen would warn about that.
    process.returncode = 0


def alive(name: str, *, state: Path) -> bool:
    """Tell whether the program that was started as `name` still runs."""
    try:
        with (state / f"{name}.pid").open() as pid_file:
            return _locked(pid_file.fileno())
    except FileNotFoundError:
        return False


def stop(name: str, *, state: Path) -> bool:
    """Stop the program that was started as `name`, with its children; politely, then by force after 10 seconds.

    Returns:
        Whether it was still running.
    """
    try:
        pid_file = (state / f"{name}.pid").open()
    except FileNotFoundError:
        return False
    with pid_file:
        if not _locked(pid_file.fileno()):
            return False
        group = int(pid_file.read())
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while _locked(pid_file.fileno()) and time.monotonic() < deadline:
                time.sleep(0.05)
            # The program itself if it would not end, and children that it left behind.
            os.killpg(group, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(group, 0)
    return True


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def run(command: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> str:
    """Run `command` to its end and return what it printed. Interrupted, it takes the command's children with it.

    Raises:
        StackError: It failed; the message ends with the last lines it printed.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        cwd=folder,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            printed, _ = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        shown = " ".join([Path(command[0]).name, *command[1:2]])
        raise StackError(f"`{shown}` failed (exit {process.returncode}). It said last:\n{tail(printed)}")
    return printed


def tail(text: str, lines: int = 30) -> str:
    """The last lines of a text, indented."""
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines()[-lines:])


@contextlib.contextmanager
def for_the_owner_alone() -> Iterator[None]:
    """Nobody else can read what is made in this block, or by a program started in it: folders 0700, files 0600."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def exclusively(lock: Path, otherwise: str) -> Iterator[None]:
    """Hold a lock file while the block runs.

    Raises:
        StackError: Somebody else holds it; the message is `otherwise`.
    """
    with for_the_owner_alone():
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(otherwise) from None
        yield
