"""The settings of Dask without which a cluster can lose work, or itself, in silence.

With Dask's own, a worker that dies while its predecessor's death is being noticed is removed for
good, until none is left and every task waits for ever; tasks that only waited on a worker that died
are blamed with the one that killed it; a job without workers waits for ever.
"""

import logging
import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

SETTINGS: Mapping[str, Any] = {
    "distributed.scheduler.allowed-failures": 0,  # a lost bucket comes back to the driver
    "distributed.scheduler.worker-saturation": 1.0,  # nothing waits on a worker
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.worker-ttl": "10 minutes",
    "distributed.deploy.lost-worker-timeout": "1 hour",
    "distributed.comm.retry.count": 3,
    "distributed.comm.timeouts.connect": "60s",
    "distributed.comm.timeouts.tcp": "60s",
    "distributed.worker.memory.target": False,  # workers hold nothing that could be spilled
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,  # lanes and decoders have limits of their own
    "distributed.worker.profile.enabled": False,
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.diagnostics.nvml": False,
}
# what the scheduler decides by; a scheduler that somebody else started may have others
OF_SCHEDULER = (
    "distributed.scheduler.allowed-failures",
    "distributed.scheduler.worker-saturation",
    "distributed.scheduler.worker-ttl",
)


def apply() -> None:
    """Set them, for the schedulers and workers that this process starts."""
    import dask

    dask.config.set(SETTINGS)


def environment() -> dict[str, str]:
    """They as variables, for a scheduler and workers that are started by their own commands."""
    return {_variable(name): str(value) for name, value in SETTINGS.items()}


def _variable(name: str) -> str:
    return f"DASK_{name.upper().replace('.', '__').replace('-', '_')}"


def differing(client: "Client") -> dict[str, tuple[Any, Any]]:
    """The settings of a running scheduler that are not as they should be: (is, should be)."""
    found = client.run_on_scheduler(_read, OF_SCHEDULER)
    return {
        name: (value, SETTINGS[name])
        for name, value in found.items()
        if str(value) != str(SETTINGS[name])
    }


def warn_of(client: "Client") -> None:
    """Say by name which settings of a running scheduler cost safety."""
    for name, (found, wanted) in differing(client).items():
        logger.warning(
            "the scheduler has %s = %r; %r is safe. Start it with %s=%s.",
            *(name, found, wanted, _variable(name), wanted),
        )


def _read(names: tuple[str, ...]) -> dict[str, Any]:
    import dask

    return {name: dask.config.get(name) for name in names}


if __name__ == "__main__":  # eval "$(python -m mmf.cluster.settings)"
    sys.stdout.writelines(f"export {k}={shlex.quote(v)}\n" for k, v in environment().items())
