"""Reading batches: threads, memory that is used again, checks, and arrays of other writers."""

import ctypes
import errno
import json
import logging
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr

from mmf import MmfError
from mmf.store import FeatureSpec, FeatureStore, Item, Track, mapped
from mmf.store.ahead import Ahead
from mmf.store.buffers import Buffers
from mmf.store.items import Items
from mmf.store.order import Order

RGB = FeatureSpec(name="rgb", modality="rgb", shape=(5,), dtype="uint8")
AUDIO = FeatureSpec(name="audio", modality="audio", shape=(2, 3), dtype="float16", rate=2.0)
N = 60


def values(spec, i):
    n = i % 7 if spec is RGB else (i * 3) % 11  # some have none
    rng = np.random.default_rng([i, len(spec.shape)])
    return rng.integers(0, 200, (n, *spec.shape)).astype(spec.dtype)


def track(spec, i):
    rows = values(spec, i)
    return Track(video_id=f"v{i:02}", values=rows, times=np.arange(len(rows)) / 2)


def fill(store):
    for spec in (RGB, AUDIO):
        for part in range(3):
            store.add(spec, [track(spec, i) for i in range(part, N, 3)])
    names = [f"v{i:02}" for i in range(N)]
    store.label({v: [v[-1]] for v in names}, split=dict.fromkeys(names, "train"))
    return store


@pytest.fixture
def store(tmp_path):
    return fill(FeatureStore.create(tmp_path / "s"))


@pytest.fixture(params=["mapped", "preadv"])
def way(request, monkeypatch):
    """Both ways to read; the second is for sets larger than memory, and other systems."""
    if request.param == "preadv":
        monkeypatch.setattr("mmf.store.mapped.most_bytes", lambda: 0)
    elif not mapped.possible(Path(__file__).parent):
        pytest.skip("files cannot be mapped here: no Linux from 5.14 on, or no local disk")
    return request.param


def check(batch):
    for at, item in enumerate(batch.items):
        for spec in (RGB, AUDIO):
            rows = values(spec, int(item.video_id[1:]))
            got = batch.values[spec.name][at]
            assert batch.lengths[spec.name][at] == len(rows)
            np.testing.assert_array_equal(got[: len(rows)], rows)
            assert not got[len(rows) :].any()
        assert batch.labels[at].nonzero()[0].tolist() == [int(item.video_id[-1])]


@pytest.mark.parametrize("threads", [0, -1, 65])
def test_a_number_of_threads_that_cannot_be_is_refused(store, threads):
    with pytest.raises(MmfError, match=rf"threads is {threads}; expected 1 to 64"):
        next(iter(store.batches(["rgb"], threads=threads)))


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("shuffle", [False, True, "full"])
def test_batches_hold_the_rows_that_were_put_also_in_memory_used_before(
    store, threads, shuffle, way
):
    buffers, seen = Buffers(), 0
    for epoch in range(3):
        for batch in store.batches(
            ("rgb", "audio"), "train", 8, epoch=epoch, shuffle=shuffle, threads=threads,
            buffers=buffers, window_bytes=200,
        ):  # fmt: skip
            check(batch)
            seen += len(batch)
    assert seen == 3 * len(store.items(features=["rgb", "audio"]))


def test_a_loader_reads_the_right_rows_when_the_store_has_taken_in_more(store):
    loader = store.loader(("rgb", "audio"), "train", batch_size=8)
    list(loader.epoch(0))
    before = Track(video_id="a", values=np.full((3, 5), 9, "u1"), times=[0, 1, 2])
    batches = loader.epoch(1)
    check(next(batches))
    store.add(RGB, [before])  # its id stands before all others, so every position moves
    for batch in batches:
        check(batch)
    for batch in loader.epoch(2):
        check(batch)


def test_a_batch_that_is_kept_is_not_written_over(store):
    kept = list(store.batches(("rgb", "audio"), "train", 8))
    views = [b.values["rgb"][1:, ::2] for b in store.batches(("rgb", "audio"), "train", 8)]
    for batch, view in zip(kept, views, strict=True):
        check(batch)
        np.testing.assert_array_equal(batch.values["rgb"][1:, ::2], view)


def test_batches_that_are_dropped_run_in_the_same_memory():
    buffers = Buffers()
    places = set()
    for _ in range(20):
        array = buffers.lend((3, 4), np.dtype("f4"))
        places.add(array.ctypes.data)
    assert len(places) == 2  # the name still holds the last one while the next is lent
    view = buffers.lend((3, 4), np.dtype("f4"))[1:].T
    del array
    assert view.base is not None
    others = {buffers.lend((3, 4), np.dtype("f4")).ctypes.data for _ in range(5)}
    assert view.ctypes.data - 16 not in others


