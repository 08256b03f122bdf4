"""What stencils and Shapley's values say, as tables and arrays to be kept."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmf.fuse.explain.shares import Shares
from mmf.fuse.explain.stencils.over_time import OverTime
from mmf.fuse.explain.stencils.scores import Said
from mmf.store.exchange.output import finished

CLUSTERS = pa.schema(
    [
        ("class", pa.string()),
        ("cluster", pa.int32()),  # by logit, the highest is 0
        ("speaks", pa.bool_()),  # for the class: it ranks the usual items best
        ("stencils", pa.int32()),  # in the cluster
        ("logit", pa.float64()),  # of the cluster's mean, fed to the network
        ("spearman", pa.float64()),  # of <S, X - X̄> and the logit; null where not defined
    ]
)
SHARES = pa.schema(
    [
        ("class", pa.string()),
        ("modality", pa.string()),
        ("positives", pa.int64()),  # items that shares are of; without one they are null
        ("share", pa.float64()),  # by Shapley's value: `fuse.explain.shares`
        ("value", pa.float64()),
        ("alone", pa.float64()),
        ("last", pa.float64()),
        ("stencil_share", pa.float64()),  # `fuse.explain.stencils.scores`; null without stencils
    ]
)
STEPS = pa.schema(
    [
        ("item", pa.string()),
        ("video_id", pa.string()),
        ("class", pa.string()),
        ("modality", pa.string()),
        ("step", pa.int32()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("contribution", pa.float64()),  # <S_t, X_t - X̄>
    ]
)


def clusters(said: Sequence[Said]) -> pa.Table:
    """A row per class and cluster (`CLUSTERS`)."""
    rows = [
        {
            "class": one.stencils.name,
            "cluster": k,
            "speaks": k == one.best,
            "stencils": int(size),
            "logit": float(one.stencils.logits[k]),
            "spearman": one.spearman[k],
        }
        for one in said
        for k, size in enumerate(one.stencils.sizes)
    ]
    return pa.Table.from_pylist(rows, CLUSTERS)


def shares(owed: Shares, said: Sequence[Said] = ()) -> pa.Table:
    """A row per class and modality (`SHARES`)."""
    of = {one.stencils.name: one.shares for one in said}
    rows = owed.table().to_pylist()
    for row in rows:
        found = of.get(row["class"])
        at = owed.modalities.index(row["modality"])
        row["stencil_share"] = None if found is None else float(found[at])
    return pa.Table.from_pylist(rows, SHARES)


def steps(found: Iterable[OverTime]) -> pa.Table:
    """A row per item, modality and step (`STEPS`)."""
    rows = [
        {
            "item": one.item.id,
            "video_id": one.item.video_id,
            "class": one.name,
            "modality": modality,
            "step": t,
            "start_s": float(one.edges[m][t]),
            "end_s": float(one.edges[m][t + 1]),
            "contribution": float(value),
        }
        for one in found
        for m, modality in enumerate(one.modalities)
        for t, value in enumerate(one.contributions[m])
    ]
    return pa.Table.from_pylist(rows, STEPS)


def write_stencils(said: Sequence[Said], path: Path) -> None:
    """The stencils themselves, safetensors: ``<number of the class>/<modality>`` (K, L, D).

    The names of the classes stand in the file's metadata, as do the steps' means as
    ``mean/<modality>`` (D,) among the tensors.
    """
    from safetensors.torch import save_file

    tensors = {
        f"{c}/{name}": values.cpu().contiguous()
        for c, one in enumerate(said)
        for name, values in zip(one.stencils.modalities, one.stencils.values, strict=True)
    }
    for one in said[:1]:
        pairs = zip(one.stencils.modalities, one.stencils.usual.mean, strict=True)
        tensors |= {f"mean/{name}": mean.cpu().contiguous() for name, mean in pairs}
    names = {str(c): one.stencils.name for c, one in enumerate(said)}
    with finished(path) as part:
        save_file(tensors, part, metadata=names)


def norms(said: Said) -> list[np.ndarray]:
    """‖S_t‖ (L,) of the stencil that speaks for a class, by modality."""
    return [x[said.best].norm(dim=1).cpu().numpy() for x in said.stencils.values]
