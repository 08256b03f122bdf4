"""A store in a bucket: a real S3 server, and a network that does its worst."""

import os
import shutil
import threading

import numpy as np
import pytest

from mmf import MmfError
from mmf.store import FeatureSpec, FeatureStore, Item, Outcome, Track
from mmf.store import layout as layout_module
from mmf.store.compact import compact
from mmf.store.delete import delete
from mmf.store.files import open_files
from mmf.store.gc import collect
from mmf.store.overview import describe
from mmf.store.patience import Unreachable
from mmf.store.repair import repair
from mmf.store.snapshot import forget
from mmf.store.verify import verify

pytest.importorskip("obstore", reason="obstore is not installed: no store in a bucket")

from mmf.store import bucket as bucket_module
from mmf.store import cache as cache_module
from mmf.store import patience
from mmf.store.bucket import Bucket

F = FeatureSpec(name="f", modality="rgb", shape=(16,), dtype="uint8")
G = FeatureSpec(name="g", modality="audio", shape=(3,), dtype="float32")
WIDE = FeatureSpec(name="f", modality="rgb", shape=(128,), dtype="uint8")
NARROW = FeatureSpec(name="g", modality="audio", shape=(16,), dtype="uint8")


@pytest.fixture
def proxy(s3, monkeypatch):
    monkeypatch.setattr(patience, "_FIRST_PAUSE", 0.001)
    return s3


@pytest.fixture
def url(proxy, request):
    return f"s3://bucket/{request.node.name[:60]}/feats"


@pytest.fixture
def another_machine(monkeypatch, tmp_path):
    """From now on, another folder stands for the bucket."""
    numbers = iter(range(100))
    return lambda: monkeypatch.setenv("MMF_CACHE", str(tmp_path / f"machine{next(numbers)}"))


def video(i: int, spec: FeatureSpec = F, rows: int | None = None) -> Track:
    rng = np.random.default_rng(i)
    n = rows or 5 + i % 7
    values = rng.uniform(-2, 2, (n, *spec.shape))
    return Track(video_id=f"v{i:03}", values=values, times=np.arange(n))


def commit(store: FeatureStore, numbers, specs=(F, G), rows: int | None = None) -> None:
    for spec in specs:
        store.create_feature(spec)
    writer = store.writer()
    for i in numbers:
        for spec in specs:
            writer.put(spec.name, video(i, spec, rows))
        writer.mark(specs[-1].name, Outcome(video_id=f"x{i}", status="skipped", reason="none"))
    try:
        writer.commit()
    finally:
        writer.discard()


def filled(url, numbers=range(8), *, bucket: int = 4, **options) -> FeatureStore:
    store = FeatureStore.create(url)
    numbers = list(numbers)
    for at in range(0, len(numbers), bucket):
        commit(store, numbers[at : at + bucket], **options)
    return store


def expect(store: FeatureStore, numbers, specs=(F, G)) -> None:
    for spec in specs:
        done = {v for v, status in store.state(spec.name).items() if status == "done"}
        assert done == {f"v{i:03}" for i in numbers}
        for i in numbers:
            expected = spec.decode(spec.encode(video(i, spec).values))
            np.testing.assert_array_equal(store.read(spec.name, f"v{i:03}").values, expected)


def in_bucket(url) -> dict[str, bytes]:
    bucket = Bucket(url)
    return {o.key: bucket.get(o.key)[1] for o in bucket.below("")}


# what a user gets wrong


def test_a_storage_that_mmf_does_not_know_is_refused():
    with pytest.raises(MmfError, match="'ftp' is no storage that mmf knows. Expected .* s3"):
        FeatureStore("ftp://host/feats")


def test_a_bucket_that_is_not_there_is_named(proxy):
    with pytest.raises(Unreachable, match="there is no bucket at 's3://nowhere/feats'. Make it"):
        FeatureStore.create("s3://nowhere/feats")