def test_memory_of_torch_is_used_again_only_when_its_tensors_are_gone():
    torch = pytest.importorskip("torch")
    buffers = Buffers(lambda n: torch.empty(n, dtype=torch.uint8).numpy())
    array = buffers.lend((8,), np.dtype("u1"))
    array[:] = 7
    tensor, place = torch.from_numpy(array)[2:], array.ctypes.data
    del array
    other = buffers.lend((8,), np.dtype("u1"))
    assert other.ctypes.data != place
    other[:] = 0
    assert tensor.tolist() == [7] * 6
    del tensor
    assert buffers.lend((8,), np.dtype("u1")).ctypes.data == place


def test_neighbours_on_disk_are_one_read(store, monkeypatch):
    calls = []
    real = __import__("os").preadv
    monkeypatch.setattr(
        "mmf.store.rows.os.preadv", lambda fd, v, at: calls.append(len(v)) or real(fd, v, at)
    )
    items = [Item(video_id=f"v{i:02}") for i in range(0, N, 3)]
    batch = store.batch(items, ["rgb"], label_set=None)
    assert len(calls) == 1
    assert calls[0] == sum(len(values(RGB, i)) > 0 for i in range(0, N, 3))
    for at, i in enumerate(range(0, N, 3)):
        rows = values(RGB, i)
        np.testing.assert_array_equal(batch.values["rgb"][at, : len(rows)], rows)


def test_a_read_that_the_system_cuts_short_goes_on(store, monkeypatch):
    real = __import__("os").preadv
    monkeypatch.setattr("mmf.store.rows.os.preadv", lambda fd, v, at: real(fd, [v[0][:1]], at))
    check(store.batch(store.items(), ["rgb", "audio"]))


def test_a_shard_that_ends_early_is_an_error_with_the_feature(store):
    for path in store.stored("rgb").folder.glob("c.*"):
        path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(MmfError, match="feature 'rgb' is damaged: the shard ends"):
        store.batch(store.items(), ["rgb"])


def test_a_shard_that_ends_early_is_an_error_also_in_batches(store, way):
    for path in store.stored("rgb").folder.glob("c.*"):
        path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(MmfError, match="is damaged: the shard ends"):
        list(store.batches(["rgb"]))


def test_a_page_that_the_disk_does_not_give_is_an_error_with_the_file(store, monkeypatch):
    if not mapped.possible(store.stored("rgb").folder):
        pytest.skip("files cannot be mapped here: no Linux from 5.14 on, or no local disk")

    def fail(address, size):
        ctypes.set_errno(errno.EFAULT)
        return -1

    monkeypatch.setattr("mmf.store.mapped._populate", fail)
    with pytest.raises(OSError, match=r"Input/output error: .*rgb/c\.\d\.0") as caught:
        list(store.batches(["rgb"]))
    assert caught.value.errno == errno.EIO


def test_more_shards_than_may_be_mapped_are_read_all_the_same(store, monkeypatch):
    monkeypatch.setattr("mmf.store.rows._MOST_MAPS", 1)
    for batch in store.batches(("rgb", "audio"), "train", 8):
        check(batch)


def test_a_lost_shard_is_an_error_also_from_a_thread(store, way):
    next(store.stored("rgb").folder.glob("c.*")).unlink()
    with pytest.raises(MmfError, match="the store has lost"):
        list(store.batches(["rgb"], threads=3))
    assert not [t for t in threading.enumerate() if t.name == "mmf-ahead"]


def test_more_shards_than_may_be_open_are_read_all_the_same(store, monkeypatch):
    monkeypatch.setattr("mmf.store.local.resource.getrlimit", lambda _: (0, 0))
    store = FeatureStore(store.path)
    spec = FeatureSpec(name="many", modality="rgb", shape=(3,), dtype="float32")
    for i in range(40):
        store.add(spec, [Track(video_id=f"w{i}", values=np.full((2, 3), i), times=[0, 1])])
    items = [Item(video_id=f"w{i}") for i in range(40)]
    for batch in [store.batch(items, ["many"], label_set=None)]:
        assert batch.values["many"][:, 0, 0].tolist() == list(range(40))
    assert len(store.stored("many").shards._open) == 16


@pytest.mark.parametrize("options", [{}, {"max_steps": 2}, {"threads": 2}])
def test_check_finds_a_flipped_bit_and_names_the_video(store, options):
    list(store.batches(["rgb", "audio"], check=True, **options))
    path = next(store.stored("audio").folder.glob("c.0.*"))
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    list(store.batches(["rgb", "audio"], **options))  # unnoticed
    with pytest.raises(MmfError, match=r"the rows of video 'v\d\d' of feature 'audio'.*crc32c"):
        list(store.batches(["rgb", "audio"], check=True, **options))


