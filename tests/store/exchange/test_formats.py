"""Every form of YouTube-8M's records, in bytes that TensorFlow 2.21 wrote.

Frame and video level; the first version (`video_id`), the second (`id`), the third (segments), and
what MediaPipe's extractor writes.
"""

import base64

import numpy as np
import pytest

from mmf import MmfError
from mmf.store.exchange import example, youtube8m
from mmf.store.exchange.outline import outline

# of tf.train.SequenceExample and tf.train.Example, by SerializeToString(deterministic=True)
WRITTEN = {
    "frames_v1": """
        CioKEgoGbGFiZWxzEggaBgoEAAOsAgoUCgh2aWRlb19pZBIICgYKBEFiQ2QSOAoZCgVhdWRpbxIQCgYKBAoCBQYKBg
        oECgIHCAobCgNyZ2ISFAoICgYKBAB/gP8KCAoGCgQBAgME
    """,
    "frames_v2": """
        CiQKDgoCaWQSCAoGCgRBYkNkChIKBmxhYmVscxIIGgYKBAADrAISOAoZCgVhdWRpbxIQCgYKBAoCBQYKBgoECgIHCA
        obCgNyZ2ISFAoICgYKBAB/gP8KCAoGCgQBAgME
    """,
    "frames_v3": """
        CqIBCg4KAmlkEggKBgoEQWJDZAoSCgZsYWJlbHMSCBoGCgQAA6wCChwKEXNlZ21lbnRfZW5kX3RpbWVzEgcaBQoDBQ
        oKChoKDnNlZ21lbnRfbGFiZWxzEggaBgoEAwOsAgoiCg5zZWdtZW50X3Njb3JlcxIQEg4KDAAAgD8AAAAAAACAPwoe
        ChNzZWdtZW50X3N0YXJ0X3RpbWVzEgcaBQoDAAUFEjgKGQoFYXVkaW8SEAoGCgQKAgUGCgYKBAoCBwgKGwoDcmdiEh
        QKCAoGCgQAf4D/CggKBgoEAQIDBA==
    """,
    "means_v1": """
        ClwKEgoGbGFiZWxzEggaBgoEAAOsAgoWCgptZWFuX2F1ZGlvEggSBgoEAAAAQAoYCghtZWFuX3JnYhIMEgoKCAAAAD
        8AAKC/ChQKCHZpZGVvX2lkEggKBgoEQWJDZA==
    """,
    "means_v2": """
        ClYKDgoCaWQSCAoGCgRBYkNkChIKBmxhYmVscxIIGgYKBAADrAIKFgoKbWVhbl9hdWRpbxIIEgYKBAAAAEAKGAoIbW
        Vhbl9yZ2ISDBIKCggAAAA/AACgvw==
    """,
    "mediapipe": """
        CjoKGgoOY2xpcC9kYXRhX3BhdGgSCAoGCgRBYkNkChwKEGNsaXAvbGFiZWwvaW5kZXgSCBoGCgQAA6wCEqkBCiIKFE
        FVRElPL2ZlYXR1cmUvZmxvYXRzEgoKCBIGCgQAAAA/CiQKF0FVRElPL2ZlYXR1cmUvdGltZXN0YW1wEgkKBxoFCgOA
        ph0KMgoSUkdCL2ZlYXR1cmUvZmxvYXRzEhwKDBIKCggAAAAAAACAPwoMEgoKCAAAAMAAAABACikKFVJHQi9mZWF0dX
        JlL3RpbWVzdGFtcBIQCgUaAwoBAAoHGgUKA8CEPQ==
    """,
}
RGB = [[0, 127, 128, 255], [1, 2, 3, 4]]
AUDIO = [[5, 6], [7, 8]]


def written(name: str) -> bytes:
    return base64.b64decode("".join(WRITTEN[name].split()))


@pytest.mark.parametrize("name", WRITTEN)
def test_a_record_that_is_cut_short_is_refused_and_never_read_in_part(name):
    data = written(name)
    whole = youtube8m.read_video(data)
    for end in range(len(data)):
        try:
            found = youtube8m.read_video(data[:end])
        except MmfError:
            continue
        # protobuf knows no end of a message: a context without the lists behind it is a whole one
        assert found.video_id == whole.video_id
        assert found.tracks.keys() < whole.tracks.keys()


