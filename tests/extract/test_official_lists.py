"""The lists that UCF101, HMDB51 and Kinetics are published with, in their very formats."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmf import MmfError, cli
from mmf.extract.manifest import Manifest, read_manifest
from mmf.extract.sample_set import make_sample_set
from mmf.store import FeatureStore


def ids(manifest: Manifest) -> list[str]:
    return [one.video_id for one in manifest.inputs()]


def touch(folder, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.fixture
def ucf101(tmp_path):
    """Two classes of UCF101 beside the folder of its lists; the second of each is in no test."""
    clips = "ApplyEyeMakeup/v_ApplyEyeMakeup_g{}_c01.avi", "YoYo/v_YoYo_g{}_c01.avi"
    touch(tmp_path, *(f"UCF-101/{clip.format(g)}" for clip in clips for g in ("01", "02", "08")))
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_bytes(b"1 ApplyEyeMakeup\r\n101 YoYo\r\n")
    for split, (test, train) in {"01": ("01", "08"), "02": ("02", "01")}.items():
        numbered = [f"{clip.format(train)} {n}" for clip, n in zip(clips, (1, 101), strict=True)]
        (lists / f"trainlist{split}.txt").write_bytes("\r\n".join(numbered).encode() + b"\r\n")
        (lists / f"testlist{split}.txt").write_text(
            "".join(clip.format(test) + "\n" for clip in clips)
        )
    return tmp_path


@pytest.fixture
def hmdb51(tmp_path):
    """Two classes of HMDB51 and their lists of two splits; names have no pattern."""
    names = {
        "brush_hair": ("April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "#1 (x) ü_brush_hair_1.avi"),
        "wave": ("21_wave_u_nm_np1_fr_goo_5.avi", "a!b&c_wave_2.avi"),
    }
    lists = tmp_path / "testTrainMulti_7030_splits"
    lists.mkdir()
    for label, (one, other) in names.items():
        touch(tmp_path, f"hmdb51/{label}/{one}", f"hmdb51/{label}/{other}")
        for split, codes in {1: (1, 2), 2: (0, 1)}.items():
            text = f"{one} {codes[0]} \n{other} {codes[1]} \n"
            (lists / f"{label}_test_split{split}.txt").write_text(text, encoding="utf-8")
    return tmp_path


KINETICS = """label,youtube_id,time_start,time_end,split
"playing guitar",-AB_c-1dEfg,31,41,train
yoga,0123456789a,0,10,validate
yoga,lostlostlos,5,15,train
zumba,wholewholew,100,110,train
"""


@pytest.fixture
def kinetics(tmp_path):
    """A clip that was cut, one in another container, a whole video, and one that is gone."""
    touch(tmp_path, "train/playing guitar/-AB_c-1dEfg_000031_000041.mp4")
    touch(tmp_path, "val/0123456789a_000000_000010.mkv", "whole/wholewholew.mp4")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/kinetics.csv").write_text(KINETICS)
    return tmp_path


# ---- what is refused


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("trainlist01.txt", "v_ApplyEyeMakeup_g08_c01.avi 1", "line 2: 'v_Apply.*expected Class/"),
        ("a_test_split1.txt", "x.avi 3", "line 2: 'x.avi 3'; expected name.avi and 0, 1 or 2"),
        ("a_test_split1.txt", "x.avi", "line 2: 'x.avi'; expected"),
    ],
)
def test_a_line_that_is_none_of_the_format_is_named(tmp_path, name, line, words):
    (tmp_path / name).write_text(f"\n{line}\n")
    with pytest.raises(MmfError, match=words):
        read_manifest(tmp_path / name)


def test_a_video_on_both_sides_of_a_split_is_refused(ucf101):
    with open(ucf101 / "ucfTrainTestlist/testlist01.txt", "a") as file:
        file.write("YoYo/v_YoYo_g08_c01.avi\n")
    with pytest.raises(MmfError, match="'YoYo/v_YoYo_g08_c01' is in 'test' and in 'train' of spl"):
        read_manifest(ucf101)


def test_lists_without_their_videos_say_where_they_are_looked_for(tmp_path):
    inner = tmp_path / "set/lists"
    inner.mkdir(parents=True)
    (inner / "testlist01.txt").write_text("YoYo/v_YoYo_g01_c01.avi\n")
    with pytest.raises(MmfError, match=r"no media files below '.*lists', nor below the folder abo"):
        read_manifest(inner / "testlist01.txt")
    touch(tmp_path, "set/other/clip.mp4")
    with pytest.raises(MmfError, match=r"no file below '.*set' is one of its videos"):
        read_manifest(inner / "testlist01.txt")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("yoga,0123456789a,x,10,train", "row 1, column 'time_start': 'x'; expected seconds"),
        ("yoga,0123456789a,0,,train", "row 1, column 'time_end': None; expected seconds"),
        ("yoga,nothere,0,10,train", "no file below '.*' is called as one of its videos"),
    ],
)
def test_a_kinetics_table_that_is_wrong_says_where(kinetics, row, words):
    (kinetics / "lists/kinetics.csv").write_text(KINETICS.splitlines()[0] + f"\n{row}\n")
    with pytest.raises(MmfError, match=words):
        read_manifest(kinetics / "lists/kinetics.csv")


# ---- what they say


def test_ucf101_in_its_folder_has_classes_and_every_split(ucf101):
    made = read_manifest(ucf101)
    assert len(made) == 6
    one = "UCF-101/YoYo/v_YoYo_g01_c01.avi"
    assert made.labels[one] == ["YoYo"]
    assert set(map(tuple, made.labels.values())) == {("ApplyEyeMakeup",), ("YoYo",)}
    assert len(made.split) == 4  # the ones that split 1 names
    assert (made.split[one], made.named_splits["split2"][one]) == ("test", "train")
    assert made.named_splits["split1"] == made.split
    assert set(made.named_splits) == {"split1", "split2"}


def test_one_list_of_ucf101_is_its_videos_and_no_other(ucf101, caplog):
    made = read_manifest(ucf101 / "ucfTrainTestlist/trainlist02.txt")
    assert ids(made) == [
        "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi",
        "UCF-101/YoYo/v_YoYo_g01_c01.avi",
    ]
    assert set(made.split.values()) == {"train"}
    assert all(os.path.exists(one.path) for one in made.inputs())
    assert not caplog.records
    (ucf101 / ids(made)[0]).unlink()
    assert len(read_manifest(ucf101 / "ucfTrainTestlist/trainlist02.txt")) == 1
    assert "1 of the 2 videos of" in caplog.text


def test_the_folder_of_the_lists_stands_for_the_data_set(ucf101):
    assert ids(read_manifest(ucf101 / "ucfTrainTestlist")) == sorted(ids(read_manifest(ucf101)))


def test_a_video_in_another_container_is_still_the_one_listed(ucf101):
    one = ucf101 / "UCF-101/YoYo/v_YoYo_g08_c01.avi"
    one.rename(one.with_suffix(".mp4"))
    made = read_manifest(ucf101)
    assert made.split["UCF-101/YoYo/v_YoYo_g08_c01.mp4"] == "train"


def test_hmdb51_has_train_test_and_neither(hmdb51):
    made = read_manifest(hmdb51)
    assert len(made) == 4
    one, other = (v for v in ids(made) if "/brush_hair/" in v)
    assert "#1 (x) ü" in one
    assert made.labels[one] == made.labels[other] == ["brush_hair"]
    assert (made.split[one], made.split[other]) == ("test", "train")
    assert made.named_splits["split2"][one] == "train"
    assert other not in made.named_splits["split2"]
    alone = read_manifest(hmdb51 / "testTrainMulti_7030_splits/wave_test_split2.txt")
    assert len(alone) == 2
    assert len(alone.split) == 1


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_kinetics_clips_and_whole_videos_are_items(kinetics, kind, caplog):
    rows = [line.split(",") for line in KINETICS.replace('"', "").splitlines()]
    records = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    for record in records if kind != "csv" else ():
        record |= {k: int(record[k]) for k in ("time_start", "time_end")}
    path = kinetics / f"lists/kinetics.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    made = read_manifest(path)
    clip, other, whole = ids(made)
    assert (clip, other) == ("-AB_c-1dEfg_000031_000041", "0123456789a_000000_000010")
    assert [os.path.splitext(one.path)[1] for one in made.inputs()] == [".mp4", ".mkv", ".mp4"]
    assert made.labels == {
        clip: ["playing guitar"],
        other: ["yoga"],
        (whole, 100.0, 110.0): ["zumba"],
    }
    assert made.split[other] == "val"
    assert "1 of the 4 videos of" in caplog.text


def test_the_part_of_kinetics_without_labels_has_none(kinetics):
    path = kinetics / "lists/test.csv"
    path.write_text("youtube_id,time_start,time_end,split\n0123456789a,0,10,test\n")
    made = read_manifest(path)
    assert (made.labels, list(made.split.values())) == ({}, ["test"])


def test_a_manifest_of_ones_own_with_such_columns_is_no_kinetics(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("video_id,path,youtube_id,time_start,time_end\na,a.mp4,x,0,1\n")
    assert ids(read_manifest(path)) == ["a"]


def test_labels_and_all_splits_come_into_the_store(tmp_path, monkeypatch):
    clips = make_sample_set(tmp_path / "set/videos", clips=4)
    lists = tmp_path / "set/lists"
    lists.mkdir()
    for path in sorted(clips.rglob("*.mp4")):
        label = path.parent.name
        for split, code in ((1, 1), (2, 2)):
            name = lists / f"{label}_test_split{split}.txt"
            name.write_text(f"{path.name} {code} \n")
    monkeypatch.chdir(tmp_path / "set")
    cli.cli.main(["extract", "--modality", "audio", "--modality", "text"], standalone_mode=False)
    store = FeatureStore("features.mmf")
    assert store.classes() == ("blue-high", "blue-low", "red-high", "red-low")
    splits = store.catalog.splits
    assert set(splits("default").values()) == set(splits("split1").values()) == {"train"}
    assert set(splits("split2").values()) == {"test"}
    assert len(splits("split2")) == 4
    # captions lie beside the media, and nothing names them
    assert set(store.state("text").values()) == {"done"}
