"""What a run learns from: every way in which there is nothing to learn is a sentence."""

import logging

import numpy as np
import pyarrow as pa
import pytest

from mmf import MmfError, UnknownName
from mmf.fuse import TrainConfig
from mmf.fuse.splits import by_split, some_videos, split_name
from mmf.fuse.training.plan import Plan, make_plan
from mmf.store import FeatureSpec, FeatureStore, Track

VIDEOS = [f"v{i:02}" for i in range(40)]


def plan(store: FeatureStore, **options):
    return make_plan(store, TrainConfig(store=store.path, **options))


def labels(videos=VIDEOS) -> dict[str, list[str]]:
    return {v: [("cat", "dog")[i % 2]] for i, v in enumerate(videos)}


def assigned(made: Plan) -> dict[str, str]:
    return dict(zip(*(column.to_pylist() for column in made.assigned.columns), strict=True))


def test_a_store_without_features_says_what_to_run(tmp_path):
    with pytest.raises(MmfError, match="has no features. Run `mmf extract"):
        plan(FeatureStore.create(tmp_path / "empty"))


def test_a_store_without_labels_says_how_to_give_them(make_store):
    with pytest.raises(MmfError, match="has no labels. Give them with `mmf label"):
        plan(make_store(VIDEOS))


def test_an_unknown_feature_suggests_the_nearest(make_store):
    store = make_store(VIDEOS)
    store.label(labels())
    with pytest.raises(UnknownName, match="unknown feature 'c'"):
        plan(store, features=("a", "c"))


def test_an_unknown_label_set_is_refused(make_store):
    store = make_store(VIDEOS)
    store.label(labels())
    with pytest.raises(UnknownName, match="label set 'defualt'. Did you mean 'default'"):
        plan(store, label_set="defualt")


def test_token_ids_are_refused_with_the_other_features(make_store):
    store = make_store(VIDEOS)
    spec = FeatureSpec(name="tokens", modality="text", shape=(2,), dtype="int32")
    store.add(spec, [Track(video_id="v00", values=np.array([[1, 2]]), times=[0])])
    store.label(labels())
    with pytest.raises(MmfError, match="'tokens' holds int32 token ids.*--features: a, b"):
        plan(store)


def test_labels_of_other_videos_are_shown_beside_the_stores(make_store):
    store = make_store(VIDEOS)
    store.label({"clips/v00.mp4": ["cat"]})
    with pytest.raises(MmfError, match="'clips/v00.mp4'; the store has rows of 'v00', 'v01'"):
        plan(store)


def test_labels_without_videos_and_videos_without_labels_are_said(make_store, caplog):
    store = make_store(VIDEOS)
    store.label({**labels(VIDEOS[:30]), "gone1": ["cat"], "gone2": ["dog"]})
    with caplog.at_level(logging.WARNING):
        made = plan(store)
    assert "2 of 32 labelled items have no rows of a, b and are left out: 'gone1'" in caplog.text
    assert "10 videos have rows and no labels, and are not used: 'v30'" in caplog.text
    used = {i.video_id for part in made.items.values() for i in part}
    assert used < set(VIDEOS[:30])


def test_a_class_that_training_never_sees_is_said(make_store, caplog):
    store = make_store(VIDEOS)
    split = {v: "train" if i < 30 else "val" for i, v in enumerate(VIDEOS)}
    store.label({**labels(), "v39": ["owl"]}, split=split)
    plan(store)
    assert "1 of 3 classes have no training item: 'owl'" in caplog.text


def test_a_feature_that_some_items_lack_is_said(make_store, caplog):
    store = make_store(VIDEOS)
    spec = FeatureSpec(name="c", modality="c", shape=(1,))
    store.add(spec, [Track(video_id="v00", values=np.ones((1, 1)), times=[0])])
    store.label(labels())
    plan(store)
    assert "1 of 40 items have c; it is masked" in caplog.text


@pytest.mark.parametrize("empty", ["train", "val"])
def test_a_split_without_a_positive_is_refused(make_store, empty):
    store = make_store(VIDEOS)
    split = {v: "train" if i < 30 else "val" for i, v in enumerate(VIDEOS)}
    with_labels = {v: [] if split[v] == empty else ["cat"] for v in VIDEOS}
    store.label(with_labels, split=split)
    with pytest.raises(MmfError, match=f"split '{empty}' has no positive label"):
        plan(store)


