"""What is made of an engine's answers, and of none. This needs no container: it has a `docker` of its own."""

import socket
import sys

import pytest

from local import containers
from local.containers import address
from local.processes import StackError, free_port
from sam_local.sam import IMAGE, missing

NOT_OURS = "203.0.113.1"
"""Kept for documentation (RFC 5737), so that no machine has it."""


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """Puts a command `docker` in the place of every other, which is this shell script."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(script):
        command = tmp_path / "docker"
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)

    return put


@pytest.mark.parametrize(
    ("subnets", "expected"),
    [
        ('[{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.5"}]', "172.17.0.5"),
        ('[{"Subnet": "172.17.0.0/16"}]', "172.17.0.1"),
        ('[{"Subnet": "fd00::/64", "Gateway": "fd00::1"}, {"Subnet": "172.17.0.0/16"}]', "172.17.0.1"),
        ('[{"Subnet": "203.0.113.0/24"}]', "127.0.0.1"),
        ("[]", "127.0.0.1"),
    ],
    ids=["told", "chosen by the engine", "IPv6 first", "in a virtual machine", "none"],
)
def test_containers_reach_this_machines_address_in_their_network_or_else_the_loopback(
    docker, monkeypatch, subnets, expected
):
    monkeypatch.setattr(containers, "belongs_to_this_machine", lambda address: address != NOT_OURS)
    docker(f"echo '{subnets}'")

    assert address() == expected


def test_an_engine_that_does_not_answer_is_told_with_its_own_words(docker):
    docker("echo Cannot connect to the Docker daemon >&2; exit 1")

    with pytest.raises(StackError, match=r"`docker network inspect .*` failed: Cannot connect to the Docker daemon"):
        address()


def test_a_machine_without_the_command_is_told_what_to_install(docker):
    with pytest.raises(StackError, match=r"no such command here\. Install Docker and start it"):
        address()


def test_the_tier_says_what_is_missing_and_what_was_tried(docker):
    docker('[ "$1" = version ] || { echo no such host >&2; exit 1; }')

    assert missing() == (
        f"`sam local` needs a container engine and {IMAGE}. "
        f"`docker pull --quiet --platform linux/amd64 {IMAGE}` failed: no such host"
    )


def test_nothing_is_missing_where_an_engine_has_the_image(docker):
    docker('[ "$1" != pull ]')

    assert missing() == ""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no second loopback address")
def test_a_port_is_free_or_taken_at_the_address_where_one_listens():
    with socket.create_server(("127.9.0.1", 0)) as server:
        port = server.getsockname()[1]

        assert free_port(port, insisted=None, option="--port") == port
        assert free_port(port, insisted=None, option="--port", host="127.9.0.1") != port


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(StackError, match=f"{NOT_OURS} is no address of this machine"):
        free_port(4566, insisted=None, option="--port", host=NOT_OURS)
