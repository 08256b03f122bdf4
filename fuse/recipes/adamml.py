"""AdaMML on pictures and sound, beside what it is held against.

Panda et al., ICCV 2021, arXiv:2105.05165, and the authors' code. The figures are those of a report
from IIITDM Kancheepuram on a part of Kinetics-400 (2,521 videos to learn from, 1,462 to test), with
ResNet-50 for pictures and MobileNetV2 for sound; they were trained whole, here they stay as they
are. The third feature is what the policy sees of pictures: ``--feature small=rgb:mobilenet_v2``
beside ``--preset adamml``; of sound it sees the network that recognises, as there.
"""

from dataclasses import replace
from typing import Any

from mmf.fuse.config import TrainConfig
from mmf.fuse.recipes.contract import Recipe, RecipeRow, kept, named_features

_NOTES = (
    "The backbones stay as they are: 76.47 % was reached by networks that were trained whole.",
    "Published GFLOPs of a video, doubled, for they count a product and its sum as one operation "
    "and mmf as two: 268.94 for AdaMML with 89.05 % of the pictures and 10.32 % of the sound, "
    "420.34 for weighted fusion, 330.12 for LiteEval; the authors' own constants give 267.74 for "
    "the first and 290.36 for the second.",
    "Published are decisions that are drawn; here they are the likelier ones (`sampled` draws).",
    "Not given: batch size (64) and the learning rate of the first stage (that of the others).",
    "sound_first is the report's future work: sound is always heard, and decides about pictures.",
    "LiteEval has one set of weights and no stages: Adam at 1e-3 for as many epochs.",
)


def adamml(base: TrainConfig) -> Recipe:
    """AdaMML: which of picture and sound to use where, its stages and its baselines."""
    rgb, audio, small = named_features(base, ("rgb", "audio", "small"))
    common = replace(
        kept(base),
        fusion="policy",
        task="single",
        loss="ce",
        batch_size=64,
        optimiser="sgd",
        lr=1e-3,
        weight_decay=1e-4,
        dropout=0.0,
    )
    both = {"modalities": [rgb, audio]}
    learned = {**both, "clues": [small, audio], "cost": {rgb: 1.0, audio: 0.05}}

    def row(features: tuple[str, ...], options: dict[str, Any], figure: float = 0.0) -> RecipeRow:
        config = replace(common, features=features, fusion_options=options)
        return RecipeRow(config=config, published={"accuracy": figure} if figure else {})

    every = (rgb, audio, small)
    lite = row(every, {**both, "clues": [small, audio]}, 0.7002)
    plain = replace(lite.config, fusion="lite_eval", optimiser="adam", weight_decay=None)
    rows = {
        "rgb": row((rgb,), {"decisions": "all"}, 0.743),
        "audio": row((audio,), {"decisions": "all"}, 0.492),
        "weighted": row((rgb, audio), {"decisions": "all"}, 0.7618),
        "adamml": row(every, learned, 0.7647),
        "random": row((rgb, audio), {"decisions": "random", "runs": ["{adamml}"]}),
        "lite_eval": replace(lite, config=replace(plain, epochs=115, clip_norm=5.0)),
        "sound_first": row((rgb, audio), {**learned, "clues": [audio], "always": [audio]}),
    }
    return Recipe(
        source="Panda et al., ICCV 2021, by IIITDM Kancheepuram on a part of Kinetics-400",
        rows=rows,
        main="adamml",
        notes=_NOTES,
    )
