"""MFB on YouTube-8M, tables 1 to 3: three aggregators × audio, video, concat, FC-concat, MFB.

Liu, Yuan and Wang 2018, Towards Good Practices for Multi-modal Fusion in Large-scale Video
Classification; the frames of YouTube-8M of 2018, 3862 classes; GAP at 20. Its section 4.1 gives
Adam at 2e-4, batches of 128, 250,000 steps, an evaluation every 10,000 on about 243,337 videos, 300
frames drawn, dropout 0.1 in MFB, K = 8 (NetVLAD) and 2000 (DBoF), mixtures of two experts with L2
1e-6. What it leaves to google/youtube-8m, on which it is built, is taken from there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmf.fuse.config import TrainConfig
from mmf.fuse.recipes.contract import Recipe, RecipeRow, kept, named_features

_FUSIONS: Mapping[str, Mapping[str, Any]] = {
    "audio": {"fusion": "single"},
    "video": {"fusion": "single"},
    "concat": {"fusion": "concat"},
    "fc_concat": {
        "fusion": "fc_concat",
        "fusion_options": {"factors": 5, "outputs": 1000, "match": "projections"},
    },
    "mfb": {
        "fusion": "mfb",
        "fusion_options": {"factors": 5, "outputs": 1000, "dropout": 0.1, "power": "relu"},
    },
}
_NOTES = (
    "Not given: MFB's factors and outputs (5 and 1000 are those of its authors' code), the "
    "activation of FC-concat's layers (none), NetVLAD's layer behind (1024, LOUPE's).",
    "From google/youtube-8m: L2 of both features together, gradients clipped by tensor at 1, the "
    "rate times 0.95 every 4 million examples, a third expert that always says no.",
    "FC-concat has as many parameters as MFB in its projections alone: the experts behind it see "
    "ten times as many numbers. --set fc_concat.match=total counts both.",
    "The best evaluation is kept and none stops a run; the paper stopped NetVLAD + MFB near step "
    "13,000. It trained on the train split and 3,000 of the 3,844 validation shards: "
    "`mmf split --shards`.",
    "Not run on YouTube-8M here: the published column is the paper's alone.",
)


def mfb_mean(base: TrainConfig) -> Recipe:
    """MFB, table 1: the mean over frames; 83.3 GAP on YouTube-8M."""
    return _table(base, "table 1", {"aggregate": "mean"}, (38.1, 69.6, 74.2, 81.8, 83.3))


def mfb_netvlad(base: TrainConfig) -> Recipe:
    """MFB, table 2: NetVLAD of 8 clusters; 85.5 GAP on YouTube-8M."""
    aggregate = {"aggregate": "netvlad", "aggregate_options": {"clusters": 8, "hidden": 1024}}
    return _table(base, "table 2", aggregate, (50.7, 82.3, 85.0, 84.6, 85.5))


def mfb_dbof(base: TrainConfig) -> Recipe:
    """MFB, table 3: deep bag of frames of 2000 words; 85.9 GAP on YouTube-8M."""
    aggregate = {"aggregate": "dbof", "aggregate_options": {"clusters": 2000}}
    return _table(base, "table 3", aggregate, (48.9, 81.8, 84.0, 84.1, 85.9))


def _table(
    base: TrainConfig, which: str, aggregate: Mapping[str, Any], published: Sequence[float]
) -> Recipe:
    video, audio = named_features(base, ("rgb", "audio"))
    features = {"audio": (audio,), "video": (video,)}
    common = replace(youtube8m(base), **aggregate)
    rows = {}
    for (name, fusion), percent in zip(_FUSIONS.items(), published, strict=True):
        config = replace(common, features=features.get(name, (video, audio)), **fusion)
        rows[name] = RecipeRow(config=config, published={"gap@20": percent / 100})
    return Recipe(
        source=f"Liu, Yuan and Wang 2018, {which}: YouTube-8M of 2018, GAP",
        rows=rows,
        main="mfb",
        notes=_NOTES,
    )


def youtube8m(base: TrainConfig) -> TrainConfig:
    """The paper's training, with what it leaves to google/youtube-8m."""
    return replace(
        kept(base),
        normalise="l2_joint",
        head="moe",
        head_options={"mixtures": 2, "dummy_expert": True},
        l2={"head": 1e-6},
        dropout=0.0,
        task="multi",
        loss="bce",
        sample="frames",
        max_steps=300,
        steps=250_000,
        eval_every=10_000,
        eval_videos=243_337,
        patience=25,
        batch_size=128,
        optimiser="adam",
        lr=2e-4,
        schedule="staircase",
        schedule_options={"rate": 0.95, "examples": 4_000_000},
        clip="tensor",
        clip_norm=1.0,
    )