def test_check_looks_at_the_whole_video_of_an_interval(store):
    store.label({("v02", 0.0, 0.5): ["x"]}, name="parts")
    path = next(store.stored("rgb").folder.glob("c.2.*"))
    (item,) = store.items(label_set="parts")
    store.batch([item], ["rgb"], label_set=None, check=True)
    data = bytearray(path.read_bytes())
    data[9] ^= 1  # in the second row of the slot's first video
    path.write_bytes(data)
    with pytest.raises(MmfError, match="video 'v02' of feature 'rgb'"):
        store.batch([item], ["rgb"], label_set=None, check=True)


def recompress(store, name):
    """What another tool may do: the same array with a codec."""
    folder = store.stored(name).folder
    old = zarr.open_array(folder, mode="r")
    codec = zarr.codecs.ZstdCodec()
    new = zarr.create_array(
        folder.with_name("new"), shape=old.shape, chunks=(16, *old.shape[1:]), dtype=old.dtype,
        compressors=[codec],
    )  # fmt: skip
    slot = store.stored(name).geometry.slot_rows
    for start in range(0, old.shape[0], slot):
        new[start : start + 256] = old[start : start + 256]
    folder.rename(folder.with_name("old"))
    Path(folder.with_name("new")).rename(folder)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_array_that_another_tool_compressed_reads_the_same_and_says_so_once(
    store, threads, caplog
):
    recompress(store, "audio")
    again = FeatureStore(store.path)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            for batch in again.batches(("rgb", "audio"), "train", 8, threads=threads, check=True):
                check(batch)
        assert again.read("audio", "v01").values.shape == (3, 2, 3)
    assert caplog.text.count("read through zarr-python") == 1


def test_metadata_that_nothing_reads_is_an_error_and_not_wrong_rows(store):
    path = store.stored("rgb").folder / "zarr.json"
    found = json.loads(path.read_text())
    found["codecs"] = [{"name": "rot13"}]
    path.write_text(json.dumps(found))
    with pytest.raises(MmfError, match="not stored as mmf writes it, and zarr-python cannot"):
        FeatureStore(store.path).batch(store.items(), ["rgb"])


def test_items_are_a_sequence_of_items(store):
    items = store.items()
    assert items == list(items) == [*items[:30], *items[30:]]
    assert items[-1] == items[N - 1] == list(items)[-1]
    assert items[5:2:-2] == [items[5], items[3]]
    assert items != items[1:]
    with pytest.raises(IndexError):
        items[N]
    assert repr(items) == f"Items({N} of {N} videos)"
    assert Items.of(items) is items
    assert Items.of(list(items)) == items


def test_labels_of_items_without_any_and_with_few_rated_are_told_apart():
    items = Items.of(
        [
            Item(video_id="a", labels=(0, 2)),
            Item(video_id="b", unrated=(1,)),
            Item(video_id="c", labels=(1,), rated=(1, 2)),
        ]
    )
    labels, rated = items.take(np.array([2, 0, 1])).multi_hot(3)
    assert labels.tolist() == [[0, 1, 0], [1, 0, 1], [0, 0, 0]]
    assert rated.tolist() == [[False, True, True], [True] * 3, [True, False, True]]


def test_the_bytes_of_a_window_are_asked_for_before_they_are_read(store, way, monkeypatch):
    asked = []
    shards = store.stored("rgb").shards
    monkeypatch.setattr(shards, "has", lambda *where, in_memory: False)
    monkeypatch.setattr(shards, "bring", lambda slot, at, size, **_: asked.append((slot, size)))
    loader = store.loader(["rgb"], "train", batch_size=8, window_bytes=350)
    features = {"rgb": store.stored("rgb")}
    order, positions = loader._order(0), loader._positions
    with Ahead(features, positions, order, in_memory=way == "mapped") as ahead:
        ahead.reached(N)
        ahead._thread.join()
    rows = sum(len(values(RGB, i)) for i in range(N))
    assert sum(size for _, size in asked) == rows * RGB.row_bytes  # each byte once
    assert len(asked) == 3  # a slot at once


def test_what_is_in_memory_is_not_asked_for(store, way, monkeypatch):
    asked = []
    loader = store.loader(["rgb"], "train", batch_size=8)
    for path in store.stored("rgb").folder.glob("c.*"):
        path.read_bytes()
    list(loader.epoch())
    monkeypatch.setattr(store.stored("rgb").shards, "bring", lambda *where: asked.append(where))
    list(loader.epoch())
    assert asked == []


def test_an_order_leaves_out_what_was_read():
    left = Order(items=np.arange(10), ends=np.array([4, 10])).after(6)
    assert left.items.tolist() == [6, 7, 8, 9]
    assert left.ends.tolist() == [0, 4]
