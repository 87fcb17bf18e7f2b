"""No secret is in the repository: what detect-secrets takes for one has been looked at and is in .secrets.baseline."""

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from template.cloudformation import ROOT

BASELINE = ROOT / ".secrets.baseline"
SCANNER = ROOT / ".venvs" / "scanners" / "bin" / "detect-secrets"
MEND = f"""Take it out of the repository; or, if it opens nothing:
  {SCANNER.relative_to(ROOT)} scan --no-verify --baseline .secrets.baseline
  {SCANNER.relative_to(ROOT)} audit .secrets.baseline"""

Found = set[tuple[str, str]]
"""File and hash of what may be a secret."""


def scanned(folder: Path, *files: str) -> Found:
    # Unless told not to, it tries what it finds at AWS, Slack and others, and keeps quiet about what they refuse.
    command = [SCANNER, "scan", "--no-verify", *files]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=120)  # noqa: S603 it is fixed
    return set(_entries(json.loads(ran.stdout)))


def _entries(report: dict[str, Any]) -> dict[tuple[str, str], bool | None]:
    every = [it for found in report["results"].values() for it in found]
    return {(it["filename"], it["hashed_secret"]): it.get("is_secret") for it in every}


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607 the user's own
    return [file for file in listed.stdout.splitlines() if file != BASELINE.name]


def looked_at() -> dict[tuple[str, str], bool | None]:
    return _entries(json.loads(BASELINE.read_text()))


def test_nothing_new_looks_like_a_secret_and_nothing_old_is_in_the_list_for_nothing():
    # Not detect-secrets-hook: that fails whenever a line has moved.
    assert scanned(ROOT, *tracked()) == looked_at().keys(), MEND


def test_somebody_has_looked_at_each_and_said_that_it_opens_nothing():
    assert set(looked_at().values()) == {False}


def test_what_would_open_something_is_found(tmp_path):
    (tmp_path / "a.py").write_text(
        "AWS_ACCESS_KEY_ID = 'AKIA" + "Q7ZJ3M5T2XW8RN4K'\n"
    )  # in two, or it would be found here
    (tmp_path / "b.json").write_text('{"client_' + 'secret": "vK3+e9Zq/8sLw1Tn"}\n')
    (tmp_path / "c.py").write_text("NAME = 'Akinyi'\n")
    assert {file for file, _ in scanned(tmp_path, "a.py", "b.json", "c.py")} == {"a.py", "b.json"}


def test_what_is_found_is_tried_nowhere(tmp_path, monkeypatch):
    key, goes_with_it = "AKIA" + "Q7ZJ3M5T2XW8RN4K", "wJ4lrXUtnFEMk7MDENGb" * 2
    (tmp_path / "a.py").write_text(f"KEY = '{key}'\nIT = '{goes_with_it}'\n")
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setitem(os.environ, "HTTPS_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        assert "a.py" in {file for file, _ in scanned(tmp_path, "a.py")}
        proxy.settimeout(0)
        with pytest.raises(BlockingIOError):  # nobody has knocked
            proxy.accept()
