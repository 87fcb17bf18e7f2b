"""The container engine of this machine, as far as `sam local` is concerned; it is asked by its command, `docker`."""

import ipaddress
import json
import subprocess

from local.processes import LOOPBACK, StackError, belongs_to_this_machine


def docker(*arguments: str) -> str:
    """Run the engine's command and return what it printed.

    Raises:
        StackError: There is no such command, no engine answers it, or it failed.
    """
    command = ["docker", *arguments]
    asked = " ".join(command)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise StackError(f"`{asked}`: there is no such command here. Install Docker and start it.") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit {done.returncode}"
        raise StackError(f"`{asked}` failed: {said}")
    return done.stdout


def address() -> str:
    """Where on this machine to listen, so that containers reach it.

    An engine on this very machine, as on Linux, has given it an address in the containers' network. From an engine in a
    virtual machine (Docker Desktop and the like) the name host.docker.internal leads to the loopback.
    https://docs.docker.com/desktop/features/networking/

    Raises:
        StackError: No engine answers.
    """
    for subnet in json.loads(docker("network", "inspect", "bridge", "--format", "{{json .IPAM.Config}}")):
        network = ipaddress.ip_network(subnet["Subnet"])
        # An engine that chose the address itself does not always tell; then it is the first.
        gateway: str = subnet.get("Gateway") or str(network[1])
        if isinstance(network, ipaddress.IPv4Network) and belongs_to_this_machine(gateway):
            return gateway
    return LOOPBACK
