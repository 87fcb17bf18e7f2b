"""The certificate of a sandbox that serves https, and the authority that clients are told to trust for it."""

import ssl
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.exceptions import InvalidSignature

AUTHORITY = "ca.pem"
"""The file that clients trust. It holds no key: that of the authority is thrown away, so it never vouches for more."""
_SERVER = "server.pem"
_NAMES = ("localhost", "127.0.0.1", "::1", "host.docker.internal")
_LIFETIME = timedelta(days=397)
"""Clients of Apple refuse a server's certificate that lives longer than 825 days, and browsers one of more than 398."""
_ENOUGH = timedelta(days=1)


def kept_in(folder: Path, host: str, now: datetime) -> Path:
    """The file with the server's key and certificate in `folder`; both are made there unless they are good for a day.

    The certificate is for the names of this machine, the one that containers have for it, and `host`.

    Raises:
        OSError: the folder cannot be made, read or written.
        ValueError: `host` is no name that a certificate can hold.
    """
    authority, server = folder / AUTHORITY, folder / _SERVER
    names = dict.fromkeys((*_NAMES, host))
    if not _good(authority, server, names, now):
        folder.mkdir(parents=True, exist_ok=True)
        maker = trustme.CA(organization_name="Kiva sandbox", organization_unit_name="of this machine only")
        made = maker.issue_cert(*names, not_before=now - timedelta(days=1), not_after=now + _LIFETIME)
        server.unlink(missing_ok=True)
        server.touch(mode=0o600)
        made.private_key_and_cert_chain_pem.write_to_path(str(server), append=True)
        maker.cert_pem.write_to_path(str(authority))
    return server


def _good(authority: Path, server: Path, names: dict[str, None], now: datetime) -> bool:
    """Whether both files are there, belong together, and serve for these names for long enough."""
    try:
        trusted = x509.load_pem_x509_certificate(authority.read_bytes())
        shown = x509.load_pem_x509_certificate(server.read_bytes())
        shown.verify_directly_issued_by(trusted)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(server)  # raises when the key is another's
        held = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (FileNotFoundError, ValueError, InvalidSignature, ssl.SSLError, x509.ExtensionNotFound):
        return False
    known = {*held.get_values_for_type(x509.DNSName), *map(str, held.get_values_for_type(x509.IPAddress))}
    return known >= {_written(name) for name in names} and shown.not_valid_after_utc > now + _ENOUGH


def _written(name: str) -> str:
    """A name as a certificate writes it: addresses in their one form."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name