def test_a_split_without_videos_is_refused(make_store):
    store = make_store(VIDEOS)
    store.label({**labels(), "gone": ["cat"]}, split=dict.fromkeys(VIDEOS[:1], "train"))
    with pytest.raises(MmfError, match="split 'val' is empty"):
        plan(store)
    store.label(labels(), split=dict.fromkeys(VIDEOS, "test"))
    with pytest.raises(MmfError, match="no item is in split 'train'; the splits are test"):
        plan(store)


def test_one_class_for_all_is_nothing_to_tell_apart(make_store):
    store = make_store(VIDEOS)
    store.label({v: ["cat"] for v in VIDEOS})
    with pytest.raises(MmfError, match="one class 'cat': there is nothing to tell apart"):
        plan(store)


def test_task_single_refuses_items_of_two_labels(make_store):
    store = make_store(VIDEOS)
    store.label({**labels(), "v00": ["cat", "dog"]})
    assert plan(store).task == "multi"
    with pytest.raises(MmfError, match="1 of 40 have none, several or unrated ones: 'v00'"):
        plan(store, task="single")


@pytest.mark.parametrize(
    ("changed", "options", "task", "loss"),
    [
        ({}, {}, "single", "ce"),
        ({"v00": []}, {}, "multi", "bce"),
        ({}, {"task": "multi"}, "multi", "bce"),
        ({}, {"loss": "bce"}, "single", "bce"),
    ],
)
def test_the_task_and_loss_follow_from_the_labels(make_store, changed, options, task, loss):
    store = make_store(VIDEOS)
    store.label({**labels(), **changed})
    made = plan(store, **options)
    assert (made.task, made.loss) == (task, loss)


def test_an_unrated_label_makes_the_task_multi(make_store):
    store = make_store(VIDEOS)
    store.label(labels(), unrated={"v00": ["dog"]})
    assert plan(store).task == "multi"


def test_features_are_all_by_name_or_those_asked_for_in_their_order(make_store):
    store = make_store(VIDEOS)
    store.label(labels())
    assert tuple(plan(store).specs) == ("a", "b")
    assert tuple(plan(store, features=("b", "a")).specs) == ("b", "a")


def test_without_a_split_every_class_is_in_every_split_and_the_order_of_labels_is_no_matter(
    make_store, caplog
):
    store, other = make_store(VIDEOS), make_store(VIDEOS[::-1], "other")
    store.label(labels())
    other.label(dict(reversed(labels().items())))
    made = plan(store)
    assert "the store has no split" in caplog.text
    assert made.assigned == plan(other).assigned
    for split, wanted in (("train", 14), ("val", 3), ("test", 3)):
        of_split = [v for v, s in assigned(made).items() if s == split]
        assert sum(labels()[v] == ["cat"] for v in of_split) == wanted
        assert sum(labels()[v] == ["dog"] for v in of_split) == wanted


@pytest.mark.parametrize("number", [2, 3, 4, 6])
def test_a_very_small_folder_is_split_as_far_as_it_goes(make_store, number):
    store = make_store(VIDEOS[:number])
    store.label(labels(VIDEOS[:number]))
    made = plan(store)
    assert len(made.assigned) == number
    assert made.items["train"]
    assert made.items["val"]
    assert ("test" in assigned(made).values()) == (number > 2)


def test_validation_is_taken_from_train_where_there_is_none(make_store, caplog):
    store = make_store(VIDEOS)
    split = {v: "train" if i < 30 else "test" for i, v in enumerate(VIDEOS)}
    store.label(labels(), split=split)
    made = plan(store)
    assert "no val split" in caplog.text
    assert (len(made.items["train"]), len(made.items["val"])) == (24, 6)
    assert set(assigned(made)) == set(VIDEOS[:30])  # the test split is not touched