@pytest.mark.parametrize("name", WRITTEN)
def test_the_id_and_the_labels_are_found_in_every_version(name):
    video = youtube8m.read_video(written(name))
    assert (video.video_id, video.labels) == ("AbCd", (0, 3, 300))


@pytest.mark.parametrize("name", ["frames_v1", "frames_v2", "frames_v3"])
def test_frames_are_codes_one_a_second(name):
    tracks = youtube8m.read_video(written(name)).tracks
    assert tracks["rgb"].values.tolist() == RGB
    assert tracks["audio"].values.tolist() == AUDIO
    assert {t.values.dtype.name for t in tracks.values()} == {"uint8"}
    assert [t.times.tolist() for t in tracks.values()] == [[0, 1], [0, 1]]


@pytest.mark.parametrize("name", ["means_v1", "means_v2"])
def test_means_are_one_row_of_floats(name):
    tracks = youtube8m.read_video(written(name)).tracks
    assert tracks["mean_rgb"].values.tolist() == [[0.5, -1.25]]
    assert tracks["mean_audio"].values.tolist() == [[2.0]]


def test_segments_say_which_classes_were_rated_and_how():
    video = youtube8m.read_video(written("frames_v3"))
    assert video.segments == {(0.0, 5.0): {3: True}, (5.0, 10.0): {3: False, 300: True}}
    assert youtube8m.read_video(written("frames_v2")).segments == {}


def test_mediapipes_floats_and_microseconds_are_read():
    tracks = youtube8m.read_video(written("mediapipe")).tracks
    assert tracks["rgb"].values.tolist() == [[0.0, 1.0], [-2.0, 2.0]]
    assert tracks["rgb"].times.tolist() == [0.0, 1.0]
    assert tracks["audio"].values.tolist() == [[0.5]]
    assert tracks["audio"].times.tolist() == [0.48]


@pytest.mark.parametrize("name", ["frames_v2", "frames_v3", "means_v2"])
def test_what_is_written_is_what_tensorflow_reads_as_the_same(name):
    video = youtube8m.read_video(written(name))
    again = youtube8m.read_video(youtube8m.write_video(video))
    assert (again.labels, again.segments) == (video.labels, video.segments)
    for feature, track in video.tracks.items():
        np.testing.assert_array_equal(again.tracks[feature].values, track.values)


@pytest.mark.parametrize("name", WRITTEN)
def test_protobuf_and_the_outline_see_the_same(name):
    data = written(name)
    theirs = example._CLASS["SequenceExample"].FromString(data)
    context, lists = outline(data)
    assert example._CLASS["Features"].FromString(context) == theirs.context
    expected = {e.key: e.value for e in theirs.feature_lists.feature_list}
    assert {k: bytes(v) for k, v in lists.items()} == expected


def test_a_record_that_is_written_otherwise_is_left_to_protobuf():
    data = written("frames_v2")
    context = data[: 2 + data[1]]
    assert outline(data[len(context) :] + context) is None  # another order
    assert outline(context + data) is None  # a part twice
    assert outline(data + b"\x1a\x00") is None  # a field that nobody knows
    turned = youtube8m.read_video(data[len(context) :] + context)
    assert turned.tracks["rgb"].values.tolist() == RGB


def test_the_outline_agrees_with_protobuf_on_whatever_bytes_it_takes():
    rng = np.random.default_rng(0)
    taken = 0
    for name in WRITTEN:
        for _ in range(300):
            data = bytearray(written(name))
            for _ in range(rng.integers(1, 3)):
                data[rng.integers(len(data))] = rng.integers(256)
            found = outline(bytes(data))
            if found is None:
                continue
            taken += 1
            try:
                theirs = example._CLASS["SequenceExample"].FromString(bytes(data))
            except Exception:  # noqa: BLE001  the context is refused by whoever parses it
                with pytest.raises(MmfError):
                    example.parse(bytes(data))
                continue
            expected = {e.key: e.value for e in theirs.feature_lists.feature_list}
            assert {k: bytes(v) for k, v in found[1].items()} == expected
    assert taken > 100
