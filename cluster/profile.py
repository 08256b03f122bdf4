"""What a cluster is like: said on the command line, or in a TOML file for what does not fit there.

::

    [cluster]                     # of any kind
    workers = 8                   # to start, or to expect
    bucket_seconds = 60           # of work in one task: what a kill can cost
    no_workers_timeout = 600      # seconds without a worker, before the job gives up (exit 75)
    stall_timeout = 900           # seconds in which nothing moves
    [tls]                         # certificates of both sides, PEM files
    ca = "ca.pem"
    cert = "mmf.pem"
    key = "mmf.key"
    [slurm]                       # as dask_jobqueue.SLURMCluster takes it; also [pbs], [kubernetes]
    queue = "gpu"
    cores = 1
    memory = "16GiB"
    walltime = "24:00:00"
"""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmf import MmfError, unknown

if TYPE_CHECKING:
    from distributed import Security

KINDS = ("local", "slurm", "pbs", "kubernetes")
_TLS = ("ca", "cert", "key")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A cluster, and how patient a job is with it."""

    scheduler: str  # one of KINDS, or the address of one that runs: tcp://… or tls://…
    workers: int | None = None  # None: one per core (local), or those that are there
    bucket_seconds: float = 60.0
    no_workers_timeout: float = 600.0
    stall_timeout: float = 900.0
    insecure: bool = False  # a plain tcp:// address beyond this machine is meant
    tls: Mapping[str, str] = field(default_factory=dict)  # paths of PEM files: ca, cert, key
    options: Mapping[str, Any] = field(default_factory=dict)  # of the kind's own class

    def __post_init__(self) -> None:
        if self.scheduler not in KINDS and not self.is_address:
            raise MmfError(
                f"scheduler {self.scheduler!r}: expected {', '.join(KINDS)}, or the address of one "
                "that runs, tcp://HOST:PORT or tls://HOST:PORT."
            )
        for name in ("bucket_seconds", "no_workers_timeout", "stall_timeout"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or value <= 0:
                raise MmfError(f"cluster: {name} is {value!r}; expected seconds above 0.")
        if self.workers is not None and self.workers < 1:
            raise MmfError(f"cluster: workers is {self.workers}; expected 1 or more.")
        self._check_security()

    def _check_security(self) -> None:
        if self.tls and set(self.tls) != set(_TLS):
            raise MmfError(f"cluster: [tls] has {sorted(self.tls)}; expected ca, cert and key.")
        if self.scheduler.startswith("tls://") and not self.tls:
            raise MmfError(
                f"scheduler {self.scheduler!r}: name the certificates in a --profile, [tls] with "
                "ca, cert and key."
            )
        plain = self.scheduler.startswith("tcp://")
        if plain and not (self.insecure or is_loopback(self.scheduler)):
            raise MmfError(
                f"scheduler {self.scheduler!r}: over plain TCP whoever reaches its port can run "
                "code on every worker. Use tls://, or say that the network is yours alone: "
                "--insecure-cluster."
            )

    @property
    def is_address(self) -> bool:
        """Whether a scheduler runs already."""
        return self.scheduler.startswith(("tcp://", "tls://"))

    def security(self) -> "Security | None":
        """The certificates, as Dask takes them; MmfError where one is not there."""
        if not self.tls:
            return None
        from distributed import Security

        for name, path in self.tls.items():
            if not os.path.isfile(path):
                raise MmfError(f"cluster: [tls] {name} = {path!r}: there is no such file.")
        sides = ("client", "scheduler", "worker")
        each = {f"tls_{side}_{key}": self.tls[key] for key in ("cert", "key") for side in sides}
        return Security(tls_ca_file=self.tls["ca"], require_encryption=True, **each)


def is_loopback(address: str) -> bool:
    """Whether an address is of this machine alone."""
    host = address.partition("://")[2].rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which anybody may point anywhere
        return False


def read_profile(scheduler: str, path: str | None, **said: Any) -> Profile:
    """The profile in a TOML file, where one is named; what is `said` otherwise goes before it."""
    found: dict[str, Any] = {}
    if path is not None:
        found = _sections(path)
    given = found.pop("cluster", {})
    known = {f.name for f in fields(Profile)} - {"scheduler", "tls", "options", "insecure"}
    for key in given:
        if key not in known:
            raise unknown(f"setting of [cluster] in {path!r}", key, known)
    tls = {key: _beside(path, str(value)) for key, value in found.pop("tls", {}).items()}
    values = {**given, **{k: v for k, v in said.items() if v is not None}}
    return Profile(scheduler=scheduler, tls=tls, options=found.get(scheduler, {}), **values)


def _sections(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)
    except FileNotFoundError:
        raise MmfError(f"profile {path!r}: there is no such file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MmfError(f"profile {path!r} is no TOML: {error}.") from None
    for name, value in found.items():
        if name not in ("cluster", "tls", *KINDS) or not isinstance(value, dict):
            raise unknown(f"section of profile {path!r}", name, ("cluster", "tls", *KINDS))
    return found


def _beside(profile: str | None, path: str) -> str:
    """A path as the profile means it: from its own folder."""
    return str(Path(profile or ".").parent / path)
