"""Labels and splits as people have them."""

import re

import numpy as np
import pyarrow as pa
import pytest

from mmf import MmfError, UnknownName
from mmf.store import FeatureSpec, FeatureStore, Track
from mmf.store.items import LABELS
from mmf.store.labels import label_from_file, match, read_labels
from mmf.store.split import assign, split

VIDEOS = ["cats/a.mp4", "cats/b.mp4", "dogs/c.mp4", "dogs/sub/d.webm"]


@pytest.fixture
def store(tmp_path):
    store = FeatureStore.create(tmp_path / "s")
    spec = FeatureSpec(name="f", modality="rgb", shape=(1,))
    store.add(spec, [Track(video_id=v, values=np.ones((2, 1)), times=[0, 1]) for v in VIDEOS])
    return store


def write(tmp_path, text: str):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "have the columns none; expected a header"),
        ("clip,kind\na,b\n", "columns clip, kind; expected a header with video_id and labels"),
        ("id,label\na\n", "line 2: 2 columns were expected"),
        ("id,label\na,b,c\n", "line 2: 2 columns were expected"),
        ("id,start,end,label\na,1,x,c\n", "line 2: start '1' and end 'x'; expected seconds"),
        ("id,cat,dog\na,1,yes\n", "line 2: column 'dog' holds 'yes'; expected 0, 1 or nothing"),
        ("id,cat\na,1\na,0\n", "line 3: 'a' has a row already"),
        ("id,label,split\na,x,train\na,y,test\n", "a video stays on one side"),
    ],
)
def test_a_table_that_cannot_be_read_says_what_was_expected(tmp_path, text, says):
    with pytest.raises(MmfError, match=re.escape(says)):
        read_labels(write(tmp_path, text))


def test_a_missing_file_of_labels_is_a_sentence(tmp_path):
    with pytest.raises(MmfError, match="cannot be read: .*No such file"):
        read_labels(tmp_path / "none.csv")


def test_a_stem_that_fits_two_videos_is_refused():
    with pytest.raises(MmfError, match="'a' fits 2 videos"):
        match(["a"], ["x/a.mp4", "y/a.mp4"])


def test_rows_of_id_and_label_are_keyed_by_id_path_or_stem(store, tmp_path):
    text = "id,label\ncats/a.mp4,cat\n/data/all/cats/b.mp4,cat;pet\nc,dog\nd.webm,dog\n"
    text += "d.webm,pet\nq,x\n"
    missing = label_from_file(store, write(tmp_path, text))
    assert missing == ["q"]
    labels = {i.video_id: [store.classes()[c] for c in i.labels] for i in store.items()}
    assert labels == {
        "cats/a.mp4": ["cat"],
        "cats/b.mp4": ["cat", "pet"],
        "dogs/c.mp4": ["dog"],
        "dogs/sub/d.webm": ["dog", "pet"],
        "q": ["x"],
    }


def test_an_empty_cell_of_a_wide_table_is_unrated(store, tmp_path):
    path = write(tmp_path, "video_id,split,dog,cat\na,train,0,1\nb,train,,1\nc,test,1.0,0\n")
    label_from_file(store, path, name="wide")
    assert store.classes("wide") == ("dog", "cat")
    items = {i.video_id: i for i in store.items(label_set="wide")}
    assert items["cats/b.mp4"].unrated == (0,)
    assert items["cats/a.mp4"].unrated == ()
    batch = store.batch([items["cats/b.mp4"]], [], label_set="wide")
    assert batch.rated.tolist() == [[False, True]]
    assert [i.split for i in items.values()] == ["train", "train", "test"]


def test_intervals_are_items_of_their_own(store, tmp_path):
    path = write(tmp_path, "video_id,start,end,labels\na,0,1.5,x\na,1.5,2,y;x\n")
    label_from_file(store, path)
    assert [i.id for i in store.items()] == ["cats/a.mp4@0-1.5", "cats/a.mp4@1.5-2"]


def test_a_list_of_classes_gives_the_order_and_refuses_others(store, tmp_path):
    path = write(tmp_path, "id,label\na,cat\nb,emu\n")
    with pytest.raises(UnknownName, match="unknown class 'emu'"):
        label_from_file(store, path, classes=["dog", "cat"])
    label_from_file(store, path, classes=["emu", "dog", "cat"])
    assert store.classes() == ("emu", "dog", "cat")


