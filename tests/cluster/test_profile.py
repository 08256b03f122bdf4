"""The profile of a cluster: what is wrong with it is said before anything starts."""

import pytest

from mmf import MmfError
from mmf.cluster.profile import Profile, is_loopback, read_profile


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[cluster", "is no TOML"),
        ("[cluster]\nworker = 3", "Did you mean 'workers'"),
        ("[cluster]\nworkers = 0", "workers is 0; expected 1 or more"),
        ("[cluster]\nbucket_seconds = 'long'", "bucket_seconds is 'long'"),
        ("[slrum]\nqueue = 'gpu'", "Did you mean 'slurm'"),
        ("slurm = 3", "unknown section"),
        ("[tls]\nca = 'ca.pem'", "expected ca, cert and key"),
    ],
)
def test_a_profile_that_cannot_be_meant_says_what_is_wrong(text, said, tmp_path):
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    with pytest.raises(MmfError, match=said):
        read_profile("local", str(path))


def test_a_profile_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MmfError, match="there is no such file"):
        read_profile("local", str(tmp_path / "none.toml"))


@pytest.mark.parametrize("scheduler", ["lokal", "http://host:1", "tcp:/host", ""])
def test_an_unknown_scheduler_says_what_there_is(scheduler):
    with pytest.raises(MmfError, match="local, slurm, pbs, kubernetes, or the address"):
        Profile(scheduler=scheduler)


def test_plain_tcp_beyond_this_machine_must_be_meant():
    with pytest.raises(MmfError, match="whoever reaches its port can run code"):
        Profile(scheduler="tcp://10.0.0.7:8786")
    assert Profile(scheduler="tcp://10.0.0.7:8786", insecure=True).is_address
    assert Profile(scheduler="tcp://127.0.0.1:8786").is_address


def test_tls_needs_its_certificates():
    with pytest.raises(MmfError, match="name the certificates"):
        Profile(scheduler="tls://host:8786")


@pytest.mark.parametrize(
    ("address", "is_it"),
    [
        ("tcp://localhost:1", True),
        ("tcp://127.9.9.9:1", True),
        ("tcp://[::1]:1", True),
        ("tcp://127.0.0.1.evil.org:1", False),
        ("tcp://0.0.0.0:1", False),
        ("tcp://localhost.evil.org:1", False),
    ],
)
def test_loopback_is_this_machine_alone(address, is_it):
    assert is_loopback(address) == is_it


def test_options_of_a_kind_and_paths_beside_the_profile_are_taken(tmp_path):
    path = tmp_path / "cluster.toml"
    path.write_text(
        "[cluster]\nworkers = 4\nstall_timeout = 5\n[tls]\nca = 'a'\ncert = 'b'\nkey = '/c'\n"
        "[slurm]\nqueue = 'gpu'\n[pbs]\nqueue = 'other'\n"
    )
    found = read_profile("slurm", str(path), workers=None)
    assert (found.workers, found.stall_timeout) == (4, 5)
    assert found.options == {"queue": "gpu"}
    assert found.tls == {"ca": str(tmp_path / "a"), "cert": str(tmp_path / "b"), "key": "/c"}
    assert read_profile("slurm", str(path), workers=2).workers == 2
