"""`make case`: its list, and what it says where there is nothing to make a case on."""

import sys

import pytest

from local import cases


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line; gives its exit code, and what it prints on standard output and error."""

    def run_it(*arguments):
        monkeypatch.setattr(sys, "argv", ["cases", *map(str, arguments)])
        return cases.main(), *capsys.readouterr()

    return run_it


def test_without_a_name_each_case_is_listed_with_its_line(run):
    code, listed, _ = run()
    assert code == 0
    assert [line.split()[2] for line in listed.splitlines()] == [f"NAME={it.name}" for it in cases.CASES]


def test_without_a_stack_there_is_no_case(run, tmp_path):
    code, _, said = run("stuck", "--state", tmp_path)
    assert (code, said) == (1, "No stack is running here. Start one: make up\n")


def test_what_is_made_leads_to_health_to_the_runbook_and_to_its_end(run, monkeypatch):
    made = []
    monkeypatch.setattr(cases, "attach", lambda state: "a stack")
    monkeypatch.setattr(cases, "make", lambda stack, case: made.append((stack, case.name)))
    code, said, _ = run("stuck")
    assert (code, made) == (0, [("a stack", "stuck")])
    assert [it for it in ("relay health", '"What is stuck"', "make case NAME=stuck END=1") if it not in said] == []
