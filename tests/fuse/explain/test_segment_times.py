"""When segments are: the rows that a network is given there stand in just those seconds."""

import numpy as np
import pytest

from mmf.fuse.explain.segment_times import segment_times
from mmf.fuse.policy.decisions import Decisions
from mmf.store import FeatureSpec, FeatureStore, Item, Track
from mmf.store.batch import evenly
from mmf.store.items import Items

TIMES = {
    "rgb": np.arange(10) + 0.25,  # a row a second
    "audio": np.arange(5) * 0.5,  # two a second, of a sound that ends early
    "text": np.array([1.0, 7.0]),  # cues, which have no rate
}
RATES = {"rgb": 1.0, "audio": 2.0, "text": None}


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    store = FeatureStore.create(tmp_path / "feats")
    for name, times in TIMES.items():
        spec = FeatureSpec(
            name=name, modality=name, shape=(1,), dtype="float32", rate=RATES[name], recipe={}
        )
        track = Track(video_id="v", values=np.zeros((len(times), 1)), times=times)
        store.add(spec, [track])
    return store


def decided(segments: int, lengths: dict[str, int]) -> Decisions:
    """Of one item with so many rows; row t of T belongs to segment floor(t S / T)."""
    names = tuple(lengths)
    number = min(segments, max(lengths.values()))
    rows = {}
    for name, T in lengths.items():
        of_rows = [t * number // T for t in range(T)]
        rows[name] = np.array([[of_rows.count(s) for s in range(segments)]])
    there = np.stack([rows[name] > 0 for name in names], 2)
    valid = np.arange(segments)[None] < number
    return Decisions(modalities=names, used=there, there=there, valid=valid, rows=rows)


def test_an_item_without_a_row_has_no_time(store):
    items = Items.of([Item(video_id="elsewhere")])
    (found,) = segment_times(store, items, decided(3, {"rgb": 0}))
    assert len(found.start) == len(found.ends) == 0


@pytest.mark.parametrize("segments", [1, 3, 4, 7, 20])
def test_a_row_stands_in_its_segment_until_the_next_one(store, segments):
    lengths = {name: len(times) for name, times in TIMES.items()}
    (found,) = segment_times(store, Items.of([Item(video_id="v")]), decided(segments, lengths))
    number = min(segments, 10)
    assert found.starts.shape == found.ends.shape == (number, 3)
    until = {"rgb": 10.25, "audio": 2.5, "text": 10.25}  # of a cue, as long as others last
    for m, (name, times) in enumerate(TIMES.items()):
        of_row = [t * number // len(times) for t in range(len(times))]
        ends = [*times[1:], until[name]]
        for s in range(number):
            its = [t for t, of in enumerate(of_row) if of == s]
            first, last = (times[its[0]], ends[its[-1]]) if its else (found.start[s], found.end[s])
            assert (found.starts[s, m], found.ends[s, m]) == (first, last)
    np.testing.assert_array_equal(found.start, found.starts[:, 0])  # rgb has the most rows
    np.testing.assert_array_equal(found.end, [*found.start[1:], 10.25])
    assert found.begins == 0.0


def test_of_rows_that_are_thinned_out_those_read_count(store):
    (found,) = segment_times(store, Items.of([Item(video_id="v")]), decided(2, {"rgb": 4}))
    first, second = TIMES["rgb"][evenly(10, 4)][[0, 2]]
    np.testing.assert_array_equal(found.starts[:, 0], [first, second])
    np.testing.assert_array_equal(found.ends[:, 0], [second, 10.25])


def test_an_interval_has_no_second_beyond_its_own(store):
    item = Item(video_id="v", start=3.5, end=6.5)  # rows at 4.25 and 5.25 and 6.25
    (found,) = segment_times(store, Items.of([item]), decided(3, {"rgb": 3}))
    np.testing.assert_array_equal(found.starts[:, 0], [4.25, 5.25, 6.25])
    np.testing.assert_array_equal(found.ends[:, 0], [5.25, 6.25, 6.5])
    assert found.begins == 0.25
