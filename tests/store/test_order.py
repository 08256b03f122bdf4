"""The order of an epoch."""

import numpy as np
import pytest

from mmf import MmfError
from mmf.store import FeatureSpec, FeatureStore, Track
from mmf.store.order import balanced_order, epoch_order, order

SLOTS = np.repeat(np.arange(40), 25)
SIZES = np.full(1000, 10)


def windows(found, slots=SLOTS):
    return [slots[part] for part in np.split(found.items, found.ends[:-1])]


def test_a_rank_outside_the_world_is_refused():
    with pytest.raises(MmfError, match="rank 2 of 2"):
        order(SLOTS, SIZES).of_rank(2, 2)


def test_an_unknown_shuffle_says_which_there_are():
    with pytest.raises(MmfError, match="unknown shuffle 'windw'. Did you mean 'window'"):
        order(SLOTS, SIZES, shuffle="windw")


@pytest.mark.parametrize("shuffle", [True, "window", "full", False])
@pytest.mark.parametrize("n", [0, 1, 7, 1000])
@pytest.mark.parametrize("world", [1, 3, 16])
def test_every_item_comes_once_in_an_epoch_over_all_ranks(shuffle, n, world):
    whole = order(SLOTS[:n], SIZES[:n], shuffle=shuffle, window_bytes=1000)
    parts = [whole.of_rank(r, world) for r in range(world)]
    assert sorted(np.concatenate([p.items for p in parts])) == list(range(n))
    assert [len(p.items) for p in parts] == [n // world + (r < n % world) for r in range(world)]
    for part in parts:  # each rank walks through the same windows
        assert part.ends[-1] == len(part.items)
        assert len(part.ends) == len(whole.ends)


def test_a_window_holds_whole_slots_up_to_its_bytes_and_not_the_same_in_each_epoch():
    found = order(SLOTS, SIZES, window_bytes=1000)
    sets = [frozenset(w.tolist()) for w in windows(found)]
    assert [len(s) for s in sets] == [4] * 10
    assert len(frozenset().union(*sets)) == 40
    other = order(SLOTS, SIZES, window_bytes=1000, epoch=1)
    assert {*sets} != {frozenset(w.tolist()) for w in windows(other)}


def test_items_of_a_window_are_mixed():
    for slots in windows(order(SLOTS, SIZES, window_bytes=1000)):
        changes = (slots[1:] != slots[:-1]).mean()
        assert changes > 0.5  # 3 in 4 if independent; 0.03 if slot by slot


def test_a_set_that_fits_one_window_is_in_the_order_of_a_full_shuffle():
    found = order(SLOTS, SIZES, shuffle="window", window_bytes=10_000)
    assert found.items.tolist() == epoch_order(1000, seed=0, epoch=0).tolist()
    assert found.items.tolist() == order(SLOTS, SIZES, shuffle="full").items.tolist()


@pytest.mark.parametrize("shuffle", ["window", "full"])
def test_seed_and_epoch_say_the_order_and_nothing_else_does(shuffle):
    def of(**options):
        return order(SLOTS, SIZES, shuffle=shuffle, window_bytes=1000, **options).items.tolist()

    np.random.seed(1)  # must not matter
    first = of(seed=1, epoch=2)
    np.random.seed(2)
    assert first == of(seed=1, epoch=2)
    assert first != of(seed=2, epoch=1)


def test_the_order_stays_what_it_is_in_this_version():
    """A run that is resumed under a later version must go on in the same order."""
    found = order(np.arange(12) // 3, np.ones(12, dtype=np.int64), window_bytes=6, seed=3, epoch=5)
    assert found.items.tolist() == [10, 7, 8, 6, 9, 11, 5, 1, 0, 2, 4, 3]
    assert found.ends.tolist() == [6, 12]


def test_slots_larger_than_a_window_and_items_without_a_slot_come_too():
    slots, sizes = np.array([-1, 0, 0, 1, -1]), np.array([0, 900, 900, 5, 0])
    found = order(slots, sizes, window_bytes=100)
    assert sorted(found.items) == [0, 1, 2, 3, 4]
    assert found.ends[-1] == 5


@pytest.fixture
def store(tmp_path):
    spec = FeatureSpec(name="f", modality="text", shape=(4,), dtype="uint8")
    store = FeatureStore.create(tmp_path / "s")
    for k in range(6):
        names = [f"v{k}{i}" for i in range(5)]
        store.add(
            spec, [Track(video_id=v, values=np.ones((2, 4), "u1"), times=[0, 1]) for v in names]
        )
        store.label({v: ["x"] for v in names}, split=dict.fromkeys(names, "train"))
    return store


@pytest.mark.parametrize("shuffle", ["window", "full", False])
def test_an_epoch_begun_in_the_middle_goes_on_as_the_whole_one_does(store, shuffle):
    def ids(**options):
        found = store.batches("f", "train", 4, shuffle=shuffle, window_bytes=80, **options)
        return [[i.video_id for i in batch.items] for batch in found]

    for rank in range(2):
        whole = ids(rank=rank, world_size=2)
        assert ids(rank=rank, world_size=2, start_batch=2) == whole[2:]
    assert ids(start_batch=99) == []


def test_windows_of_a_store_are_its_slots(store):
    found = store.batches("f", "train", 10, shuffle="window", window_bytes=80)
    for batch in found:  # two slots of five videos of 8 bytes each
        assert len({i.video_id[:2] for i in batch.items}) == 2


def test_in_a_balanced_epoch_every_class_comes_equally_often_and_its_items_in_turn():
    items, classes = np.arange(100), np.repeat([0, 1, 2, 7], [80, 10, 9, 1])
    found = balanced_order(items, classes, 100, seed=0, epoch=0)
    assert np.bincount(classes[found.items]).tolist() == [25, 25, 25, 0, 0, 0, 0, 25]
    counts = np.bincount(found.items, minlength=100)
    assert counts[:80].max() == 1
    assert {*counts[80:90]} == {2, 3}
    assert found.ends.tolist() == [100]


def test_an_item_of_several_classes_stands_for_each():
    items, classes = np.array([0, 0, 1, 2, 3]), np.array([0, 1, 1, 1, 1])
    found = balanced_order(items, classes, 40, seed=0, epoch=0)
    counts = np.bincount(found.items, minlength=4)
    assert counts.tolist() == [25, 5, 5, 5]


def test_a_balanced_order_depends_on_seed_and_epoch_alone():
    def of(**options):
        pairs = np.arange(60), np.arange(60) % 7
        return balanced_order(*pairs, 60, **options).items.tolist()

    assert of(seed=1, epoch=2) == of(seed=1, epoch=2)
    assert len({tuple(of(seed=s, epoch=e)) for s in (1, 2) for e in (1, 2)}) == 4
    assert balanced_order(np.array([], int), np.array([], int), 0, seed=0, epoch=0).items.size == 0


def test_a_balanced_loader_divides_its_epoch_among_ranks(store):
    store.label({"v00": ["rare"], "v01": []})

    def ids(**options):
        loader = store.loader("f", "train", batch_size=4, balance=True, **options)
        return [i.video_id for batch in loader.epoch(1) for i in batch.items]

    whole = ids()
    assert len(whole) == 30
    assert (whole.count("v00"), whole.count("v01")) == (10, 10)  # of x, rare and none
    assert ids(rank=0, world_size=2) == whole[::2]
    assert ids(rank=1, world_size=2) == whole[1::2]


@pytest.fixture
def intervals(store):
    """The same videos with 1 to 5 labelled intervals each, later ones labelled first."""
    videos = store.state("f")
    for last in (True, False):
        keys = [(v, t, t + 1) for n, v in enumerate(videos) for t in range(1 + n % 5)]
        keys = [key for key in reversed(keys) if (key[1] > 2) is last]
        split = dict.fromkeys(videos, "train")
        store.label({key: ["x"] for key in keys}, name="parts", split=split)
    return store


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_batch_by_video_has_all_items_of_its_videos_by_their_start(intervals, shuffle):
    loader = intervals.loader(
        "f", "train", label_set="parts", batch_size=4, seed=3, by_video=True, shuffle=shuffle
    )
    found = [list(batch.items) for batch in loader.epoch(0)]
    for batch in found:
        videos = [item.video_id for item in batch]
        places = [(videos.index(item.video_id), item.start) for item in batch]
        assert places == sorted(places)
    assert [len({i.video_id for i in batch}) for batch in found] == [4] * 7 + [2]
    every = [item for batch in found for item in batch]
    wanted = intervals.items("train", label_set="parts")
    assert sorted(i.id for i in every) == sorted(i.id for i in wanted)
    assert [list(b.items) for b in loader.epoch(0, start_batch=5)] == found[5:]
    assert list(loader.epoch(0, start_batch=99)) == []
    assert ([list(b.items) for b in loader.epoch(1)] == found) is not shuffle


def test_ranks_share_the_videos_of_an_epoch_by_video(intervals):
    def ids(**options):
        found = intervals.batches(
            "f", "train", label_set="parts", by_video=True, epoch=2, **options
        )
        return [sorted(item.id for item in batch.items) for batch in found]

    parts = [ids(batch_size=2, rank=rank, world_size=2) for rank in range(2)]
    for together, *apart in zip(ids(batch_size=4), *parts, strict=True):
        assert sorted(i for part in apart for i in part) == together
