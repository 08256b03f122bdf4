"""The commands of the store: exchange with others."""

import errno
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from mmf import cli
from mmf.extract.sample_set import make_sample_set
from mmf.store import FeatureSpec, FeatureStore, Media, Track


def mmf(line: str) -> int:
    return cli.cli.main(line.split(), standalone_mode=False) or 0


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A folder with a store of rgb and audio features of three videos."""
    monkeypatch.chdir(tmp_path)
    store = FeatureStore.create("features.mmf")
    rng = np.random.default_rng(0)
    for name, width in (("rgb", 8), ("audio", 4)):
        spec = FeatureSpec(name=name, modality=name, shape=(width,), dtype="uint8", rate=1.0)
        store.add(
            spec,
            [
                Track(
                    video_id=f"clips/{v}.mp4",
                    values=rng.integers(0, 256, (n, width), dtype=np.uint8),
                    times=np.arange(n),
                )
                for n, v in enumerate("abc", start=1)
            ],
        )
    store.label({"clips/a.mp4": ["0", "3"], "clips/b.mp4": ["1"], "clips/c.mp4": ["2"]})
    return store


# looking


def test_status_says_what_a_row_costs_where_that_is_known(there, capsys):
    mmf("status")
    assert "GFLOPs" not in capsys.readouterr().out
    there.create_feature(FeatureSpec(name="deep", modality="rgb", shape=(2,), flops_per_row=3.63e9))
    mmf("status")
    assert "a product and its sum as two: deep 3.63" in capsys.readouterr().out
    mmf("status --json")
    assert json.loads(capsys.readouterr().out)["features"]["deep"]["flops_per_row"] == 3.63e9


def test_status_says_what_rows_took_where_that_was_measured(there, capsys):
    mmf("status")
    assert "measured ms" not in capsys.readouterr().out
    there.create_feature(FeatureSpec(name="deep", modality="rgb", shape=(2,)))
    writer, values = there.writer(), np.zeros((4, 2))
    track = Track(video_id="clips/a.mp4", values=values, times=np.arange(4))
    writer.put("deep", track, media=Media(decode_seconds=0.02))
    writer.commit({"deep": 0.03})
    mmf("status")
    said = capsys.readouterr().out
    assert "measured ms of a row to compute: deep 30" in said
    assert "measured ms of a row to decode: deep 5" in said
    mmf("status --json")
    found = json.loads(capsys.readouterr().out)["features"]
    assert found["deep"]["milliseconds_per_row"] == pytest.approx({"compute": 30, "decode": 5})
    assert found["rgb"]["milliseconds_per_row"] == {"compute": None, "decode": None}


# exchange


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("import yt8m x", "unknown command 'yt8m'"),
        ("import youtube8m nope.tfrecord", "no TFRecord file at 'nope.tfrecord'"),
        ("import hdf5 nope.h5", "no HDF5 file at 'nope.h5'"),
        ("export parquet --out x --feature rbg", "unknown feature 'rbg'. Did you mean 'rgb'"),
        ("export youtube8m --out x --feature rgb", "expected rgb=NAME or audio=NAME"),
        ("export hdf5 --store nope --out x", "no feature store at 'nope'"),
        ("split --shards 3000", "--shards '3000': expected two numbers, as in 3000,200"),
        ("split --shards 3000,200", "knows no partitions and shards"),
    ],
)
def test_an_exchange_that_cannot_be_is_one_sentence(there, line, says, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mmf", *line.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert says in printed.err
    assert len(printed.err.splitlines()) == 1


def test_a_store_goes_out_and_comes_back_through_each_format(there, capsys):
    assert mmf("export youtube8m --out tf") == 0
    assert mmf("import youtube8m tf --store tf.mmf --workers 1") == 0
    assert mmf("export hdf5 --out h5") == 0
    assert mmf("import hdf5 h5/features.h5 --store h5.mmf") == 0
    assert mmf("export parquet --out pq --feature rgb") == 0
    out = capsys.readouterr().out
    assert "tf: 3 videos in 1 files" in out
    assert "3 videos imported, 0 were there, 0 records damaged" in out
    assert "h5/features.h5" in out
    assert "rgb: 3 videos imported" in out
    assert "pq: 1 files" in out
    for name in ("tf.mmf", "h5.mmf"):
        back = FeatureStore(name)
        for feature in ("rgb", "audio"):
            for video, track in ((v, there.read(feature, v)) for v in there.state(feature)):
                np.testing.assert_array_equal(back.read(feature, video).values, track.values)
    assert [i.labels for i in FeatureStore("tf.mmf").items()] == [(0, 3), (1,), (2,)]


def test_more_damage_than_the_limit_is_exit_code_3(there, tmp_path, capsys):
    mmf("export youtube8m --out tf")
    (path,) = (tmp_path / "tf").iterdir()
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(bytes(data))
    assert mmf("import youtube8m tf --store tf.mmf") == 3
    assert mmf("import youtube8m tf --store tf.mmf --max-failure-rate 0.5") == 0
    assert "mmf status tf.mmf --failures" in capsys.readouterr().out
    mmf("status tf.mmf --failures")
    assert "data_crc in import of rgb" in capsys.readouterr().out


# life


def run(line: str, monkeypatch, capsys) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    monkeypatch.setattr(sys, "argv", ["mmf", *line.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, *capsys.readouterr()


def test_forgetting_a_snapshot_that_is_not_there_says_which_are(there, monkeypatch, capsys):
    known = there.snapshot()
    code, _, err = run("gc --forget nope", monkeypatch, capsys)
    assert code == 2
    assert f"unknown snapshot 'nope'. Known: {known}" in err


def test_a_store_is_compacted_and_its_old_arrays_are_collected(there, monkeypatch, capsys):
    before = there.content_hash()
    assert run("compact", monkeypatch, capsys)[1].splitlines() == [
        "audio: 3 videos, now in audio.2",
        "rgb: 3 videos, now in rgb.2",
    ]
    assert run("gc", monkeypatch, capsys)[1] == "features.mmf: 0 B removed\n"
    assert "would be removed" in run("gc --grace 0 --dry-run", monkeypatch, capsys)[1]
    out = run("gc --grace 0", monkeypatch, capsys)[1]
    assert "features.zarr/rgb: " in out
    assert "is of no feature, and of no snapshot" in out
    assert FeatureStore("features.mmf").content_hash() == before
    assert run("verify", monkeypatch, capsys)[:2] == (0, "features.mmf: whole\n")


def test_deleted_videos_are_said_and_so_are_ids_that_nobody_knows(there, monkeypatch, capsys):
    line = "delete features.mmf clips/a.mp4 clips/z.mp4 --purge"
    code, out, err = run(line, monkeypatch, capsys)
    assert (code, out) == (0, "features.mmf: 1 videos purged\n")
    assert "1 ids had nothing to show, for example 'clips/z.mp4'" in err
    assert "clips/a.mp4" not in FeatureStore("features.mmf").state("rgb")


def test_repair_says_what_is_to_be_extracted_again(there, monkeypatch, capsys):
    assert run("repair", monkeypatch, capsys)[1].startswith("features.mmf: 0 to extract again, 0")
    (shard,) = there.stored("rgb").folder.glob("c.*")
    shard.unlink()
    assert run("verify", monkeypatch, capsys)[0] == 74
    code, out, _ = run("repair features.mmf", monkeypatch, capsys)
    assert code == 0
    assert "to extract again: rgb of clips/b.mp4" in out
    assert out.endswith("features.mmf: 3 to extract again, 0 problems left\n")
    assert run("verify", monkeypatch, capsys)[0] == 0


@pytest.mark.parametrize("call", ["fsync", "link", "replace"])
def test_a_full_disk_is_exit_74_with_path_and_free_bytes(there, call, monkeypatch, capsys):
    real = getattr(os, call)

    def full(first, *rest):
        name = () if isinstance(first, int) else (str(first),)
        raise OSError(errno.ENOSPC, "No space left on device", *name)

    monkeypatch.setattr(os, call, full)
    code, _, err = run("compact", monkeypatch, capsys)
    monkeypatch.setattr(os, call, real)
    assert code == 74
    assert re.search(r"No space left on device: '.*features.mmf/.*' \(\d+ bytes free in ", err)
    assert "What was committed is safe" in err
    assert run("compact", monkeypatch, capsys)[0] == 0


# two jobs on one store


def test_two_extractions_at_once_of_overlapping_videos_give_each_video_once(tmp_path):
    clips = make_sample_set(tmp_path / "clips", clips=8)
    paths = sorted(p for p in clips.rglob("*.mp4"))
    lists = {"one": paths[:5], "two": paths[3:], "all": paths}
    for name, chosen in lists.items():
        rows = [f"{p.stem},{p}" for p in chosen]
        (tmp_path / f"{name}.csv").write_text("\n".join(["video_id,path", *rows]))

    def job(name: str, store: str) -> subprocess.Popen:
        line = ["extract", str(tmp_path / f"{name}.csv"), "--store", str(tmp_path / store)]
        line += ["--modality", "rgb", "--backbone", "rgb=hog", "--workers", "1"]
        return subprocess.Popen([sys.executable, "-c", "from mmf.cli import main; main()", *line])

    jobs = [job("one", "both"), job("two", "both")]
    assert [j.wait() for j in [*jobs, job("all", "alone")]] == [0, 0, 0]
    both = FeatureStore(tmp_path / "both")
    assert both.state("rgb") == {p.stem: "done" for p in paths}
    assert both.content_hash() == FeatureStore(tmp_path / "alone").content_hash()
    assert mmf(f"verify {tmp_path / 'both'}") == 0
