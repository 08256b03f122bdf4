"""Certificates on both sides: who has none, or another authority's, is not let in."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from distributed import Client, Security

from mmf.cluster.connect import connected
from mmf.cluster.profile import read_profile


def make_authority(folder):
    """ca.pem, mmf.pem and mmf.key of a fresh authority, and a profile that names them."""
    folder.mkdir()
    key, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("authority", key.public_key(), "authority", key, is_authority=True)
    mine = _certificate("mmf", own.public_key(), "authority", key, is_authority=False)
    (folder / "ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    (folder / "mmf.pem").write_bytes(mine.public_bytes(serialization.Encoding.PEM))
    secret = own.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "mmf.key").write_bytes(secret)
    (folder / "cluster.toml").write_text(
        "[tls]\nca = 'ca.pem'\ncert = 'mmf.pem'\nkey = 'mmf.key'\n"
        "[cluster]\nbucket_seconds = 1\nno_workers_timeout = 60\n"
    )
    return folder


def _certificate(name, key, issuer, issuers_key, *, is_authority):
    def named(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(named(issuer), named(name), key, x509.random_serial_number())
    made = made.not_valid_before(now - datetime.timedelta(days=1))
    made = made.not_valid_after(now + datetime.timedelta(days=2))
    limits = x509.BasicConstraints(ca=is_authority, path_length=None)
    return made.add_extension(limits, critical=True).sign(issuers_key, hashes.SHA256())


@pytest.fixture
def cluster(tmp_path, processes):
    """The address of a scheduler with one worker, which only speak TLS."""
    make_authority(tmp_path / "ours")
    pem = {
        "--tls-ca-file": "ca.pem",
        "--tls-cert": "mmf.pem",
        "--tls-key": "mmf.key",
    }
    words = [w for k, v in pem.items() for w in (k, str(tmp_path / "ours" / v))]
    only = {"DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True", **processes.settings}
    address = processes.scheduler("--protocol", "tls", *words, protocol="tls", **only)
    processes.worker("worker", address, "--protocol", "tls", *words, **only)
    return address


def test_strangers_are_refused_and_a_job_with_the_certificates_is_done(
    cluster, tmp_path, processes, source, is_whole
):
    ours = tmp_path / "ours/cluster.toml"
    with connected(read_profile(cluster, str(ours))) as there:
        there.client.wait_for_workers(1, timeout=60)

    plain = cluster.replace("tls://", "tcp://")
    with pytest.raises(OSError):
        Client(plain, timeout=2, set_as_default=False)

    theirs = make_authority(tmp_path / "theirs")
    other = Security(
        tls_ca_file=str(theirs / "ca.pem"),
        tls_client_cert=str(theirs / "mmf.pem"),
        tls_client_key=str(theirs / "mmf.key"),
        require_encryption=True,
    )
    with pytest.raises(OSError):
        Client(cluster, timeout=2, security=other, set_as_default=False)
    # even one that trusts ours is not trusted
    liar = Security(
        tls_ca_file=str(tmp_path / "ours/ca.pem"),
        tls_client_cert=str(theirs / "mmf.pem"),
        tls_client_key=str(theirs / "mmf.key"),
        require_encryption=True,
    )
    with pytest.raises(OSError):
        Client(cluster, timeout=2, security=liar, set_as_default=False)

    words = ("--scheduler", cluster, "--profile", str(ours))
    driver = processes.extract("driver", source, tmp_path / "s.mmf", *words)
    assert driver.wait(timeout=200) == 0, processes.said("driver")
    assert is_whole(tmp_path / "s.mmf")
