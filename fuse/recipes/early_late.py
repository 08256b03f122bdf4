"""Early against late fusion of pictures and optical flow, with a modality made zeros.

García Fernández, Herodes, Vega Gallego and Vila Bagaria, Multi-modality, Master in Computer Vision,
Barcelona: X3D on HMDB51's frames and on GMFlow's flow (51 classes). Late fusion is an MLP on
the logits of both trained models, early fusion a transformer and an MLP on what lies before them.
Adam at 1e-4, batches of 16, 50 epochs.
"""

from dataclasses import replace

from mmf.fuse.config import TrainConfig
from mmf.fuse.recipes.contract import Recipe, RecipeRow, kept, named_features

_NOTES = (
    "Late fusion takes the trained runs of the rows rgb and flow, seed by seed; alone, "
    '`mmf train --recipe early_late:late` wants them by --fusion-option \'runs=["…", "…"]\'.',
    "The authors' figures for early and late fusion are of validation (their own baseline there: "
    "0.178), those for one modality of the test set.",
    "Their ablation was on pixels: grey frames with flow 0.564, with zeros in its place 0.587. "
    "Here the same is asked of features: a row that does no worse has not used what is zeroed.",
    "Not given: the sizes of either fusion (2 layers of 256 units; 512 units).",
    "Not run on HMDB51 here: the published column is the authors' alone.",
)


def early_late(base: TrainConfig) -> Recipe:
    """Early against late fusion of pictures and flow, and what zeros in place of one cost."""
    rgb, flow = named_features(base, ("rgb", "flow"))
    common = replace(
        kept(base),
        features=(rgb, flow),
        task="single",
        loss="ce",
        epochs=50,
        patience=50,
        batch_size=16,
        optimiser="adam",
        lr=1e-4,
    )
    single = replace(common, fusion="single")
    early = replace(common, fusion="early")
    late = replace(common, fusion="late", fusion_options={"runs": ["{rgb}", "{flow}"]})

    def row(config: TrainConfig, figure: float | str = "") -> RecipeRow:
        return RecipeRow(config=config, published={"accuracy": figure} if figure else {})

    return Recipe(
        source="García et al., Master in Computer Vision, Barcelona: HMDB51, accuracy",
        rows={
            "rgb": row(replace(single, features=(rgb,)), 0.718),
            "flow": row(replace(single, features=(flow,)), 0.381),
            "late": row(late, "0.121 (validation)"),
            "early": row(early, "0.554 (validation)"),
            "early-zero_flow": row(replace(early, zero=(flow,))),
            "early-zero_rgb": row(replace(early, zero=(rgb,))),
        },
        main="early",
        notes=_NOTES,
    )
