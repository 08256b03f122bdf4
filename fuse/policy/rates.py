"""The rates at which a trained policy uses its modalities, as its run has noted them."""

from collections.abc import Sequence
from pathlib import Path

from mmf import MmfError
from mmf.fuse.training import checkpoint

KEY = "val_used_{}"  # of a row of metrics.jsonl


def rates_of(run: str, modalities: Sequence[str]) -> list[float]:
    """The share of segments, on validation, in which its best weights use each modality."""
    found = checkpoint.newest(Path(run) / "checkpoints")
    best = (found[1]["best"] if found else None) or {}
    for name in modalities:
        if KEY.format(name) not in best:
            raise MmfError(
                f"run {run!r} notes no rate of {name!r}; expected a trained run of --fusion policy "
                f"on the same modalities, {', '.join(modalities)}."
            )
    return [best[KEY.format(name)] for name in modalities]
