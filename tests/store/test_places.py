"""Where videos stand among others: against a look-up in a dictionary."""

import random
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from mmf.store.places import at_places, distinct, firsts, places

ORDERED = sorted({f"v{n * 7 % 101}" for n in range(80)})


def chunked(values, *cuts):
    edges = [0, *cuts, len(values)]
    parts = [values[a:b] for a, b in pairwise(edges)]
    return pa.chunked_array([pa.array(part, pa.string()) for part in parts], pa.string())


@pytest.mark.parametrize(
    "asked",
    [
        [],
        ["v0", "a", "", "zz", "v5", "v5"],
        ORDERED,
        ORDERED[3:],
        [*ORDERED[:-1], "zz"],
        random.Random(0).sample(ORDERED, 40),
    ],
    ids=["none", "some", "the same", "its end", "all but the last", "drawn"],
)
@pytest.mark.parametrize("cuts", [(), (1, 30)])
def test_a_place_is_that_of_the_very_id_and_of_no_other(asked, cuts):
    at = {video: place for place, video in enumerate(ORDERED)}
    found = places(chunked(asked, *cuts[: len(asked)]), chunked(ORDERED, 10))
    assert found.dtype == np.int64
    assert found.tolist() == [at.get(video, -1) for video in asked]
    values = at_places(pa.array(range(len(ORDERED))), found)
    assert values.to_pylist() == [at.get(video) for video in asked]


def test_nothing_stands_in_no_ids():
    assert places(pa.array(["a"]), pa.array([], pa.string())).tolist() == [-1]


@pytest.mark.parametrize("ids", [[], ["a"], ["a", "a"], ["a", "a", "b", "c", "c"]])
def test_the_first_of_each_video_in_order(ids):
    assert firsts(chunked(ids, *range(min(len(ids), 1)))).tolist() == [
        ids.index(video) for video in sorted({*ids})
    ]


@pytest.mark.parametrize("ids", [[], ["a"], ["a", "b"], ["a", "a", "b"], ["b", "a"], ["b", "b"]])
def test_distinct_videos_are_in_order(ids):
    assert distinct(chunked(ids, *range(min(len(ids), 1)))).to_pylist() == sorted({*ids})
