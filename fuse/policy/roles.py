"""Which features are decided about, and which are the clues that it is decided from."""

from collections.abc import Collection, Mapping, Sequence

from mmf import MmfError, unknown
from mmf.fuse.fusions.contract import Stream


def roles(
    streams: Mapping[str, Stream], modalities: Sequence[str], clues: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The features that are decided about, and those that it is decided from."""
    check_names("modalities", modalities, streams)
    check_names("clues", clues, streams)
    others = tuple(name for name in streams if name not in clues)
    modalities = tuple(modalities) or others or tuple(streams)
    return modalities, tuple(clues) or modalities


def check_names(what: str, names: Sequence[str], known: Collection[str]) -> None:
    """Raise MmfError unless the names are known ones, each once."""
    for name in names:
        if name not in known:
            raise unknown(f"feature of {what}", name, known)
    if len(set(names)) < len(names):
        raise MmfError(f"{what} = {list(names)}: expected each feature once.")
