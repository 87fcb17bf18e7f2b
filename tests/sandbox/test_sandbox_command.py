"""`kiva-sandbox` as it is installed and started: its greeting, https, and a wheel that needs no repository."""

import os
import ssl
import stat
import subprocess
import sys
from configparser import ConfigParser
from contextlib import contextmanager
from itertools import takewhile
from zipfile import ZipFile

import httpx2
import pytest

from template.cloudformation import ROOT

JOURNALS = {"journals": [{"internal_loan_id": "L-70001-1", "subject": "Rain", "body": "It came early."}]}


def greeting(process):
    """What it says at start, up to the address of PA2, which is the last."""
    lines = list(takewhile(lambda line: "/pa2/" not in line, process.stdout))
    return lines[0].split()[-1], "".join(lines)


def test_the_greeting_tells_all_that_a_caller_needs(start, form):
    address, told = greeting(start("--port", "0", "--loans", "3"))

    for each in (f"POST {address}/oauth/token", f"{address}/v3/partner/9001/", f"{address}/swagger-ui/index.html"):
        assert each in told
    assert all(f"{name} " in told and value in told for name, value in form.items())


def test_its_client_can_have_fewer_scopes(start, form):
    address, _ = greeting(start("--port", "0", "--loans", "3", "--scopes", "read:loans", "create:repayment"))

    granted = httpx2.post(f"{address}/oauth/token", data=form, trust_env=False).json()["scope"]
    assert set(granted.split()) == {"read:loans", "create:repayment"}


def test_a_scope_that_there_is_not_is_named(start):
    refused = start("--port", "0", "--scopes", "create:journals")
    _, errors = refused.communicate(timeout=30)

    assert refused.returncode == 2
    assert "argument --scopes: invalid choice: 'create:journals'" in errors.splitlines()[-1]


def test_without_a_port_it_is_8080(start):
    help_text, _ = start("--help").communicate(timeout=30)

    assert "default: 8080" in help_text
    assert help_text.startswith("usage: kiva-sandbox")


@pytest.mark.parametrize("loans", ["-5", "many", "1000000000"])
def test_a_portfolio_of_no_sensible_size_is_one_clear_line(start, loans):
    refused = start("--port", "0", f"--loans={loans}")
    _, errors = refused.communicate(timeout=30)

    assert refused.returncode == 2
    assert errors.splitlines()[-1].endswith("argument --loans: must be a number of loans, below a million")


@contextmanager
def secure(address, folder):
    """A client that trusts what is in the folder and nobody else."""
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    with httpx2.Client(base_url=address, verify=context, trust_env=False) as http:
        yield http


def test_with_tls_clients_that_trust_its_authority_get_https_everywhere(start, form, tmp_path):
    folder = tmp_path / "tls"
    address, _ = greeting(start("--port", "0", "--loans", "3", "--tls", str(folder)))

    assert address.startswith("https://127.0.0.1:")
    with secure(address.replace("127.0.0.1", "localhost"), folder) as http:
        token = http.post("/oauth/token", data=form).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        archived = http.post("/v3/partner/9001/journals", json=JOURNALS, headers=headers).json()
        assert archived["confirm_url"].startswith("https://localhost:")
        assert http.get(archived["confirm_url"]).status_code == 200
        assert http.get("/", follow_redirects=True).url.scheme == "https"
    assert stat.S_IMODE((folder / "server.pem").stat().st_mode) == 0o600


def test_it_starts_and_helps_in_a_terminal_that_lacks_characters(start, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    address, _ = greeting(start("--port", "0", "--loans", "3", "--state", str(tmp_path / "état→.db")))
    assert address.startswith("http://127.0.0.1:")

    told, complaint = start("--help").communicate(timeout=30)

    assert "usage: kiva-sandbox" in told
    assert not complaint


def test_with_tls_nobody_else_is_told_anything(start, tmp_path):
    address, _ = greeting(start("--port", "0", "--loans", "3", "--tls", str(tmp_path)))

    with httpx2.Client(trust_env=False) as stranger:
        with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            stranger.get(address)
        with pytest.raises(httpx2.HTTPError):
            stranger.get(address.replace("https", "http"))


def test_a_client_goes_on_trusting_it_after_a_restart(start, tmp_path):
    first = start("--port", "0", "--loans", "3", "--tls", str(tmp_path))
    greeting(first)
    trusted = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    first.terminate()
    first.communicate(timeout=30)
    address, _ = greeting(start("--port", "0", "--loans", "3", "--tls", str(tmp_path)))

    assert httpx2.get(f"{address}/_sandbox/health", verify=trusted, trust_env=False).status_code == 200


def test_a_folder_for_tls_that_cannot_be_used_is_one_clear_line_and_exit_1(start, tmp_path):
    taken = tmp_path / "taken"
    taken.touch()
    late = start("--port", "0", "--tls", str(taken))

    log, errors = late.communicate(timeout=30)

    assert (late.returncode, log) == (1, "")
    assert len(errors.splitlines()) == 1
    assert str(taken) in errors
    assert "--tls" in errors


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what a wheel of this repository puts into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)  # noqa: S603 our own build
    (wheel,) = folder.glob("*.whl")
    with ZipFile(wheel) as packed:
        packed.extractall(folder / "site-packages")
    return folder / "site-packages"


def test_a_wheel_has_the_command_and_all_it_serves_without_the_repository(start, installed, tmp_path):
    (entry_points,) = installed.glob("*.dist-info/entry_points.txt")
    scripts = ConfigParser()
    scripts.read(entry_points)
    assert scripts["console_scripts"]["kiva-sandbox"] == "kiva_sandbox.__main__:main"

    process = start("--port", "0", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)})
    address, _ = greeting(process)

    with httpx2.Client(base_url=address, trust_env=False) as http:
        pages = ["/pa2/", "/pa2/page.css", "/pa2/drafts", "/pa2/loans", "/v3/api-docs"]
        pages += [f"/swagger-ui/{it}" for it in ("index.html", "swagger-initializer.js", "swagger-ui-bundle.js")]
        assert {page: http.get(page).status_code for page in pages} == dict.fromkeys(pages, 200)
