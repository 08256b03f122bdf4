"""Trained runs of one feature each inside a fusion of logits.

Before the first step their normalisation, aggregators and heads are copied into the network, where
they stay as they are. From then on the checkpoints hold them, and the runs are needed no more.
"""

from mmf import MmfError
from mmf.fuse.network import Network
from mmf.fuse.run import Run

_SAME = (
    *("normalise", "aggregate", "aggregate_options", "head", "head_options"),
    *("max_steps", "label_set"),
)


def take_runs(network: Network, run: Run) -> None:
    """Copy what the fusion's `runs` have learned into the network of `run`.

    Raises MmfError unless there is one run for each feature, which differs from this one in
    nothing that its weights depend on.
    """
    singles: dict[str, Run] = {}
    for path in network.runs:
        single = Run.open(path)
        name = _its_feature(single, run)
        if name in singles:
            raise MmfError(f"runs {singles[name].path} and {path} are both of {name!r}; give one.")
        singles[name] = single
    lacking = [name for name in run.specs if name not in singles]
    if network.runs and lacking:
        raise MmfError(
            f"no run of {', '.join(lacking)} among {', '.join(network.runs)}. "
            f"Train it with `mmf train --features {lacking[0]} --fusion single`, and name it too."
        )
    for name, single in singles.items():
        network.take(name, single.trained())


def _its_feature(single: Run, run: Run) -> str:
    """The one feature of a run, which must be one of `run`'s, treated in the same way."""
    if len(single.specs) != 1 or single.config.fusion != "single":
        raise MmfError(
            f"run {single.path} is of fusion {single.config.fusion!r} on "
            f"{', '.join(single.specs)}; expected runs of --fusion single, of a feature each."
        )
    (name,) = single.specs
    if single.specs[name].dtype == "int32":
        raise MmfError(
            f"run {single.path} reads token ids of {name!r} with an encoder of its own, which is "
            "not taken over. Extract text vectors (`mmf extract --feature text=text`) instead."
        )
    if name not in run.specs:
        raise MmfError(
            f"run {single.path} is of {name!r}, which is none of the features "
            f"({', '.join(run.specs)}). Leave it out, or name the feature too."
        )
    if single.specs[name].fingerprint != run.specs[name].fingerprint:
        raise MmfError(
            f"run {single.path} was trained on rows of {name!r} made by another recipe than the "
            "store's. Train it on this store."
        )
    for key in _SAME:
        theirs, ours = getattr(single.config, key), getattr(run.config, key)
        if theirs != ours:
            raise MmfError(
                f"run {single.path} was trained with {key} {theirs!r}; this asks for {ours!r}. "
                "Ask for the same, or train it anew."
            )
    if single.classes != run.classes or single.loss != run.loss:
        raise MmfError(
            f"run {single.path} learned other classes, or with another loss, than this one. "
            "Train it on the same labels."
        )
    return name
