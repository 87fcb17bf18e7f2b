"""What `local/` leaves on a machine and takes from it, without a stack: files of its owner, and nobody's settings."""

import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from local import console, demo, processes, stack

ROOT = Path(__file__).parents[2]
OF_THE_OWNER = stat.S_IRWXU


@pytest.fixture
def generous():
    """The usual umask, by which everybody may read what somebody writes."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def readable_by_others(folder):
    return [str(each) for each in (folder, *folder.rglob("*")) if stat.S_IMODE(each.lstat().st_mode) & ~OF_THE_OWNER]


def test_what_a_program_in_the_background_writes_is_its_owners_alone(tmp_path, generous):
    state = tmp_path / ".local" / "stack"
    with processes.exclusively(state.with_name("stack.lock"), "taken"):
        with processes.for_the_owner_alone():
            state.mkdir()
        writes = "import pathlib; pathlib.Path('kept').mkdir(); pathlib.Path('kept/loans.db').touch(); print('Akinyi')"
        processes.start("program", [sys.executable, "-c", writes], state=state, environment={}, folder=state)
        while processes.alive("program", state=state):
            pass

    assert {each.name for each in state.iterdir()} == {"program.pid", "program.log", "kept"}
    assert readable_by_others(tmp_path / ".local") == []
    assert os.umask(0o022) == 0o022


def test_an_outer_lock_and_folder_that_were_there_before_do_no_harm(tmp_path, generous):
    (tmp_path / "stack.lock").touch()
    with processes.exclusively(tmp_path / "stack.lock", "taken"), pytest.raises(processes.StackError, match="taken"):
        processes.exclusively(tmp_path / "stack.lock", "taken").__enter__()


def test_the_build_that_a_stack_runs_is_its_owners_alone_and_the_one_that_is_deployed_stays_as_it_was(
    tmp_path, generous, monkeypatch
):
    built = tmp_path / ".aws-sam" / "build"
    (built / "LoanDraftsFunction").mkdir(parents=True)
    (built / "LoanDraftsFunction" / "app.py").touch()
    (built / "template.yaml").write_text("Resources: {}")
    monkeypatch.setattr(stack, "ROOT", tmp_path)
    monkeypatch.setattr(stack, "_sam", lambda *_: "")

    stack._build(tmp_path / "state")

    assert readable_by_others(tmp_path / "state") == []
    assert len(readable_by_others(built)) == 4


@pytest.mark.parametrize("name", ["plain", "my wörk", 'it\'s $HOME `date` "quoted"'])
def test_the_functions_start_in_a_folder_of_any_name(tmp_path, monkeypatch, name):
    """The bootstrap is a shell script; what it would start is replaced by what shows how it was started."""
    build, venvs = tmp_path / name / "build", tmp_path / name / ".venvs"
    (build / "ConsoleFunction").mkdir(parents=True)
    function = {"Type": "AWS::Serverless::Function", "Properties": {"Policies": [{"Statement": []}]}}
    (build / "template.yaml").write_text(yaml.safe_dump({"Resources": {"ConsoleFunction": function}}))
    python = venvs / "runtime" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$PYTHONPATH"\necho "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(stack, "VENVS", venvs)

    stack._adapt(build)

    environment = {"PATH": os.defpath, "LAMBDA_TASK_ROOT": "/the function", "_HANDLER": "app.handler"}
    started = [build / "ConsoleFunction" / "bootstrap"]
    shown = subprocess.run(started, env=environment, capture_output=True, text=True, check=True).stdout  # noqa: S603
    assert shown.splitlines() == [f"/the function:{build}/KivaPartnerLayer/python", "-m awslambdaric app.handler"]


@pytest.mark.parametrize("name", ["plain", "my wörk", 'it\'s `date` "quoted"'])
def test_the_layer_and_the_functions_are_built_in_a_folder_of_any_name(tmp_path, name):
    """By make, as SAM calls it. Python is replaced by what makes a file where pip would install."""
    python = tmp_path / "bin" / "python3.13"
    python.parent.mkdir()
    python.write_text(
        '#!/bin/sh\nwhile [ $# -gt 0 ]; do\n  if [ "$1" = --target ]; then mkdir -p "$2" && touch "$2/it.so"; fi\n'
        "  shift\ndone\n"
    )
    python.chmod(0o755)
    for folder, target in (("layers/kiva_partner", "KivaPartnerLayer"), ("functions", "ConsoleFunction")):
        artefacts = tmp_path / name / target
        artefacts.mkdir(parents=True)
        environment = {"PATH": f"{python.parent}:{os.defpath}", "ARTIFACTS_DIR": str(artefacts)}
        done = subprocess.run(  # noqa: S603 it is our own
            ["make", f"build-{target}"],  # noqa: S607 whichever make there is
            cwd=ROOT / folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "No such file" not in done.stderr
    assert (tmp_path / name / "ConsoleFunction" / "app.py").is_file()
    assert {each.name for each in tmp_path.iterdir()} == {"bin", name}


@pytest.mark.parametrize("program", [stack, demo, console], ids=lambda program: program.__name__)
def test_every_program_prints_in_a_terminal_that_knows_ascii_alone(program, tmp_path, monkeypatch):
    said = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    for name, stream in said.items():
        monkeypatch.setattr(sys, name, stream)
    folder = tmp_path / "wörk"
    options = {stack: ["--state", str(folder), "status"], demo: [], console: ["--state", str(folder), "--port", "0"]}
    monkeypatch.setattr(sys, "argv", ["program", *options[program]])
    monkeypatch.setattr(demo, "running", lambda **_: gone(folder))

    assert program.main() == 1

    for stream in said.values():
        print("→ wörk", file=stream)
        stream.seek(0)
    assert "No stack" in said["stderr"].read() or program is demo
    assert r"\N{RIGHTWARDS ARROW} w\N{LATIN SMALL LETTER O WITH DIAERESIS}rk" in said["stdout"].read()


def gone(place):
    raise processes.StackError(f"{place} is gone")
