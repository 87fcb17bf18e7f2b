"""The certificates of a sandbox that serves https: for whom, for how long, and when they are made anew."""

import ssl
import stat
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509

from kiva_sandbox.certificate import kept_in

NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)


def read(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(path):
    held = read(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in held}


def test_it_is_for_this_machine_what_containers_call_it_and_the_host_given(tmp_path):
    server = kept_in(tmp_path, "kiva.test", NOW)

    assert names(server) == {"localhost", "127.0.0.1", "::1", "host.docker.internal", "kiva.test"}


def test_the_folder_is_made_and_only_its_owner_reads_the_key(tmp_path):
    server = kept_in(tmp_path / "of" / "mine", "127.0.0.1", NOW)

    assert stat.S_IMODE(server.stat().st_mode) == 0o600
    assert b"PRIVATE" in server.read_bytes()


def test_what_clients_trust_holds_no_key_and_signed_the_servers(tmp_path):
    server = kept_in(tmp_path, "127.0.0.1", NOW)

    authority = tmp_path / "ca.pem"
    assert b"PRIVATE" not in b"".join(each.read_bytes() for each in tmp_path.iterdir() if each != server)
    read(server).verify_directly_issued_by(read(authority))


def test_it_lives_no_longer_than_browsers_allow(tmp_path):
    server = read(kept_in(tmp_path, "127.0.0.1", NOW))

    assert server.not_valid_before_utc < NOW < server.not_valid_after_utc
    assert server.not_valid_after_utc - server.not_valid_before_utc <= timedelta(days=398)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "kiva.test"])  # noqa: S104 a host is only a name here
def test_it_is_used_again_while_it_is_good(tmp_path, host):
    before = kept_in(tmp_path, host, NOW).read_bytes()

    assert kept_in(tmp_path, host, NOW + timedelta(days=300)).read_bytes() == before


def cut_off(folder):
    server = folder / "server.pem"
    server.write_bytes(server.read_bytes()[:-40])


def no_server(folder):
    (folder / "server.pem").unlink()


def no_authority(folder):
    (folder / "ca.pem").unlink()


def another_authority(folder):
    trustme.CA().cert_pem.write_to_path(folder / "ca.pem")


def another_key(folder):
    server = folder / "server.pem"
    _, line, certificate = server.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    server.write_bytes(trustme.CA().private_key_pem.bytes() + line + certificate)


@pytest.mark.parametrize("change", [cut_off, no_server, no_authority, another_authority, another_key])
def test_what_is_spoilt_is_made_anew(tmp_path, change):
    kept_in(tmp_path, "127.0.0.1", NOW)
    change(tmp_path)

    server = kept_in(tmp_path, "127.0.0.1", NOW)

    read(server).verify_directly_issued_by(read(tmp_path / "ca.pem"))
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(server)
    assert stat.S_IMODE(server.stat().st_mode) == 0o600


def test_what_ends_within_a_day_is_made_anew(tmp_path):
    late = NOW + timedelta(days=396, hours=1)
    kept_in(tmp_path, "127.0.0.1", NOW)

    assert read(kept_in(tmp_path, "127.0.0.1", late)).not_valid_after_utc > late + timedelta(days=300)


def test_another_host_has_it_made_anew(tmp_path):
    kept_in(tmp_path, "127.0.0.1", NOW)

    assert "kiva.test" in names(kept_in(tmp_path, "kiva.test", NOW))


def test_a_folder_that_is_a_file_is_an_os_error(tmp_path):
    taken = tmp_path / "taken"
    taken.touch()

    with pytest.raises(OSError, match="taken"):
        kept_in(taken, "127.0.0.1", NOW)


def test_a_host_that_no_certificate_can_name_is_a_value_error(tmp_path):
    with pytest.raises(ValueError, match="kiva_sandbox"):
        kept_in(tmp_path, "kiva_sandbox", NOW)
