"""What a recipe gives: the rows of a published table as configs, and what the paper leaves open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mmf import MmfError, unknown
from mmf.fuse.config import TrainConfig
from mmf.fuse.recipes import RECIPES

KEPT = (  # of the config that a recipe is given: where and on what it runs
    *("store", "out", "label_set", "split_set", "text", "text_options"),
    *("parts", "seed", "device", "precision", "wandb"),
)


@dataclass(frozen=True, kw_only=True)
class RecipeRow:
    """One row of a paper's table."""

    config: TrainConfig
    published: Mapping[str, float | str] = field(default_factory=dict)  # metric → figure, or words


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A paper's table."""

    source: str
    rows: Mapping[str, RecipeRow]
    main: str  # the row of what the paper proposes
    notes: tuple[str, ...]  # where it is silent, and what stands here instead


def recipe(name: str, base: TrainConfig, steps: int | None = None) -> Recipe:
    """The recipe of that name for a store and its features.

    `base.features` names the features in the recipe's order; () takes its own names. With `steps`,
    a training by steps is scaled to so many, with as many evaluations as the paper's.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    found: Recipe = RECIPES.load(name)(base)
    if steps is None:
        return found
    rows = {n: replace(r, config=_scaled(r.config, steps)) for n, r in found.rows.items()}
    return replace(found, rows=rows)


def recipe_row(name: str, base: TrainConfig, steps: int | None = None) -> RecipeRow:
    """The row ``NAME:ROW``, or what the paper proposes for ``NAME``."""
    which, _, row = name.partition(":")
    found = recipe(which, base, steps)
    if row and row not in found.rows:
        raise unknown(f"row of recipe {which!r}", row, found.rows)
    return found.rows[row or found.main]


def check_runs(config: TrainConfig) -> None:
    """Raise MmfError where a row takes the runs of other rows, which only a comparison has."""
    named = [name for name in config.fusion_options.get("runs", ()) if name.startswith("{")]
    if named:
        raise MmfError(
            f"the row takes trained runs of the rows {', '.join(n[1:-1] for n in named)}: `mmf "
            "compare --recipe` trains them all, or name yours, a run of --fusion single for each "
            'feature, with --fusion-option \'runs=["runs/single-1", "runs/single-2"]\'.'
        )


def kept(base: TrainConfig) -> TrainConfig:
    """A config of defaults, but for what a recipe takes over."""
    return TrainConfig(**{name: getattr(base, name) for name in KEPT})


def named_features(base: TrainConfig, roles: Sequence[str]) -> tuple[str, ...]:
    """The store's names of a recipe's features, in its order."""
    names = base.features or tuple(roles)
    if len(names) != len(roles):
        raise MmfError(
            f"the recipe takes {len(roles)} features, {', '.join(roles)} in this order; got "
            f"{', '.join(names)}."
        )
    return names


def _scaled(config: TrainConfig, steps: int) -> TrainConfig:
    every = config.eval_every
    if every is not None and config.steps is not None:
        every = max(1, every * steps // config.steps)
    return replace(config, steps=steps, eval_every=every)
