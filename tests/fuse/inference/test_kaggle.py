"""Kaggle's CSVs: of videos, and of the best segments of each class."""

import numpy as np
import pyarrow as pa
import pytest

from mmf import MmfError
from mmf.fuse.inference import kaggle
from mmf.fuse.inference.kaggle import write_kaggle
from mmf.fuse.inference.prediction import SCHEMA


def table(rows) -> pa.Table:
    """Rows (video, start, end, {class: score} or None)."""
    found = []
    for video, start, end, scores in rows:
        row = {"item": f"{video}@{start}", "video_id": video, "start": start, "end": end}
        said = {"classes": list(scores), "scores": list(scores.values())} if scores else {}
        found.append(row | said | ({} if scores else {"reason": "no rows"}))
    return pa.Table.from_pylist(found, schema=SCHEMA)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (("v", 0.5, 5.5, {"1": 0.5}), "'v@0.5' is no segment of the challenge"),
        (("v", 0.0, 4.0, {"1": 0.5}), "expected 5 seconds"),
        (("a b", 0.0, 5.0, {"1": 0.5}), "whose id has no space"),
        (("v", 0.0, 5.0, {"cat": 0.5}), "class 'cat' is no number"),
        (("v", None, None, {"1": 0.5}), "there are whole videos and intervals"),
    ],
)
def test_what_the_challenge_cannot_read_is_refused(tmp_path, row, sentence):
    good = ("w", 0.0, 5.0, {"1": 0.5})
    with pytest.raises(MmfError, match=sentence):
        write_kaggle([table([good]), table([row])], tmp_path / "a.csv")


def test_segments_stand_by_class_the_most_confident_first(tmp_path):
    rows = [
        ("abcd", 0.0, 5.0, {"7": 0.5, "10": 0.25}),
        ("abcd", 5.0, 10.0, {"10": 0.75, "7": 0.25}),
        ("abcd", 10.0, 15.0, None),
        ("efgh", 120.0, 125.0, {"7": 0.5}),
    ]
    assert write_kaggle([table(rows[:2]), table(rows[2:])], tmp_path / "a.csv") == 4
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "Class,Segments",
        "7,abcd:0 efgh:120 abcd:5",
        "10,abcd:5 abcd:0",
    ]


@pytest.mark.parametrize("pending", [0, 50, 10**6])
def test_of_many_segments_the_best_of_each_class_are_kept(tmp_path, monkeypatch, pending):
    monkeypatch.setattr(kaggle, "_PENDING", pending)
    generator = np.random.default_rng(0)
    rows, wanted = [], {}
    for i in range(400):
        chosen = generator.choice(30, 4, replace=False)
        scores = {str(c): float(np.float32(generator.integers(0, 40) / 64)) for c in chosen}
        rows.append((f"v{i // 7}", 5.0 * (i % 7), 5.0 * (i % 7) + 5, scores))
        for c, score in scores.items():
            wanted.setdefault(int(c), []).append((-score, i, f"v{i // 7}:{5 * (i % 7)}"))
    parts = [table(rows[i : i + 30]) for i in range(0, 400, 30)]
    write_kaggle(parts, tmp_path / "a.csv", most=11)
    _, *lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines == [
        f"{c},{' '.join(s for _, _, s in sorted(wanted[c])[:11])}" for c in sorted(wanted)
    ]


def test_nothing_to_write_is_a_file_of_nothing(tmp_path):
    assert write_kaggle([table([("v", None, None, None)])], tmp_path / "a.csv") == 1
    assert (tmp_path / "a.csv").read_text() == ""
