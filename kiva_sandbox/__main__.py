"""Run the sandbox: `python -m kiva_sandbox --port 8080`."""

import argparse
import logging
import signal
import socket
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import override

import uvicorn

from kiva_sandbox.app import create_app
from kiva_sandbox.data import Partner, portfolio
from kiva_sandbox.serving import serve_config
from kiva_sandbox.state import State, Unusable
from kiva_sandbox.switches import add_switch_options, switches_of
from kiva_sandbox.tokens import Tokens


class _WithoutQuery(logging.Filter):
    """Takes the query string out of uvicorn's access lines: a search for a loan can hold a borrower's name."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple) and len(record.args) == 5:  # noqa: PLR2004 - peer, method, path, version, status
            peer, method, path, version, status = record.args
            record.args = (peer, method, str(path).partition("?")[0], version, status)
        return True


def main() -> None:
    """Serve until told to stop. Exits 1 with one line when the address cannot be had."""
    parser = argparse.ArgumentParser(
        prog="kiva_sandbox",
        usage="%(prog)s --port PORT [options]",
        description="A local imitation of Kiva's Partner API.",
    )
    parser.add_argument("--port", type=int, required=True, help="where to listen; 0 takes any free port")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument(
        "--loans", type=int, default=500, help="size of the portfolio, of a state that is new (default: 500)"
    )
    parser.add_argument(
        "--state",
        type=Path,
        metavar="FILE",
        help="keep everything in this SQLite file, and go on from it when it exists (default: in memory)",
    )
    add_switch_options(parser)
    options = parser.parse_args()
    try:
        listener = socket.create_server((options.host, options.port))
    except (OSError, OverflowError) as error:
        sys.exit(f"kiva_sandbox: cannot listen on {options.host}:{options.port} ({error}); choose another --port")

    def now() -> datetime:
        return datetime.now(UTC)

    try:
        state = State(portfolio(options.loans), now, options.state)
    except Unusable as error:
        sys.exit(f"kiva_sandbox: {error}")
    app = create_app(state, Tokens(Partner(), state.signing_key(), now), switches_of(options))
    # uvicorn stops serving on these signals and then raises them again; by then there is nothing left to do.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    config = serve_config(app)
    logging.getLogger("uvicorn.access").addFilter(_WithoutQuery())
    host, port = listener.getsockname()[:2]
    loans, _ = state.find_loans("", "", 0, 0)
    kept = f", kept in {options.state}," if options.state else ""
    print(f"Kiva sandbox with {loans} loans{kept} on http://{host}:{port}", flush=True)
    with closing(state):
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