def test_the_intervals_of_a_video_stay_in_one_split(make_store):
    store = make_store(VIDEOS)
    store.label({(v, float(s), s + 1.0): ["cat", "dog"][s : s + 1] for v in VIDEOS for s in (0, 1)})
    made = plan(store)
    train, val = ({i.video_id for i in made.items[s]} for s in ("train", "val"))
    assert train
    assert val
    assert not train & val


def test_youtube8ms_validate_is_the_val_split(make_store):
    store = make_store(VIDEOS)
    split = {v: "train" if i < 30 else "validate" for i, v in enumerate(VIDEOS)}
    store.label(labels(), split=split)
    made = plan(store)
    assert (len(made.items["val"]), len(made.assigned)) == (10, 0)


def test_the_digest_changes_with_items_labels_and_splits_and_with_nothing_else(make_store):
    split = {v: "train" if i < 30 else "val" for i, v in enumerate(VIDEOS)}
    changes = [
        ({}, {}, {}),
        ({"v00": ["dog"]}, {}, {}),
        ({"v00": []}, {}, {}),
        ({"v00": ["cat", "dog"]}, {}, {}),
        ({"v00": []}, {"v00": ["dog"]}, {}),
        ({}, {}, {"v00": "val"}),
        ({}, {}, {"v00": "test"}),
    ]
    digests = []
    for number, (other, unrated, moved) in enumerate(changes):
        store = make_store(VIDEOS, f"s{number}")
        store.label({**labels(), **other}, unrated=unrated, split={**split, **moved})
        digests.append(plan(store).digest())
    assert len({*digests}) == len(changes)
    again = make_store(VIDEOS[::-1], "again")
    again.label(dict(reversed(labels().items())), split={**split, **dict.fromkeys(["v30"], "dev")})
    assert plan(again).digest() == digests[0]


def test_items_of_a_split_are_those_that_a_loop_would_find(make_store):
    store = make_store(VIDEOS)
    split = {v: ["train", "validate", "dev", "Test", "mine"][i % 5] for i, v in enumerate(VIDEOS)}
    del split["v07"]
    store.label({v: ["cat"] for v in VIDEOS}, split=split)
    ours = {"v00": "test", "v07": "val"}
    wanted: dict[str, list[str]] = {}
    for video in VIDEOS:
        name = ours.get(video, split.get(video))
        wanted.setdefault(split_name(name), []).append(video)
    table = pa.table([[*ours], [*ours.values()]], names=["video_id", "split"])
    found = by_split(store.items(), table)
    assert {s: [i.video_id for i in part] for s, part in found.items()} == wanted
    assert all(i.split == s for s, part in found.items() for i in part)


def test_some_videos_keep_all_their_items_and_are_the_same_each_time(make_store):
    store = make_store(VIDEOS)
    store.label({(v, s, s + 1.0): ["cat"] for v in VIDEOS for s in (0.0, 1.0)})
    items = store.items()
    found = some_videos(items, 7, seed=1)
    assert len(found) == 14
    assert len({i.video_id for i in found}) == 7
    assert found == some_videos(items, 7, seed=1)
    assert found != some_videos(items, 7, seed=2)
    assert some_videos(items, 40, seed=1) == items


def test_more_training_videos_than_there_are_is_refused(xor_store):
    with pytest.raises(MmfError, match="train_videos = 37: split 'train' has 36 videos"):
        plan(xor_store, train_videos=37)
    with pytest.raises(MmfError, match="train_videos = 0: expected at least 1"):
        plan(xor_store, train_videos=0)


def test_fewer_training_videos_lie_within_more_and_leave_validation_alone(xor_store):
    whole = plan(xor_store)
    drawn = {n: plan(xor_store, train_videos=n, seed=3) for n in (5, 20, 36)}
    videos = {n: set(p.items["train"].video_ids.to_pylist()) for n, p in drawn.items()}
    assert {n: len(v) for n, v in videos.items()} == {5: 5, 20: 20, 36: 36}
    assert videos[5] < videos[20] < videos[36]
    assert all(p.items["val"] == whole.items["val"] for p in drawn.values())
    assert drawn[36].digest() == whole.digest()
    assert drawn[20].digest() != plan(xor_store, train_videos=20, seed=4).digest()