def test_a_byte_order_mark_and_spaces_are_no_part_of_the_names(store, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xef\xbb\xbfvideo_id, labels\r\na, cat; pet\r\n")
    assert label_from_file(store, path) == []
    assert store.classes() == ("cat", "pet")


# splits


@pytest.mark.parametrize("fractions", [(1.0,), (0.5, 0.6), (0.5, 0.2, 0.2, 0.1), (1.5, -0.5)])
def test_fractions_that_are_none_are_refused(store, fractions):
    with pytest.raises(MmfError, match="expected two or three numbers that add up to 1"):
        split(store, fractions)


def test_an_unknown_column_says_which_there_are(store):
    store.catalog.add_videos([{"video_id": v, "series": "x"} for v in VIDEOS])
    with pytest.raises(UnknownName, match="Did you mean 'series'"):
        split(store, by="serie")


def test_a_group_stays_on_one_side_whatever_the_order_and_the_subset():
    groups = {f"v{i:04}": f"g{i // 3 % 200}" for i in range(3000)}
    found = assign(groups, seed=1)
    sides = {}
    for video, group in groups.items():
        assert sides.setdefault(group, found[video]) == found[video]
    shares = [sum(s == n for s in found.values()) / 3000 for n in ("train", "val", "test")]
    np.testing.assert_allclose(shares, (0.8, 0.1, 0.1), atol=0.02)
    assert found == assign(dict(reversed(groups.items())), seed=1) != assign(groups, seed=2)


def test_each_class_is_divided_by_itself():
    strata = {f"v{i}": "rare" if i % 10 == 0 else "common" for i in range(200)}
    found = assign({v: v for v in strata}, (0.6, 0.2, 0.2), strata=strata)
    rare = [found[v] for v in strata if strata[v] == "rare"]
    assert (rare.count("train"), rare.count("val"), rare.count("test")) == (12, 4, 4)


@pytest.mark.parametrize(
    ("fractions", "seed", "alone", "grouped"),
    [
        (
            *((0.8, 0.1, 0.1), 0, "rrrrrarrrrarrrrrrrarreearerrarrrrrrrerer"),
            "aerraerrearreaerraerrearreaerraerrearrea",
        ),
        (
            *((0.8, 0.1, 0.1), 5, "aarrrerrrerrrrarrrrrarrerarrerrrrrrrrrre"),
            "raeerraarreearaeerraarreearaeerraarreear",
        ),
        (
            *((0.5, 0.5), 0, "ararraarrrarrraaaraaarraarrraaraaaarrrrr"),
            "rarrraaaarrrararrraaaarrrararrraaaarrrar",
        ),
    ],
)
def test_a_video_falls_where_it_always_has(fractions, seed, alone, grouped):
    videos = [f"v{n:02}" for n in range(40)]
    strata = {v: "abbcccc"[n % 7] for n, v in enumerate(videos) if n % 9}
    for groups, wanted in (
        ({v: v for v in videos}, alone),
        ({v: f"g{n * n % 13}" for n, v in enumerate(videos)}, grouped),
    ):
        found = assign(groups, fractions, seed=seed, strata=strata)
        assert "".join(found[v][1] for v in videos) == wanted  # tRain, vAl, tEst


def test_a_split_is_kept_in_the_store_under_its_name(store):
    store.catalog.add_videos([{"video_id": v, "series": v[:4]} for v in VIDEOS])
    found = split(store, (0.5, 0.5), by="series", name="series")
    assert FeatureStore(store.path).catalog.splits("series") == found
    assert found["cats/a.mp4"] == found["cats/b.mp4"] != found["dogs/c.mp4"]
    store.label({v: ["x"] for v in VIDEOS})
    assert len(store.items("train", split_set="series")) == 2


def test_an_item_of_which_few_classes_are_rated_knows_nothing_of_the_others(store):
    table = pa.table(
        {
            "video_id": ["cats/b.mp4", "cats/a.mp4", "cats/a.mp4"],
            "start": [0.0, 5.0, 5.0],
            "end": [5.0, 10.0, 10.0],
            "labels": [[2], [], [1]],
            "unrated": [[], [], []],
            "rated": [[0, 2], [1], None],
        },
        schema=LABELS,
    )
    store.catalog.add_label_rows("segments", table, ["0", "1", "2"])
    items = store.items(label_set="segments")
    assert [(i.id, i.labels, i.rated) for i in items] == [
        ("cats/a.mp4@5-10", (), (1,)),  # the first row of an item counts
        ("cats/b.mp4@0-5", (2,), (0, 2)),
    ]
    batch = store.batch(items, (), label_set="segments")
    np.testing.assert_array_equal(batch.rated, [[0, 1, 0], [1, 0, 1]])
    np.testing.assert_array_equal(batch.labels, [[0, 0, 0], [0, 0, 1]])


def test_class_numbers_follow_the_names_when_label_tables_are_merged(store):
    store.label({"cats/a.mp4": ["b"], "cats/b.mp4": ["a"]})
    row = {"video_id": "dogs/a.mp4", "labels": [0], "unrated": [1]}
    store.catalog.add_label_rows("default", pa.Table.from_pylist([row], LABELS), ["c", "a"])
    assert store.classes() == ("a", "b", "c")
    found = {i.video_id: (i.labels, i.unrated) for i in store.items()}
    assert found == {
        "cats/a.mp4": ((1,), ()),
        "cats/b.mp4": ((0,), ()),
        "dogs/a.mp4": ((2,), (0,)),
    }


def test_the_classes_are_known_without_the_table_of_labels(store):
    store.label({"v1": ["dog"], "v2": ["cat"]})
    (table,) = store.path.glob("catalog/labels/default/*.parquet")
    table.unlink()
    assert store.classes() == ("cat", "dog")
