"""Optical flow between two frames: a static table from a name to its class."""

from mmf import Registry
from mmf.extract.flow.contract import Flow, FlowSetup

_HERE = "mmf.extract.flow"

FLOWS = Registry(
    "flow",
    {
        "dis": f"{_HERE}.dis:Dis",
        "farneback": f"{_HERE}.farneback:Farneback",
        "gmflow": f"{_HERE}.gmflow:GMFlow",
        "raft": f"{_HERE}.raft:Raft",
    },
)


def open_flow(setup: FlowSetup) -> Flow:
    """The flow that `setup` names; UnknownName suggests near ones."""
    found: type[Flow] = FLOWS.load(setup.name)
    return found(setup)


__all__ = ["FLOWS", "Flow", "FlowSetup", "open_flow"]
