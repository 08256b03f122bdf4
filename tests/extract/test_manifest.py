"""Sources: folders, files and tables of files, and what is wrong with them in words."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmf import MmfError
from mmf.extract.manifest import Input, Manifest, read_manifest
from mmf.extract.manifest.folders import is_media, looks_like_media


def ids(manifest: Manifest) -> list[str]:
    return [one.video_id for one in manifest.inputs()]


def touch(folder, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def table(folder, text: str, name: str = "list.csv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


# ---- what is refused


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,path\na,a.mp4\n", "no column 'video_id'"),
        ("video_id,file\na,a.mp4\n", "no column 'path'"),
        ("video_id,path\n", "has no rows"),
        ("", "not a CSV|no column"),
        ("video_id,path\na,a.mp4\nb\n", "not a CSV"),
        ("video_id,path\n,a.mp4\n", "row 1, column 'video_id': None; expected an id"),
        ("video_id,path\na,\n", "row 1, column 'path'"),
        ("video_id,path,start,end\na,a.mp4,0,1\nb,b.mp4,x,1\n", "row 2, column 'start': 'x'"),
        ("video_id,path,start,end\na,a.mp4,2,1\n", "interval from 2.0 to 1.0 is none"),
        ("video_id,path,start,end\na,a.mp4,2,\n", "interval from 2.0 to None is none"),
        ("video_id,path,start,end\na,a.mp4,0,inf\n", "column 'end': 'inf'"),
        ("video_id,path,size\na,a.mp4,-1\n", "column 'size': '-1'; expected a number of bytes"),
        ("video_id,path,sha256\na,a.mp4,abc\n", "column 'sha256': 'abc'; expected 64"),
        ("video_id,path\na,a.mp4\na,b.mp4\n", "several files to one video_id: 'a'"),
    ],
)
def test_a_table_that_is_wrong_says_where(tmp_path, text, words):
    with pytest.raises(MmfError, match=words):
        read_manifest(table(tmp_path, text))


def test_clashing_ids_are_listed_but_not_all(tmp_path):
    rows = "".join(f"v{i},a.mp4\nv{i},b.mp4\n" for i in range(25))
    with pytest.raises(MmfError, match="'v0', .*'v19' and 5 more"):
        read_manifest(table(tmp_path, "video_id,path\n" + rows))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("list.jsonl", b'{"video_id": "a", "path": "a"}\n{oops\n', "line 2: not JSON"),
        ("list.jsonl", b"[1]\n", "line 1: expected an object"),
        ("list.jsonl", b'{"video_id": "\xff"}\n', "line 1: not JSON"),
        ("list.parquet", b"PAR1 but not really", "not a Parquet file"),
        ("list.csv", b"video_id,path\n\xff\xfe,a\n", "not a CSV"),
        ("list.tsv", b"video_id\tpath\n", "no known type"),
        ("notes.txt", b"hello", "no known type"),
    ],
)
def test_a_file_that_is_no_table_says_so(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MmfError, match=words):
        read_manifest(tmp_path / name)


def test_a_source_without_media_says_so(tmp_path):
    touch(tmp_path, "notes.txt", "a/picture.jpg", ".hidden.mp4")
    with pytest.raises(MmfError, match="holds no media files"):
        read_manifest(tmp_path)
    with pytest.raises(MmfError, match="no such file or folder"):
        read_manifest(tmp_path / "gone")
    touch(tmp_path, "mmf.json")
    with pytest.raises(MmfError, match="is a feature store"):
        read_manifest(tmp_path)


# ---- folders


def test_a_folder_gives_its_media_files_in_order(tmp_path):
    touch(
        tmp_path, "b.mp4", "a/z.MKV", "a/b c.wav", "B.webm", "a/b.srt", "c.json", "d.jpg", "e.gif"
    )
    touch(tmp_path, ".hidden/x.mp4", "a/.x.mp4", "features.mmf/mmf.json", "features.mmf/y.mp4")
    made = read_manifest(tmp_path)
    assert ids(made) == ["B.webm", "a/b c.wav", "a/z.MKV", "b.mp4", "e.gif"]
    assert [one.path for one in made.inputs()] == [str(tmp_path / name) for name in ids(made)]
    assert made.labels == made.split == {}
    assert len(made) == 5


def test_files_without_a_known_extension_are_known_by_their_first_bytes(tmp_path, clip):
    media = clip("known.mp4", frames=5).read_bytes()
    for name in ("noext", "clip.video", "clip.txt"):
        (tmp_path / name).write_bytes(media)
    (tmp_path / "other.video").write_bytes(b"no media")
    os.mkfifo(tmp_path / "fifo")
    assert ids(read_manifest(tmp_path)) == ["clip.video", "noext"]
    assert not looks_like_media(b"\0\0\0\x1cftypavif")
    assert not looks_like_media(b"RIFF\0\0\0\0WEBP")
    assert not looks_like_media(b"")


def test_links_to_folders_are_followed_once(tmp_path):
    touch(tmp_path, "data/a.mp4")
    (tmp_path / "source").mkdir()
    (tmp_path / "source/linked").symlink_to(tmp_path / "data")
    (tmp_path / "data/back").symlink_to(tmp_path / "data")
    assert ids(read_manifest(tmp_path / "source")) == ["linked/a.mp4"]


def test_folders_are_classes_where_they_hold_everything(tmp_path):
    touch(tmp_path, "cat/1.mp4", "dog/deep/2.mp4")
    assert read_manifest(tmp_path).labels == {"cat/1.mp4": ["cat"], "dog/deep/2.mp4": ["dog"]}
    touch(tmp_path, "3.mp4")
    assert read_manifest(tmp_path).labels == {}


def test_one_folder_is_no_class(tmp_path):
    touch(tmp_path, "clips/1.mp4", "clips/2.mp4")
    assert read_manifest(tmp_path).labels == {}


def test_folders_named_like_splits_are_splits(tmp_path):
    touch(tmp_path, "Train/cat/1.mp4", "train/dog/2.mp4", "valid/cat/3.mp4", "test/dog/4.mp4")
    made = read_manifest(tmp_path)
    assert list(made.split.values()) == ["train", "test", "train", "val"]
    assert made.labels["valid/cat/3.mp4"] == ["cat"]
    touch(tmp_path, "test/5.mp4")
    assert read_manifest(tmp_path).labels == {}
    assert read_manifest(tmp_path).split["test/5.mp4"] == "test"


def test_a_name_that_is_not_utf8_has_an_id_and_its_path(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.mp4")
    with open(path, "wb"):
        pass
    (one,) = read_manifest(tmp_path).inputs()
    assert one.video_id == "caf\\xe9.mp4"
    assert os.path.exists(one.path)


def test_one_media_file_is_a_source(tmp_path, clip):
    path = clip("alone.mp4", frames=5)
    assert list(read_manifest(path).inputs()) == [Input(video_id="alone.mp4", path=str(path))]
    (tmp_path / "plain").write_bytes(path.read_bytes())
    assert is_media(str(tmp_path / "plain"))
    assert ids(read_manifest(tmp_path / "plain")) == ["plain"]


# ---- tables


def test_a_table_keeps_ids_order_and_the_columns_of_its_owner(tmp_path):
    digest = "A" * 64
    text = (
        "video_id,path,captions,labels,split,size,sha256,uploader\n"
        f"007,b/x y.mp4,x.vtt,cat;dog,train,12,{digest},ann\n"
        '"a,b",/abs/z.mp4,,,,,,ben\n'
    )
    made = read_manifest(table(tmp_path, "\ufeff" + text))
    one, other = made.inputs()
    assert one == Input(
        video_id="007",
        path=str(tmp_path / "b/x y.mp4"),
        captions=str(tmp_path / "x.vtt"),
        size=12,
        sha256="a" * 64,
    )
    assert other == Input(video_id="a,b", path="/abs/z.mp4")
    assert made.labels == {"007": ["cat", "dog"]}
    assert made.split == {"007": "train"}
    assert made.table.column("uploader").to_pylist() == ["ann", "ben"]


def test_several_items_of_a_video_are_one_input(tmp_path):
    text = "video_id,path,start,end,labels\na,a.mp4,0,1.5,cat\na,./a.mp4,1.5,3,dog\nb,b.mp4,,,cat\n"
    made = read_manifest(table(tmp_path, text))
    assert ids(made) == ["a", "b"]
    assert made.labels == {("a", 0.0, 1.5): ["cat"], ("a", 1.5, 3.0): ["dog"], "b": ["cat"]}
    assert made.duplicates == 0


def test_a_row_that_stands_twice_counts_once(tmp_path):
    made = read_manifest(table(tmp_path, "video_id,path\na,a.mp4\nb,b.mp4\na,a.mp4\n"))
    assert (ids(made), made.duplicates, len(made.table)) == (["a", "b"], 1, 2)
    same = "f" * 64
    text = f"video_id,path,sha256\na,a.mp4,{same}\na,copy.mp4,{same}\n"
    assert read_manifest(table(tmp_path, text)).duplicates == 1


def test_the_three_kinds_of_table_say_the_same(tmp_path):
    rows = [
        {
            "video_id": "1",
            "path": "a.mp4",
            "start": 0.5,
            "end": 2.0,
            "labels": ["x", "y"],
            "note": "n",
        },
        {
            "video_id": "2",
            "path": "b.mp4",
            "start": None,
            "end": None,
            "labels": None,
            "note": None,
        },
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "list.parquet")
    table(tmp_path, "".join(json.dumps(row) + "\n\n" for row in rows), "list.jsonl")
    table(tmp_path, "video_id,path,start,end,labels,note\n1,a.mp4,0.5,2,x;y,n\n2,b.mp4,,,,\n")
    made = [read_manifest(tmp_path / f"list.{kind}") for kind in ("parquet", "jsonl", "csv")]
    for other in made[1:]:
        assert list(other.inputs()) == list(made[0].inputs())
        assert other.labels == made[0].labels == {("1", 0.5, 2.0): ["x", "y"]}
        assert other.table.to_pylist() == made[0].table.to_pylist()


def test_numbers_and_mixed_types_in_json_are_texts(tmp_path):
    text = '{"video_id": 7, "path": "a"}\n{"video_id": "b", "path": "b", "note": {"x": 1}}\n'
    assert ids(read_manifest(table(tmp_path, text, "list.jsonl"))) == ["7", "b"]


def test_the_real_folder_has_77_inputs_and_no_captions_among_them(shared_data):
    made = read_manifest(shared_data / "videos")
    assert len(made) == 77
    assert not any(name.endswith((".vtt", ".srt", ".json", ".md")) for name in ids(made))
    assert sum(name.endswith((".video", ".audio")) for name in ids(made)) == 6


# ---- by columns


def parquet(folder, **columns) -> str:
    pq.write_table(pa.table(columns), folder / "list.parquet")
    return str(folder / "list.parquet")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"video_id": ["a", None], "path": ["a", "b"]}, "row 2, column 'video_id': None"),
        ({"video_id": ["a", "b"], "path": ["a", ""]}, "row 2, column 'path': ''"),
        ({"video_id": ["a"], "path": ["a"], "size": [-1]}, "'size': -1; expected a number"),
        (
            {"video_id": ["a"], "path": ["a"], "start": [0.0], "end": [float("nan")]},
            "column 'end': nan; expected seconds",
        ),
        ({"video_id": ["b", "a", "b"], "path": ["1", "2", "3"]}, "several files .*: 'b'. Give"),
    ],
)
def test_columns_of_the_right_type_are_checked_too(tmp_path, columns, words):
    with pytest.raises(MmfError, match=words):
        read_manifest(parquet(tmp_path, **columns))


def test_a_row_that_is_wrong_is_named_by_its_number_in_the_whole_list(tmp_path, monkeypatch):
    monkeypatch.setattr("mmf.extract.manifest.columns.AT_ONCE", 2)
    rows = "".join(f"v{i},v{i}.mp4,{i}\n" for i in range(5))
    with pytest.raises(MmfError, match="row 6, column 'size': 'x'"):
        read_manifest(table(tmp_path, f"video_id,path,size\n{rows}b,b.mp4,x\n"))


def test_every_kind_of_path_is_joined_as_one_by_one(tmp_path):
    paths = {
        "a.mp4": tmp_path / "a.mp4",
        "/abs/b.mp4": "/abs/b.mp4",
        "./c.mp4": tmp_path / "c.mp4",
        "x/../d.mp4": tmp_path / "d.mp4",
        "x//e.mp4": tmp_path / "x/e.mp4",
        "/abs/./f.mp4": "/abs/f.mp4",
        "g/": tmp_path / "g",
        "日本/h.mp4": tmp_path / "日本/h.mp4",
        "https://host/i//j.mp4": "https://host/i//j.mp4",
        ".hidden/..k.mp4": tmp_path / ".hidden/..k.mp4",
    }
    captions = [*list(paths)[1:], None]
    ids = [str(n) for n in range(len(paths))]
    made = read_manifest(parquet(tmp_path, video_id=ids, path=[*paths], captions=captions))
    expected = [str(path) for path in paths.values()]
    assert [one.path for one in made.inputs()] == expected
    assert [one.captions for one in made.inputs()] == [*expected[1:], None]


def test_paths_are_joined_to_a_folder_as_it_was_named(tmp_path, monkeypatch):
    table(tmp_path, "video_id,path\na,a.mp4\nb,../b.mp4\n")
    monkeypatch.chdir(tmp_path)
    for source, paths in (
        ("list.csv", ["a.mp4", "../b.mp4"]),
        ("./list.csv", ["a.mp4", "../b.mp4"]),
    ):
        assert [one.path for one in read_manifest(source).inputs()] == paths


def test_repeats_are_found_wherever_they_stand(tmp_path):
    ids = ["c", "a", "c", "b", "a", "c", "a"]
    starts = [0.0, None, 1.0, None, None, 0.0, 0.0]
    ends = [1.0, None, 2.0, None, None, 1.0, 5.0]
    made = read_manifest(parquet(tmp_path, video_id=ids, path=ids, start=starts, end=ends))
    assert made.duplicates == 2
    assert made.table["video_id"].to_pylist() == ["c", "a", "c", "b", "a"]
    assert made.first.tolist() == [0, 1, 3]
    assert [one.video_id for one in made.inputs(made.first[1:])] == ["a", "b"]


def test_columns_of_the_owner_are_texts_and_lists_are_left_out(tmp_path):
    own = {"year": [1999, None], "good": [True, False], "tags": [["x"], []], "raw": [b"1", b"2"]}
    made = read_manifest(parquet(tmp_path, video_id=["a", "b"], path=["a", "b"], **own))
    assert made.described.to_pylist() == [
        {"video_id": "a", "year": "1999", "good": "True"},
        {"video_id": "b", "year": None, "good": "False"},
    ]
