"""Rows that come as a policy asks for them: the same scores as from all rows."""

from dataclasses import replace

import numpy as np
import pytest

from mmf.fuse import TrainConfig, train
from mmf.fuse.inference.asking import Asking, needed_first
from mmf.fuse.inference.scoring import exact, score
from mmf.fuse.run import Run
from mmf.store import FeatureSpec, FeatureStore, Track

POLICY = {"clues": ["audio"], "modalities": ["rgb", "audio"], "layers": [8], "hidden": 8}
STAGES = {"single": 1, "tune": 1}  # the policy as it was drawn
OPTIONS = {**POLICY, "segments": 4, "epochs": STAGES}
RANDOM = {**OPTIONS, "decisions": "random", "rate": {"rgb": 0.4, "audio": 0.7}}
ROLES = {"clues": ["audio"], "modalities": ["rgb"]}
LITE_EVAL = {**ROLES, "segments": 4, "coarse": 4, "fine": 8, "skip": 0.4}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> FeatureStore:
    """Videos of 0 to 11 rows of rgb and of audio."""
    store = FeatureStore.create(tmp_path_factory.mktemp("asking") / "feats")
    rng = np.random.default_rng(0)
    for name, size, lacks in (("rgb", 3, 5), ("audio", 2, 7)):
        spec = FeatureSpec(name=name, modality=name, shape=(size,), dtype="float16")
        tracks = []
        for number in range(24):
            rows = 0 if number % lacks == lacks - 1 else 1 + (number * lacks) % 11
            values = rng.normal(size=(rows, size)) + number % 2
            tracks.append(Track(video_id=f"v{number:02}", values=values, times=np.arange(rows)))
        store.add(spec, tracks)
    store.label({f"v{n:02}": ["odd" if n % 2 else "even"] for n in range(24)})
    return store


def trained(store, out, **changes) -> Run:
    changes = {"fusion_options": OPTIONS, **changes}
    config = TrainConfig(store=store.path, out=out, fusion="policy", batch_size=8, lr=0.1)
    return Run.open(train(replace(config, **changes)))


def given(run: Run, store: FeatureStore, asking: Asking, first: tuple[str, ...], items) -> None:
    batch = store.batch(items, first, label_set=None)
    for name in first:
        for i, n in enumerate(batch.lengths[name].tolist()):
            asking.give(name, i, np.arange(n), batch.values[name][i, :n])


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 5},  # which uses rgb in most segments
        {"fusion_options": RANDOM},
        {"fusion_options": RANDOM, "max_steps": 5, "normalise": "l2"},
        {"fusion_options": {**RANDOM, "rate": 0.0}},
        {"fusion_options": {**OPTIONS, "sampled": True}},
        {"fusion_options": {**RANDOM, "consensus": "attention"}},
        {"fusion_options": {**RANDOM, "segments": 1}, "normalise": "l2_joint"},
        {"fusion": "lite_eval", "fusion_options": LITE_EVAL, "epochs": 2},
    ],
    ids=["learned", "random", "thinned", "all off", "sampled", "attention", "joint", "lite_eval"],
)
def test_scores_of_what_was_asked_for_are_those_of_all_rows(store, tmp_path, changes):
    run = trained(store, tmp_path / "run", **changes)
    network, items = exact(run.trained()), store.all_items()
    first = needed_first(run, network, ())
    lengths = store.batch(items, tuple(run.specs), label_set=None).lengths
    asking = Asking(run, network, items, lengths)
    given(run, store, asking, first, items)
    asked = 0
    while any(wanted := asking.wanted()):
        asked += 1
        for i, rows in enumerate(wanted):
            for name, ranges in rows.items():
                assert name not in first
                values = store.batch(items[i : i + 1], (name,), label_set=None).values[name][0]
                numbers = np.concatenate([np.arange(*of) for of in ranges])
                asking.give(name, i, numbers, values[numbers])
    found = asking.score()
    (whole,) = score(run.trained(), store, items, run.specs, run.config, label_set=None)
    assert np.array_equal(found.logits, whole.logits)
    assert np.array_equal(found.decisions.used, whole.decisions.used)
    assert np.array_equal(found.there, whole.there)
    used = whole.decisions.used[..., 0].any() and first == ("audio",)
    # what is seen decides about later segments in LiteEval alone
    assert used <= asked <= (4 if run.config.fusion == "lite_eval" else used)


def test_only_rows_of_segments_that_are_used_are_wanted(store, tmp_path):
    run = trained(store, tmp_path / "run", fusion_options=RANDOM)
    network, items = exact(run.trained()), store.all_items()
    lengths = store.batch(items, tuple(run.specs), label_set=None).lengths
    asking = Asking(run, network, items, lengths)
    given(run, store, asking, ("audio",), items)
    decided, wanted = asking.score().decisions, asking.wanted()
    for i, n in enumerate(lengths["rgb"].tolist()):
        segments = min(4, max(n, lengths["audio"][i]))
        rows = {r for of in wanted[i].get("rgb", ()) for r in range(*of)}
        assert rows == {r for r in range(n) if decided.used[i, r * segments // n, 0]}


def test_a_run_without_a_policy_and_features_that_come_whole_are_needed_first(store, tmp_path):
    policy = trained(store, tmp_path / "policy")
    assert needed_first(policy, policy.trained(), ()) == ("audio",)
    assert needed_first(policy, policy.trained(), ("rgb",)) == ("audio", "rgb")
    concat = trained(store, tmp_path / "concat", fusion="concat", fusion_options={}, epochs=1)
    assert needed_first(concat, concat.trained(), ()) == ("audio", "rgb")
    lengths = store.batch(store.all_items(), ("rgb", "audio"), label_set=None).lengths
    asking = Asking(concat, exact(concat.trained()), store.all_items(), lengths)
    assert not any(asking.wanted())
