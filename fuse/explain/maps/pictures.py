"""What is drawn of an item's attention, sensitivity and similarity, and the sentence beside each.

`figure.figure` and `draw` take what these give; its `alt` says the numbers that the picture
shows, in a sentence.
"""

from collections.abc import Sequence

import numpy as np

from mmf.fuse.explain.drawing import plain
from mmf.fuse.explain.maps.attention import Attended, even
from mmf.fuse.explain.maps.figure import Curve, Map, MapPicture
from mmf.fuse.explain.maps.sensitivity import Sensitive
from mmf.fuse.explain.maps.similarity import Similar

_SHOWN = 12  # heads of a layer, the first


def attention_picture(found: Sequence[Attended]) -> MapPicture:
    """Of all layers for one item: profiles by feature and level, the mean map and each head's.

    Of several layers over the same feature the profiles are their mean.
    """
    rows, curves = [], _profiles(found)
    for one in found:
        for level, A in one.maps.items():
            if A.shape[1] != A.shape[2]:
                continue  # pooling has its profile alone
            maps = [Map(title="mean of heads", values=even(A).mean(0), lowest=0.0)]
            sparse = one.sparsity(level)
            for head, (values, figure) in enumerate(zip(A[:_SHOWN], sparse, strict=False), 1):
                title = f"head {head} · {_short(figure)}"
                maps.append(Map(title=title, values=values.astype(np.float64), lowest=0.0))
            more = f", {_SHOWN} of {len(A)} heads" if len(A) > _SHOWN else ""
            rows.append((f"{one.layer} · {level} · sparsity {_short(_mean(sparse))}{more}", maps))
    return MapPicture(
        title=found[0].item.id,
        outcome="what each step attends to; above a head, its sparsity (0 even, 1 one step)",
        alt=attention_alt(found),
        ylabel="profile",
        curves=curves,
        rows=rows,
        borders=_borders(found[0].steps.features),
    )


def attention_alt(found: Sequence[Attended]) -> str:
    """One sentence: the sparsity of each level, and where most of the attention goes."""
    parts = []
    for level in dict.fromkeys(level for one in found for level in one.maps):
        its = [one for one in found if level in one.maps]
        sparse = _mean(np.concatenate([one.sparsity(level) for one in its]))
        parts.append(f"{level} sparsity {_short(sparse)}")
    most = max(_profiles(found), key=lambda curve: curve.values.max() * len(curve.values))
    peak = int(most.values.argmax())
    times = most.times[peak]
    when = f" at {times:.1f} s" if not np.isnan(times) else ""
    layers = "layer" if len(found) == 1 else "layers"
    return (
        f"Attention of {plain(found[0].item.id)} in {len(found)} {layers} over "
        f"{_counted(found)}: {', '.join(parts)}; the step most looked at "
        f"is of {most.name}{when}, with {most.values[peak]:.1%} of the attention."
    )


def sensitivity_picture(found: Sequence[Sensitive]) -> MapPicture:
    """Of all layers for one item: S over seconds, and the map whose mean over near steps is S."""
    rows = []
    for one in found:
        how = f"{one.probes} probes" if one.probes else "exact"
        name = f"{one.layer} · mean S {_short(one.mean)} · {how}"
        ratio = Map(title="G over its means", values=one.ratios, lowest=0.0)
        near = Map(title="near", values=one.near.astype(np.float64), lowest=0.0, highest=1.0)
        rows.append((name, (ratio, near)))
    return MapPicture(
        title=found[0].item.id,
        outcome="how much each step's output moves with near steps: S (0.5 as with far ones)",
        alt=sensitivity_alt(found),
        ylabel="S",
        curves=[Curve(name=one.layer, times=one.steps.times, values=one.local) for one in found],
        level=0.5,
        rows=rows,
    )


def sensitivity_alt(found: Sequence[Sensitive]) -> str:
    """One sentence: mean S of each layer, with its range."""
    parts = []
    for one in found:
        known = one.local[~np.isnan(one.local)]
        said = "undefined, as near holds every step"
        if len(known):
            said = f"{one.mean:.2f} on average, {known.min():.2f} to {known.max():.2f}"
        parts.append(f"{one.layer} {said}, of {len(one.steps)} steps")
    return (
        f"Local sensitivity of {plain(found[0].item.id)}, where 0.5 is near as far and 1 near "
        f"alone: {'; '.join(parts)}."
    )


def similarity_picture(found: Sequence[Similar]) -> MapPicture:
    """Of all features of one item: the cosine of each step with the next, and of all pairs."""
    rows = []
    for one in found:
        name = f"{one.feature} · neighbours {_short(one.neighbours)} · all {_short(one.mean)}"
        if not np.isnan(one.half_life):
            name += f" · half-life {one.half_life:.0f} steps, {one.half_life_seconds:.1f} s"
        lowest = min(0.0, float(one.cosine.min()))
        rows.append((name, (Map(title="", values=one.cosine, lowest=lowest, highest=1.0),)))
    curves = [
        Curve(name=o.feature, times=o.steps.times[1:], values=np.diagonal(o.cosine, 1).copy())
        for o in found
    ]
    return MapPicture(
        title=found[0].item.id,
        outcome="how alike the rows are: the cosine with the row before, and of all pairs",
        alt=similarity_alt(found),
        ylabel="cosine",
        curves=curves,
        rows=rows,
    )


def similarity_alt(found: Sequence[Similar]) -> str:
    """One sentence: for each feature the cosine of neighbours and of all pairs, and half-life."""
    parts = []
    for one in found:
        if len(one.steps) < 2:
            parts.append(f"{one.feature} has one row")
            continue
        far = f", half of the difference gone in {one.half_life:.0f} steps"
        far += f" ({one.half_life_seconds:.1f} s)"
        parts.append(
            f"{one.feature} {one.neighbours:.2f} between neighbours and {one.mean:.2f} overall"
            + ("" if np.isnan(one.half_life) else far)
        )
    return f"Cosine similarity of the rows of {plain(found[0].item.id)}: {'; '.join(parts)}."


def _profiles(found: Sequence[Attended]) -> list[Curve]:
    """By feature and level, the mean over the layers that have both."""
    sums: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    for one in found:
        of = np.array(one.steps.features)
        for level in one.maps:
            profile = one.profile(level)
            for name in dict.fromkeys(one.steps.features):
                part = one.steps.times[of == name], profile[of == name]
                sums.setdefault((name, level), []).append(part)
    return [
        Curve(
            name=f"{name} {level}",
            times=parts[0][0],
            values=np.mean([values for _, values in parts], axis=0),
        )
        for (name, level), parts in sums.items()
    ]


def _borders(features: Sequence[str]) -> dict[str, int] | None:
    """The first step of each feature, where there are several."""
    names = dict.fromkeys(features)
    return {n: list(features).index(n) for n in names} if len(names) > 1 else None


def _counted(found: Sequence[Attended]) -> str:
    """How many steps, by feature."""
    counts = {name: one.steps.features.count(name) for one in found for name in one.steps.features}
    return ", ".join(f"{n} steps of {name}" for name, n in counts.items())


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _short(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"
