"""A picture of an ablation: what the main metric loses by each change, with its 95 % interval."""

from typing import Any

import numpy as np

from mmf.fuse.explain.ablation import Ablation
from mmf.fuse.explain.drawing import COLOURS, HATCHES, matplotlib, plain

_HOWS = ("zeroed", "missing", "shuffled")


def draw(ablation: Ablation) -> Any:
    """A bar for each modality and change, as a matplotlib Figure."""
    changed = ablation.rows[1:]
    names = list(dict.fromkeys(one.modality for one in changed))
    size = (10.0, 1.2 + 0.28 * len(_HOWS) * len(names))
    figure = matplotlib("figure").Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    for h, how in enumerate(_HOWS):
        its = [one for one in changed if one.how == how]
        places = [names.index(one.modality) + (h - 1) * 0.27 for one in its]
        lost = np.array([one.lost[ablation.main] for one in its])
        ends = np.array([one.interval or (x, x) for one, x in zip(its, lost, strict=True)])
        ends = ends.reshape(-1, 2)
        axes.barh(
            places, lost, 0.25, color=COLOURS[h], hatch=HATCHES[h], edgecolor="white", label=how,
            xerr=np.abs(ends.T - lost), ecolor="0.2", capsize=2,
        )  # fmt: skip
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_yticks(range(len(names)), [plain(n) for n in names], parse_math=False, fontsize=9)
    axes.invert_yaxis()
    whole = ablation.rows[0].metrics[ablation.main]
    axes.set_xlabel(f"{ablation.main} lost, of {whole:.4f} ({ablation.items} items)", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(_HOWS), frameon=False, fontsize=9)
    return figure


def alt_text(ablation: Ablation) -> str:
    """The same in a sentence."""
    parts = []
    for one in ablation.rows[1:]:
        low, high = one.interval or (np.nan, np.nan)
        lost = one.lost[ablation.main]
        parts.append(f"{plain(one.modality)} {one.how} {lost:+.3f} ({low:+.3f} to {high:+.3f})")
    whole = ablation.rows[0].metrics[ablation.main]
    return (
        f"What {ablation.main} of {whole:.3f} loses, with 95 % intervals, on {ablation.items} "
        f"items: {'; '.join(parts)}."
    )
