"""Rows, views and videos: each scored as said, against the network's own scores one by one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmf import MmfError, UnknownName
from mmf.fuse import TrainConfig, evaluate, load, train
from mmf.fuse.losses import of_mean, probabilities
from mmf.fuse.metrics import gap, hit_at_one
from mmf.store import FeatureSpec, FeatureStore, Track

CLASSES = ("down", "up")


def trained(store: FeatureStore, out, **options):
    config = TrainConfig(store=store.path, out=out, epochs=2, batch_size=16, device="cpu")
    return train(replace(config, **options))


@pytest.fixture
def views_store(tmp_path) -> FeatureStore:
    """30 videos with 2 × 3 views of 3 numbers, some without, and a feature b of 1 to 4 rows."""
    store = FeatureStore.create(tmp_path / "views")
    generator = np.random.default_rng(0)
    recipe = {"signal": {"kind": "clips", "views": 2, "crops": 3}}
    views = FeatureSpec(name="views", modality="clip", shape=(3,), dtype="float32", recipe=recipe)
    names = [f"v{i:02}" for i in range(30)]
    sign = {name: 2.0 * (i % 2) - 1 for i, name in enumerate(names)}
    split = {n: ("train", "val", "test")[i // 2 % 3] for i, n in enumerate(names)}

    def track(name: str, rows: int) -> Track:
        values = sign[name] * 0.5 + generator.normal(size=(rows, 3))
        return Track(video_id=name, values=values, times=np.sort(np.arange(rows) // 3))

    store.add(views, [track(name, 6) for name in names if name != "v04"])
    other = replace(views, name="b", modality="b", recipe={})
    store.add(other, [track(name, 1 + i % 4) for i, name in enumerate(names)])
    store.label({n: [CLASSES[int(s > 0)]] for n, s in sign.items()}, split=split)
    return store


def one_hot(store: FeatureStore, item) -> np.ndarray:
    return np.eye(len(store.classes()))[item.labels[0]]


def said(network, loss: str, **rows: np.ndarray) -> np.ndarray:
    """The scores (C,) of one item with these rows."""
    given = {name: torch.from_numpy(np.asarray(x, np.float32))[None] for name, x in rows.items()}
    with torch.no_grad():
        return probabilities(network(given), loss)[0].numpy()


def test_an_unknown_level_names_those_that_are(xor_store, tmp_path):
    run = trained(xor_store, tmp_path / "r", epochs=1)
    with pytest.raises(UnknownName, match="unknown level 'rows'. Did you mean 'row'"):
        evaluate(run, level="rows")
    with pytest.raises(MmfError, match="views are of the level 'view'; this is 'item'"):
        evaluate(run, views=[1])
    with pytest.raises(MmfError, match="none of the features a, b is of views. Extract one with"):
        evaluate(run, level="view")


@pytest.mark.parametrize("views", [(6,), (0, 0), (-1,)])
def test_views_that_are_not_there_are_refused(views_store, tmp_path, views):
    run = trained(views_store, tmp_path / "r", epochs=1)
    with pytest.raises(MmfError, match="expected numbers from 0 to 5, each once"):
        evaluate(run, level="view", views=views)


def test_intervals_have_no_views(views_store, tmp_path):
    run = trained(views_store, tmp_path / "r", epochs=1)
    views_store.label({("v05", 0.0, 1.0): ["up"]}, name="parts", split={"v05": "test"})
    with pytest.raises(MmfError, match=r"'v05@0-1' has 3 rows of 'views'; expected its 6 views"):
        evaluate(run, label_set="parts", level="view")


@pytest.mark.parametrize("level", ["row", "view"])
def test_a_head_that_reads_items_in_their_order_has_no_rows_alone(views_store, tmp_path, level):
    run = trained(views_store, tmp_path / "r", epochs=1, head="sequence")
    with pytest.raises(MmfError, match=f"none of their {level}s can stand alone"):
        evaluate(run, level=level)


def test_rows_of_features_at_different_rates_cannot_be_paired(tmp_path):
    store = FeatureStore.create(tmp_path / "rates")
    for name, rate in (("a", 1.0), ("b", None)):
        spec = FeatureSpec(name=name, modality=name, shape=(2,), dtype="float32", rate=rate)
        rows = [Track(video_id=v, values=np.ones((2, 2)), times=[0, 1]) for v in "uvwxyz"]
        store.add(spec, rows)
    labels = {v: [CLASSES[i % 2]] for i, v in enumerate("uvwxyz")}
    split = {v: ("train", "val", "test")[i // 2] for i, v in enumerate("uvwxyz")}
    store.label(labels, split=split)
    run = trained(store, tmp_path / "r", epochs=1)
    with pytest.raises(MmfError, match=r"do not come at one rate \(a 1.0, b irregular"):
        evaluate(run, level="row")
    assert evaluate(run, level="row", without=["b"])["items"] == 4


def test_each_row_is_an_item_of_one_row(xor_store, tmp_path):
    run = trained(xor_store, tmp_path / "r", fusion="mfb", fusion_options={"outputs": 8})
    xor_store.label({"gone": ["same"]}, split={"gone": "test"})
    network, scores, labels = load(run), [], []
    for item in xor_store.items("test", features=("a", "b")):
        tracks = {name: xor_store.read(name, item.video_id).values for name in "ab"}
        for k in range(max(map(len, tracks.values()))):
            rows = {name: x[k : k + 1] for name, x in tracks.items() if k < len(x)}
            scores.append(said(network, "ce", **rows))
            labels.append(one_hot(xor_store, item))
    found = evaluate(run, level="row")
    assert found["items"] == len(scores) > 12
    assert found["items_without_features"] == 1
    assert found["gap@20"] == pytest.approx(gap(np.array(scores), np.array(labels)), abs=1e-6)
    assert found["hit@1"] == pytest.approx(hit_at_one(np.array(scores), np.array(labels)))
    log_p = np.log((np.array(scores) * labels).sum(1))
    assert found["loss"] == pytest.approx(-log_p.mean(), rel=1e-5)


@pytest.mark.parametrize("task", ["single", "multi"])
@pytest.mark.parametrize("chosen", [(), (5, 0, 3), (2,)])
def test_scores_of_views_are_averaged_and_other_features_stand_whole(
    views_store, tmp_path, chosen, task
):
    run = trained(views_store, tmp_path / "r", task=task)
    loss = {"single": "ce", "multi": "bce"}[task]
    network, scores, labels = load(run), [], []
    for item in views_store.items("test"):
        b = views_store.read("b", item.video_id).values
        if item.video_id == "v04":  # has no views: the same b beside each
            each = [said(network, loss, b=b)]
        else:
            views = views_store.read("views", item.video_id).values
            numbers = chosen or range(6)
            each = [said(network, loss, views=views[v : v + 1], b=b) for v in numbers]
        scores.append(np.mean(each, 0))
        labels.append(one_hot(views_store, item))
    found = evaluate(run, level="view", views=chosen)
    scores, labels = np.array(scores), np.array(labels)
    assert found["items"] == 10
    assert found["map"] != evaluate(run)["map"] or found["loss"] != evaluate(run)["loss"]
    assert found["gap@20"] == pytest.approx(gap(scores, labels), abs=1e-6)
    log_p = np.log(scores) * labels
    if task == "multi":
        log_p = log_p + np.log(1 - scores) * (1 - labels)
    assert found["loss"] == pytest.approx(-log_p.sum(1).mean(), rel=1e-5)


@pytest.fixture
def parts_store(xor_store) -> FeatureStore:
    """The videos of the store in intervals of one second, which differ in their labels."""
    labels, unrated = {}, {}
    for number, item in enumerate(xor_store.items()):
        steps = len(xor_store.read("a", item.video_id))
        for second in range(steps):
            key = (item.video_id, float(second), second + 1.0)
            labels[key] = [["red"], ["red", "blue"][: 1 + number % 2], []][(number + second) % 3]
            unrated[key] = ["blue"] if second == 0 and number % 4 else []
    labels["v03", 900.0, 901.0] = ["green"]  # has no rows
    split = {i.video_id: i.split for i in xor_store.items()}
    split["v03"] = split["v04"] = "test"
    xor_store.label(labels, unrated=unrated, split=split, name="parts")
    return xor_store


@pytest.mark.parametrize("head", ["logistic", "sequence"])
def test_items_of_a_video_are_averaged_against_the_union_of_their_labels(
    parts_store, tmp_path, head
):
    run = trained(parts_store, tmp_path / "r", label_set="parts", features=("a",), head=head)
    network, classes = load(run), parts_store.classes("parts")
    scores, labels, rated, videos = [], [], [], {}
    for item in parts_store.items("test", label_set="parts"):
        videos.setdefault(item.video_id, []).append(item)
    for video, items in videos.items():
        track = parts_store.read("a", video)
        items = [item for item in items if item.start < 900]
        each = [track.values[int(item.start)] for item in items]
        given = torch.from_numpy(np.array(each, np.float32))[:, None]
        with torch.no_grad():
            numbers = torch.zeros(len(each), dtype=torch.int64)
            scores.append(network({"a": given}, None, numbers).sigmoid().numpy().mean(0))
        positive = {c for item in items for c in item.labels}
        unknown = {c for item in items for c in item.unrated} - positive
        labels.append([c in positive for c in range(len(classes))])
        rated.append([c not in unknown for c in range(len(classes))])
    found = evaluate(run, level="video")
    assert not np.array(rated).all()
    wanted = gap(np.array(scores), np.array(labels), rated=np.array(rated))
    assert found["gap@20"] == pytest.approx(wanted, abs=1e-6)
    assert found["items"] == len(videos) == len(scores)


def test_accuracy_is_left_out_where_a_video_has_items_of_several_classes(xor_store, tmp_path):
    run = trained(xor_store, tmp_path / "r", features=("a",))
    assert evaluate(run, level="video") == pytest.approx(evaluate(run))
    test = [i.video_id for i in xor_store.items("test")]
    labels = {(v, float(s), s + 1.0): [c] for v in test for s, c in enumerate(["same", "other"])}
    xor_store.label(labels, split=dict.fromkeys(test, "test"), name="both")
    items = evaluate(run, label_set="both")
    videos = evaluate(run, label_set="both", level="video")
    assert "accuracy" in items
    assert set(items) - set(videos) == {"accuracy", "mean_class_accuracy"}


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_logits_of_a_mean_say_the_mean_even_of_certain_scores(loss):
    logits = torch.tensor([[[900.0, -900.0, 3.0]], [[0.5, -900.0, 2.0]]], dtype=torch.float64)
    found = of_mean(logits, loss)
    wanted = torch.stack([probabilities(part, loss) for part in logits]).mean(0)
    assert torch.allclose(probabilities(found, loss), wanted, atol=1e-15)
    assert torch.isfinite(found).all()