def test_a_store_that_is_not_there_is_named(url):
    with pytest.raises(MmfError, match=f"there is no feature store at '{url}'"):
        FeatureStore(url)


def test_a_prefix_with_something_else_is_no_place_for_a_store(url):
    Bucket(url).put("holiday.jpg", b"x")
    with pytest.raises(MmfError, match="is not a feature store and is not empty .*'holiday.jpg'"):
        FeatureStore.create(url)


def test_missing_credentials_are_said_at_once(url, proxy):
    proxy.reset(denied=1.0)
    with pytest.raises(Unreachable, match="credentials are missing.*AWS_ACCESS_KEY_ID"):
        FeatureStore(url)
    assert len(proxy.requests) <= 8  # one of each that were on their way, none again


def test_an_endpoint_without_a_key_is_told_what_to_set(url, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(Unreachable, match="credentials are missing.*Set AWS_ACCESS_KEY_ID"):
        FeatureStore(url)


def test_a_storage_that_overwrites_what_it_was_asked_not_to_is_refused(url, proxy):
    proxy.reset(careless=1.0)
    with pytest.raises(MmfError, match="two writers would overwrite each other. Keep the store in"):
        FeatureStore.create(url)


def test_who_may_only_read_reads_and_pins_nothing(url, proxy, caplog):
    filled(url, range(4))
    proxy.reset(**{"read only": 1.0})
    store = FeatureStore(url)
    expect(store, range(4))
    assert len(store.snapshot()) == 32
    assert "the snapshot is not kept" in caplog.text
    with pytest.raises(Unreachable, match="does not let us put"):
        commit(store, [4])


def test_a_cache_bound_that_is_no_number_is_refused(url, monkeypatch):
    monkeypatch.setenv("MMF_CACHE_GB", "much")
    with pytest.raises(MmfError, match="MMF_CACHE_GB is 'much'; expected a number of GiB"):
        FeatureStore(url)


# the same store


def test_what_is_written_is_read_back_and_is_the_same_as_in_a_folder(url, tmp_path):
    far, near = filled(url), filled(tmp_path / "near")
    expect(far, range(8))
    assert far.content_hash() == near.content_hash()
    assert verify(url) == []
    ours = {k: v for k, v in in_bucket(url).items() if "/c." in k}
    root = tmp_path / "near"
    assert ours == {str(p.relative_to(root)): p.read_bytes() for p in root.glob("*/*/c.*")}


def test_batches_are_those_of_a_folder(url, tmp_path):
    stores = [filled(url, range(24)), filled(tmp_path / "near", range(24))]
    for store in stores:
        store.label({f"v{i:03}": ["ab"[i % 2]] for i in range(24)})
    options = {"batch_size": 5, "seed": 3, "window_bytes": 2000, "threads": 2}
    for far, near in zip(*(s.batches(["f", "g"], **options) for s in stores), strict=True):
        assert far.items.video_ids.to_pylist() == near.items.video_ids.to_pylist()
        for name in ("f", "g"):
            np.testing.assert_array_equal(far.lengths[name], near.lengths[name])
            for a, b, n in zip(far.values[name], near.values[name], far.lengths[name], strict=True):
                np.testing.assert_array_equal(a[:n], b[:n])
        np.testing.assert_array_equal(far.labels, near.labels)


def test_another_machine_sees_what_was_committed(url, another_machine):
    filled(url, range(4))
    another_machine()
    other = FeatureStore(url)
    expect(other, range(4))
    filled(url, range(4, 8))
    other.refresh()
    expect(other, range(8))


def test_the_folder_in_front_of_a_bucket_is_that_store(url, another_machine):
    folder = filled(url, range(4)).path
    commit(FeatureStore(folder), [4, 5])  # as a worker process does
    another_machine()
    expect(FeatureStore(url), range(6))


def test_a_store_made_anew_under_a_url_is_not_taken_for_the_old_one(url):
    expect(filled(url, range(4)), range(4))
    open_files(url).remove_folder(open_files(url).root / "log")
    bucket = Bucket(url)
    bucket.delete(o.key for o in bucket.below(""))
    expect(filled(url, range(4, 12)), range(4, 12))


# a network that does its worst


@pytest.mark.parametrize("seed", [0, 1])
def test_a_commit_survives_what_a_network_does(url, proxy, tmp_path, seed):
    proxy.reset(seed=seed, busy=0.1, before=0.1, after=0.15)
    store = filled(url, range(12))
    store.label({f"v{i:03}": ["a"] for i in range(12)})
    proxy.reset()
    assert store.content_hash() == filled(tmp_path / "near", range(12)).content_hash()
    assert verify(url) == []
    expect(FeatureStore(url), range(12))
    assert [g for g in collect(url, grace_seconds=0) if "/c." in str(g.path)] == []


def test_when_it_gives_up_nothing_is_committed_and_the_rerun_completes(url, proxy, monkeypatch):
    store = filled(url, range(4))
    monkeypatch.setattr(patience, "RETRY_SECONDS", 0.1)
    proxy.reset(busy=1.0)
    with pytest.raises(Unreachable, match=rf"'{url}' could not .*: 503 .*same command again"):
        commit(store, [4, 5])
    proxy.reset()
    again = FeatureStore(url)
    expect(again, range(4))
    assert "failed" not in again.state("f").values()
    commit(again, [4, 5])
    expect(again, range(6))
    assert verify(url) == []


def test_of_two_writers_at_once_each_video_is_there_once(url, proxy, another_machine, tmp_path):
    filled(url, [0])
    stores = []
    for _ in range(2):
        another_machine()
        stores.append(FeatureStore(url))
    proxy.reset(busy=0.05, before=0.05, after=0.05)
    errors = []

    def work(store, numbers):
        try:
            for i in numbers:
                commit(store, [i, i + 1])
                store.label({f"v{i:03}": ["a"]})
        except Exception as error:  # noqa: BLE001  the test is told
            errors.append(error)

    jobs = [range(1, 9, 2), range(3, 11, 2)]
    threads = [threading.Thread(target=work, args=a) for a in zip(stores, jobs, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    proxy.reset()
    assert errors == []
    store = FeatureStore(url)
    expect(store, range(11))
    assert len(store.items()) == 5
    assert store.content_hash() == filled(tmp_path / "near", range(11), bucket=1).content_hash()
    assert verify(url) == []


def test_two_that_name_a_version_at_once_both_are_heard(url, another_machine):
    one = filled(url, range(4))
    another_machine()
    two = FeatureStore(url)
    one.label({"v000": ["a"]})
    two.label({"v001": ["b"]})  # knows nothing of the other's
    one.refresh()
    assert sorted(item.video_id for item in one.items()) == ["v000", "v001"]
    assert verify(url) == []


# what verify and repair say


def test_verify_names_a_flipped_byte_in_a_shard(url):
    store = filled(url)
    expect(store, range(8))  # the cache has all of it, whole
    bucket, key = Bucket(url), "features.zarr/f/c.1.0"
    data = bytearray(bucket.get(key)[1])
    data[7] ^= 1
    bucket.put(key, bytes(data))
    problems = verify(url)
    assert [p.path for p in problems if p.what == "has changed"] == [key]
    assert "the rows of video 'v004' have changed" in {p.what for p in problems}


def test_verify_reads_the_bucket_and_not_what_is_here_of_it(url):
    store = filled(url)
    expect(store, range(8))
    for path in [*store.path.glob("log/*"), *store.path.glob("shards/f/*")]:
        stat = path.stat()
        path.write_bytes(bytes(stat.st_size))  # a disk that forgets
        os.utime(path, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    assert verify(url) == []
    expect(FeatureStore(url), range(8))


@pytest.mark.parametrize("kind", ["features.zarr/g/c.0.0", "log/", "head.json", "features/f/"])
def test_verify_names_an_object_that_is_gone_and_repair_mends_it(url, kind, monkeypatch):
    monkeypatch.setattr("mmf.store.mirror._CLOCK_SECONDS", 0.0)  # the file here is as young
    filled(url)
    bucket = Bucket(url)
    key = min(o.key for o in bucket.below("") if o.key.startswith(kind))
    bucket.delete([key])
    assert key in {p.path for p in verify(url)}
    assert key in {done.path for done in repair(url)}
    assert verify(url) == []


def test_verify_downloads_every_shard_once(url, proxy, another_machine):
    filled(url, range(12))
    another_machine()
    proxy.reset()
    assert verify(url) == []
    asked = [path for method, path in proxy.requests if method == "GET" and "/c." in path]
    assert len(asked) == len(set(asked)) == 6


# the life of a store


def test_a_purge_leaves_nothing_in_the_bucket(url, another_machine):
    store = filled(url)
    store.label({f"v{i:03}": ["a"] for i in range(8)})
    pinned = store.snapshot()
    compact(url)
    another_machine()
    rows = video(3).values
    assert any(F.encode(rows).tobytes() in data for data in in_bucket(url).values())
    assert delete(url, ["v003"], purge=True) == ["v003"]
    for key, data in in_bucket(url).items():
        assert b"v003" not in data, key
        assert F.encode(rows).tobytes() not in data, key
    assert verify(url) == []
    expect(FeatureStore(url), [0, 1, 2, 4, 5, 6, 7])
    expect(FeatureStore(url, snapshot=pinned), [0, 1, 2, 4, 5, 6, 7])


def test_what_another_machine_purged_leaves_this_one_at_its_next_look(url, another_machine):
    store = filled(url)
    expect(store, range(8))
    folder = store.path
    another_machine()
    delete(url, ["v003"], purge=True)
    store = FeatureStore(folder)
    expect(store, [0, 1, 2, 4, 5, 6, 7])
    rows = F.encode(video(3).values).tobytes()
    for path in folder.rglob("*"):
        assert not path.is_file() or rows not in path.read_bytes(), path


def test_compaction_and_gc_remove_the_old_array_from_the_bucket(url):
    store = filled(url)
    before = store.content_hash()
    compact(url, ["f"])
    assert FeatureStore(url).content_hash() == before
    assert any(key.startswith("features.zarr/f/c.") for key in in_bucket(url))
    collect(url, grace_seconds=0)
    assert not any(key.startswith("features.zarr/f/") for key in in_bucket(url))
    assert FeatureStore(url).content_hash() == before
    assert verify(url) == []


def test_a_snapshot_is_kept_until_it_is_forgotten(url, another_machine):
    store = filled(url, range(4))
    pinned = store.snapshot()
    commit(store, [4, 5])
    another_machine()
    expect(FeatureStore(url, snapshot=pinned), range(4))
    forget(url, [pinned])
    assert not any(key.startswith("snapshots/") for key in in_bucket(url))


def test_status_counts_the_bytes_in_the_bucket(url, another_machine):
    store = filled(url)
    another_machine()
    shards = sum(len(data) for key, data in in_bucket(url).items() if "/c." in key)
    assert describe(FeatureStore(url))["bytes"] == shards
    assert describe(store)["store"] == url


def test_an_array_written_by_another_tool_is_refused_and_not_read_as_zeros(url):
    store = filled(url, range(4))
    path = store.path / "features.zarr" / "f" / "zarr.json"
    changed = path.read_bytes().replace(b'"little"', b'"big"')
    store.files.put(path, changed)
    with pytest.raises(MmfError, match="in a bucket only that can be read. Copy 's3://"):
        FeatureStore(url).read("f", "v000")


# requests and the cache


@pytest.fixture
def large(url, monkeypatch):
    """512 videos of 2 features in 4 commits; larger rows, of 1.5 MB each in all."""
    monkeypatch.setattr(layout_module, "CHUNK_BYTES", 1 << 16)
    store = filled(url, range(512), bucket=128, specs=(WIDE, NARROW), rows=30)
    store.label({f"v{i:03}": ["a"] for i in range(512)})
    return store


def epoch(store: FeatureStore, **options) -> int:
    count = 0
    for batch in store.batches(["f", "g"], batch_size=64, seed=1, **options):
        assert (batch.lengths["f"] == 30).all()
        for item, values in zip(batch.items, batch.values["f"], strict=True):
            spec = store.features["f"]
            expected = spec.encode(video(int(item.video_id[1:]), spec, 30).values)
            np.testing.assert_array_equal(values, expected)
        count += len(batch)
    return count


def test_window_mode_asks_less_than_six_times_for_a_hundred_videos(
    url, large, proxy, another_machine
):
    another_machine()
    store = FeatureStore(url)
    proxy.reset()
    window = 128 * 30 * (128 + 16)
    assert epoch(store, window_bytes=window) == 512
    assert len(proxy.requests) / 512 <= 0.06
    proxy.reset()
    assert epoch(store, window_bytes=window) == 512
    assert proxy.requests == []  # the cache has it


def test_what_is_let_go_of_is_not_asked_for_and_comes_when_it_is_needed(
    url, proxy, monkeypatch, another_machine
):
    filled(url, range(8), bucket=8, specs=[WIDE], rows=300)
    another_machine()
    monkeypatch.setattr(cache_module, "_PIECE_PAGES", 1)
    monkeypatch.setattr(bucket_module, "IN_FLIGHT", 2)
    files = open_files(url)
    shard = files.open_shard(files.root / "features.zarr" / "f" / "c.0.0")
    proxy.reset(latency=0.02)
    pages = 8 * 300 * 128 // cache_module.PAGE
    shard.want(0, 8 * 300 * 128)
    files.let_go()
    shard.need(0, 1)
    assert len(proxy.requests) < pages
    shard.need(0, 8 * 300 * 128)
    assert len(proxy.requests) <= pages + 2


def test_random_mode_asks_for_little_more_than_it_reads(url, large, proxy, another_machine):
    another_machine()
    store = FeatureStore(url)
    proxy.reset()
    store.batch([Item(video_id=f"v{i:03}") for i in range(0, 512, 64)], ["f"], label_set=None)
    assert proxy.bytes_out < 8 * 3 * (16 << 10)


def test_the_cache_stays_within_its_bound(url, large, monkeypatch, another_machine):
    another_machine()
    bound, shard = 1_000_000, 128 * 30 * 128 + 70_000
    monkeypatch.setenv("MMF_CACHE_GB", str(bound / (1 << 30)))
    store = FeatureStore(url)
    for shuffle in ("window", "full"):
        assert epoch(store, shuffle=shuffle, window_bytes=128 * 30 * 144) == 512
        held = sum(p.stat().st_blocks * 512 for p in (store.path / "shards").glob("*/*"))
        assert 0 < held <= bound + shard
    assert verify(url) == []
    held = sum(p.stat().st_blocks * 512 for p in (store.path / "shards").glob("*/*"))
    assert held <= bound + shard


def test_a_cache_of_before_the_machine_stopped_is_not_trusted(url):
    store = filled(url)
    expect(store, range(8))
    (store.path / "boot").write_text("another")
    for path in [*store.path.glob("log/*"), *store.path.glob("shards/*/*")]:
        stat = path.stat()
        path.write_bytes(b"\1" * stat.st_size)  # as a disk may have lost them
        os.utime(path, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    expect(FeatureStore(url), range(8))


def test_a_shard_that_is_gone_is_named_by_who_reads_it(url, another_machine):
    filled(url)
    Bucket(url).delete(["features.zarr/f/c.0.0"])
    another_machine()
    with pytest.raises(MmfError, match=f"the store has lost '{url}/features.zarr/f/c.0.0'"):
        FeatureStore(url).read("f", "v000")


def test_a_folder_without_the_bucket_can_be_thrown_away(url):
    store = filled(url)
    shutil.rmtree(store.path)
    expect(FeatureStore(url), range(8))
