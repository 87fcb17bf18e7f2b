"""How the page is served: on this machine alone, and without writing down what was searched for."""

import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
import requests
import uvicorn

from cli import console
from local.stack import ROOT
from relay_answers import FakeRelay, stack_with


@pytest.fixture
def served(monkeypatch):
    """What uvicorn is asked to do; nothing is really served."""
    found = SimpleNamespace(opened=[])

    def run(server, sockets):
        found.config, found.address = server.config, sockets[0].getsockname()

    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.setattr(console.webbrowser, "open", found.opened.append)
    return found


def test_only_this_machine_reaches_it(served):
    console.serve(stack_with(FakeRelay()), 0, open_browser=False)
    assert served.address[0] == "127.0.0.1"
    assert served.opened == []


def test_its_address_is_told_and_opened(served, capsys):
    console.serve(stack_with(FakeRelay()), 0, open_browser=True)
    assert served.opened == [f"http://127.0.0.1:{served.address[1]}/"]
    assert served.opened[0] in capsys.readouterr().out


def test_no_line_is_written_for_a_request(served):
    console.serve(stack_with(FakeRelay()), 0, open_browser=False)
    assert served.config.access_log is False
    assert served.config.server_header is False


@pytest.mark.parametrize("port", [None, 70_000, -1])
def test_a_port_that_cannot_be_had_is_named(served, port):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = taken.getsockname()[1] if port is None else port
        with pytest.raises(SystemExit, match=rf"Port {wanted} of 127\.0\.0\.1 cannot be had"):
            console.serve(stack_with(FakeRelay()), wanted, open_browser=False)


SERVE = """
import sys
sys.path[:0] = ["tests", "."]
from cli.console import serve
from relay_answers import FakeRelay, stack_with
serve(stack_with(FakeRelay()), 0, open_browser=False)
"""


def test_a_process_that_serves_it_says_nothing_about_what_is_asked():
    with subprocess.Popen(  # noqa: S603 our own command
        [sys.executable, "-c", SERVE], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        first = process.stdout.readline()
        url = first.split(": ")[1].split()[0]
        try:
            with requests.Session() as session:
                session.trust_env = False
                assert session.get(f"{url}?text=Zebedea", timeout=20).status_code == 200
                assert session.get(f"{url}loan?id=Zebedea", timeout=20).status_code == 200
        finally:
            process.terminate()
        said = first + process.stdout.read()
    assert "Zebedea" not in said
    assert len(said.splitlines()) == 1
