"""Presets: a backbone for each modality under one name, with its options as in `--feature`.

``youtube8m`` wants matrices of the user's in the working folder: ``yt8m_pca`` (what yt8m_pca.tgz
holds: mean.npy, eigenvals.npy, eigenvecs.npy) and ``vggish_pca_params.npz``. A row a second of
either stream, at most 300, as codes of 8 bits; ``mmf export youtube8m`` then writes them unchanged.
Where the last sound ends early it is filled up with silence. MediaPipe's graph for the same data
set differs in the last second alone: it fills the log-mel, not the sound, with zeros, and lets the
last frame stand for a second that comes less than half of one after it. The resize, the front end,
the whitening and the codes are tested on published vectors and formulas; that the two networks give
Google's numbers is not, since their weights were not to be had.

``mixer`` has the frames and the clips of which its authors tried either, and the ids of tokens, so
that BERT's embeddings can be trained. ``adamml`` has the networks that recognise; its policy looks
at a smaller one: ``--feature small=rgb:mobilenet_v2`` beside them. ``x3d_flow`` has the clips that
served its authors best, for flow 16 frames 8 apart with nothing as the third channel; they cut
256 × 256 where these networks cut what they were trained with.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mmf import unknown


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Backbones by modality, and whose they are."""

    source: str
    backbones: Mapping[str, str]


PRESETS: dict[str, Preset] = {
    "embedded": Preset(
        source="no weights, no network, the same everywhere; the default",
        backbones={"rgb": "hog", "audio": "logmel", "flow": "hof", "text": "hashing"},
    ),
    "standard": Preset(
        source="strong pretrained networks",
        backbones={
            "rgb": "dinov2",
            "clip": "videomae",
            "audio": "ast",
            "flow": "x3d:m,flow=raft",
            "text": "minilm",
        },
    ),
    "youtube8m": Preset(
        source="Abu-El-Haija et al., YouTube-8M, 2016; also for MFB (Liu et al.) and GMSA (Sahu et "
        "al.)",
        backbones={
            "rgb": "inception_2015,dtype=uint8,limit=300,pca=yt8m_pca",
            "audio": "vggish,dtype=uint8,limit=300,pca=vggish_pca_params.npz",
        },
    ),
    "adamml": Preset(
        source="Panda et al., AdaMML, ICCV 2021",
        backbones={"rgb": "resnet50", "audio": "mobilenet_v2", "flow": "resnet50"},
    ),
    "mixer": Preset(
        source="Alfaro et al., How Disney Improved Activity Recognition, PyTorch blog, 2022",
        backbones={
            "rgb": "resnet34",
            "clip": "r3d_18",
            "audio": "resnet34:grid",
            "text": "bert:large,pool=tokens",
        },
    ),
    "x3d_flow": Preset(
        source="García et al., Multi-modality, Master in Computer Vision, Barcelona: X3D on frames "
        "and on GMFlow",
        backbones={
            "clip": "x3d:m",
            "flow": "x3d:xs,flow=gmflow,encode=zero,frames=16,stride=8",
        },
    ),
}


def preset(name: str) -> dict[str, str]:
    """The backbone of each modality in the preset `name`; UnknownName suggests near ones."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return dict(PRESETS[name].backbones)
