"""The coordinator's page of the stack that `local.stack` keeps running; `up` starts it in the background."""

import argparse
import sys
from pathlib import Path

from cli.console import serve
from cli.show import fit_every_terminal
from cli.stacks import local_stack
from local.stack import REGION, attach


def main() -> int:
    """Serve until told to stop; 1 when there is no stack."""
    fit_every_terminal()
    parser = argparse.ArgumentParser(prog="python -m local.console", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="the stack's folder")
    parser.add_argument("--port", type=int, required=True, help="where it answers; 0 takes any free port")
    chosen = parser.parse_args()
    stack = attach(chosen.state)
    if not stack:
        print("No stack is running here. Start one: make up", file=sys.stderr)
        return 1
    serve(local_stack(stack.name, stack.endpoint, stack.api, REGION), chosen.port, open_browser=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
