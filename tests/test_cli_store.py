"""The commands of the store: exchange with others."""

import sys

import numpy as np
import pytest

from mmf import cli
from mmf.store import FeatureSpec, FeatureStore, Track


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
