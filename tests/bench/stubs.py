"""Kiva and AWS on this machine, each a process that counts what it is asked for: to start, to ask and to stop them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

_TESTS = Path(__file__).parents[1]


class Stub:
    """One of the two, for as long as it runs. May be asked from several threads."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self._lock = Lock()
        self.url = url.format(port=self._said())

    def counts(self) -> dict[str, int]:
        """How often it was asked for what, since the last reset; see the two modules for the names."""
        return self._order("counts")

    def set(self, **settings: Any) -> None:
        """Change settings, which stay until they are set again."""
        self._order("set", **settings)

    def reset(self) -> None:
        """Forget what came in and all counts. Settings stay, and connections too."""
        self._order("reset")

    def _order(self, name: str, **settings: Any) -> Any:
        with self._lock:
            self._process.stdin.write(json.dumps([name, settings]) + "\n")
            self._process.stdin.flush()
            return self._said()

    def _said(self) -> Any:
        said = self._process.stdout.readline()
        if not said:
            raise RuntimeError("a stub has ended; why stands above")
        return json.loads(said)


def kiva(certificate: Path) -> Any:
    """Kiva behind TLS; `certificate` is a file with it and its key, for localhost."""
    return _running("https://localhost:{port}", "bench.kiva_stub", str(certificate))


def aws() -> Any:
    """DynamoDB, Secrets Manager, SSM, SQS and S3."""
    return _running("http://127.0.0.1:{port}", "bench.aws_stub")


@contextmanager
def _running(url: str, module: str, *arguments: str) -> Iterator[Stub]:
    with subprocess.Popen(  # noqa: S603 our own command
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(_TESTS)},
        process_group=0,  # Ctrl-C is for whoever runs it, who then stops it
        text=True,
    ) as process:
        try:
            yield Stub(process, url)
        finally:
            process.kill()
