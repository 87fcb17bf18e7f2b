"""Run the sandbox: `kiva-sandbox`, or `python -m kiva_sandbox`."""

import argparse
import io
import logging
import re
import signal
import socket
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import override

import uvicorn

from kiva_sandbox import certificate
from kiva_sandbox.app import create_app
from kiva_sandbox.data import SCOPES, Partner, portfolio
from kiva_sandbox.serving import serve_config
from kiva_sandbox.state import State, Unusable
from kiva_sandbox.switches import add_switch_options, switches_of
from kiva_sandbox.tokens import AUDIENCES, Tokens


def main() -> None:
    """Serve until told to stop. Exits 1 with one line when the address, a folder or a file cannot be had."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="namereplace")  # what a terminal's encoding lacks is printed by name
    options = _options().parse_args()
    partner = Partner(scopes=tuple(options.scopes))
    listener = _listener(options.host, options.port)
    server_certificate = options.tls and _certificate(options.tls, options.host)
    state = _state(options.loans, options.state)
    app = create_app(state, Tokens(partner, state.signing_key(), _now), switches_of(options))
    # uvicorn stops serving on these signals and then raises them again; by then there is nothing left to do.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    config = serve_config(app, ssl_certfile=server_certificate)
    logging.getLogger("uvicorn.access").addFilter(_WithoutQuery())
    host, port = listener.getsockname()[:2]
    loans, _ = state.find_loans("", "", 0, 0)
    has = f"{loans} loans, kept in {options.state}," if options.state else f"{loans} loans"
    print(_greeting(f"{'https' if options.tls else 'http'}://{host}:{port}", has, partner), flush=True)
    with closing(state):
        uvicorn.Server(config).run(sockets=[listener])


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kiva-sandbox",
        usage="%(prog)s [options]",
        description="A local imitation of Kiva's Partner API, and of what people do in PA2. It needs no network.",
    )
    parser.add_argument("--port", type=int, default=8080, help="where to listen (default: 8080); 0 takes any free port")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument(
        "--loans", type=_size, default=500, help="size of the portfolio, of a state that is new (default: 500)"
    )
    parser.add_argument(
        "--state",
        type=Path,
        metavar="FILE",
        help="keep everything in this SQLite file, and go on from it when it exists (default: in memory)",
    )
    parser.add_argument(
        "--tls",
        type=Path,
        metavar="FOLDER",
        help=f"serve https; its certificate is kept in FOLDER, with the {certificate.AUTHORITY} that clients trust",
    )
    parser.add_argument(
        "--scopes",
        nargs="+",
        choices=SCOPES,
        default=SCOPES,
        metavar="SCOPE",
        help=f"what the client is authorised for (default: all of {', '.join(SCOPES)})",
    )
    add_switch_options(parser)
    return parser


def _size(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise argparse.ArgumentTypeError("must be a number of loans, below a million")
    return int(text)


def _greeting(address: str, has: str, partner: Partner) -> str:
    """What a person needs to call it. Its first line ends in the address, for programs that wait for it."""
    return f"""\
Kiva sandbox with {has} on {address}

  Token    POST {address}/oauth/token
           grant_type     client_credentials
           client_id      {partner.client_id}
           client_secret  {partner.client_secret}
           audience       {AUDIENCES[0]}
  API      {address}/v3/partner/{partner.id}/
  Swagger  {address}/swagger-ui/index.html
  PA2      {address}/pa2/
"""


def _listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        sys.exit(f"kiva-sandbox: cannot listen on {host}:{port} ({error}); choose another --port")


def _certificate(folder: Path, host: str) -> Path:
    try:
        return certificate.kept_in(folder, host, _now())
    except (OSError, ValueError) as error:
        sys.exit(f"kiva-sandbox: cannot keep a certificate for {host} in {folder} ({error}); choose another --tls")


def _state(loans: int, file: Path | None) -> State:
    try:
        return State(portfolio(loans), _now, file)
    except Unusable as error:
        sys.exit(f"kiva-sandbox: {error}")


def _now() -> datetime:
    return datetime.now(UTC)


class _WithoutQuery(logging.Filter):
    """Takes the query string out of uvicorn's access lines: a search for a loan can hold a borrower's name."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple) and len(record.args) == 5:  # noqa: PLR2004 - peer, method, path, version, status
            peer, method, path, version, status = record.args
            record.args = (peer, method, str(path).partition("?")[0], version, status)
        return True


if __name__ == "__main__":
    main()
