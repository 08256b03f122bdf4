"""Pictures of stencils, shares and ablations, and the sentences that say the same."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from mmf.fuse.explain.ablation import Ablated, Ablation
from mmf.fuse.explain.met import Usual
from mmf.fuse.explain.stencils.over_time import OverTime
from mmf.fuse.explain.stencils.scores import Said
from mmf.fuse.explain.stencils.search import Stencils
from mmf.store import Item
from mmf.store.items import Items

pytest.importorskip("matplotlib")
from mmf.fuse.explain import ablation_picture
from mmf.fuse.explain.stencils import picture as stencil_picture

USUAL = Usual(
    items=Items.of([Item(video_id="v")]), mean=[torch.zeros(2), torch.zeros(1)],
    deviation=[1.0, 1.0], there=[True, True], lengths=[3, 2], longest=[3, 2], norm=5.0,
)  # fmt: skip
RGB = torch.tensor([[[0.0, 0.0], [3.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]])
STENCILS = Stencils(
    name="$c_^\x1b", modalities=("rgb", "audio"), positional=True,
    values=[RGB, torch.tensor([[[4.0], [0.0]], [[1.0], [1.0]]])],
    sizes=np.array([5, 2]), logits=np.array([2.0, 1.0]), usual=USUAL,
)  # fmt: skip
SAID = Said(
    stencils=STENCILS, best=0, spearman=[0.75, None], positives=3, shares=np.array([0.4, 0.6])
)
ITEM = OverTime(
    item=Item(video_id="$clip_^\x1b.mp4"), name="cat", modalities=("rgb", "audio", "text"),
    contributions=[np.array([1.0, -2.0, 4.0]), np.array([1.0, 0.0]), np.empty(0)],
    edges=[np.array([0.0, 1, 2, 3]), np.array([0.5, 1.5, 2.5]), np.zeros(1)],
    begins=0.0, logit=1.5, positive=False,
)  # fmt: skip
SHARES = pa.table(
    {
        "class": ["cat", "cat", "dog", "dog"],
        "modality": ["rgb", "audio"] * 2,
        "share": pa.array([0.25, 0.75, None, None], pa.float64()),
    }
)


def texts(figure) -> list[str]:
    from matplotlib.text import Text

    figure.canvas.draw()
    return [one.get_text() for one in figure.findobj(Text)]


def test_the_stencil_that_speaks_is_the_dark_line_and_says_how_well_it_ranks():
    figure = stencil_picture.draw_stencils(SAID)
    rgb, audio = figure.axes
    dark = [line for line in rgb.lines if line.get_linewidth() > 1]
    assert [line.get_ydata().tolist() for line in dark] == [[0, 3, 0, 0]]
    assert rgb.get_ylim() == audio.get_ylim()
    assert rgb.get_ylim()[1] >= 4
    assert "$c_^\N{REPLACEMENT CHARACTER}: it ranks items with Spearman 0.75" in texts(figure)
    alt = stencil_picture.alt_stencils(SAID)
    assert "rgb 36%, most at step 1 of 3; audio 64%, most at step 0 of 2" in alt
    unknown = stencil_picture.alt_stencils(replace(SAID, spearman=[None, None]))
    assert "how well it ranks items is not known" in unknown


def test_what_an_item_contributes_stands_at_its_seconds_below_its_frames():
    frames = {0.75: np.zeros((8, 8, 3), np.uint8), 2.25: np.full((8, 8, 3), 200, np.uint8)}
    figure = stencil_picture.draw_over_time(ITEM, frames)
    rgb, audio, text, above = figure.axes
    assert [(p.get_x(), p.get_width(), p.get_height()) for p in rgb.patches] == [
        (0, 1, 1), (1, 1, -2), (2, 1, 4),
    ]  # fmt: skip
    assert [p.get_x() for p in audio.patches] == [0.5, 1.5]
    assert not text.patches
    middles = [(im.get_extent()[0] + im.get_extent()[1]) / 2 for im in above.images]
    assert middles == pytest.approx([0.75, 2.25])
    said = texts(figure)
    assert {"no row", "cat (logit 1.50, no label of it)"} <= set(said)
    assert "\x1b" not in "".join(said)
    bare = stencil_picture.draw_over_time(ITEM)
    assert len(bare.axes) == 3
    alt = stencil_picture.alt_over_time(ITEM)
    assert (
        "rgb 88%, +3 in all, most at 2 s; audio 12%, +1 in all, most at 0.5 s; text has no row"
        in alt
    )


def test_shares_are_bars_that_fill_the_whole_and_classes_without_any_are_left_out():
    figure = stencil_picture.draw_shares(SHARES)
    widths = [patch.get_width() for patch in figure.axes[0].patches]
    assert widths == pytest.approx([0.25, 0.75])
    assert stencil_picture.alt_shares(SHARES).endswith("cat: rgb 25%, audio 75%.")
    nobody = SHARES.slice(2)
    assert not stencil_picture.draw_shares(nobody).axes[0].patches


def test_an_ablation_has_a_bar_with_its_interval_for_each_change():
    whole = Ablated(
        modality="", how="", items=9, metrics={"accuracy": 0.8}, lost={"accuracy": 0.0},
        interval=None, ap=np.array([0.5]),
    )  # fmt: skip
    lost = [("rgb", "zeroed", 0.3), ("rgb", "missing", 0.4), ("all", "shuffled", -0.1)]
    rows = [
        replace(
            whole, modality=m, how=how, metrics={"accuracy": 0.8 - x}, lost={"accuracy": x},
            interval=(x - 0.05, x + 0.1),
        )
        for m, how, x in lost
    ]  # fmt: skip
    one = Ablation(main="accuracy", classes=("a",), positives=[3], items=9, rows=[whole, *rows])
    figure = ablation_picture.draw(one)
    bars = [patch.get_width() for patch in figure.axes[0].patches]
    assert bars == pytest.approx([0.3, 0.4, -0.1])
    ends = [tuple(s[:, 0]) for c in figure.axes[0].collections for s in c.get_segments()]
    assert ends == [pytest.approx((x - 0.05, x + 0.1)) for _, _, x in lost]
    alt = ablation_picture.alt_text(one)
    assert "rgb zeroed +0.300 (+0.250 to +0.400)" in alt
    assert "accuracy of 0.800" in alt
