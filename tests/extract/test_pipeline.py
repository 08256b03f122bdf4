"""One lane: rows of several videos in a batch, scattered back, committed bucket by bucket."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from mmf.extract import pipeline
from mmf.extract.backbones.contract import Backbone, Setup
from mmf.extract.decoder.events import Ended, Event, Failed, Restarted, Sample
from mmf.extract.manifest import Input
from mmf.extract.pipeline import Feature, Lane, Task, VideoEnded
from mmf.extract.signals import Cues, Signal, Waves
from mmf.extract.stopping import Stop
from mmf.store import FeatureSpec, FeatureStore, Media

MEDIA = Media(path="x.mp4", size_bytes=10, duration=3.0, frames=30)


class Double(Backbone):
    """Twice the payload; keeps what it saw."""

    modality: ClassVar[str] = "audio"
    default_signal: ClassVar[Signal] = Waves(samples=2)

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self.row_shape = (2,)
        self.batch = setup.batch or 4
        self.seen: list[np.ndarray] = []

    def rows(self, payloads: np.ndarray) -> np.ndarray:
        self.seen.append(payloads.copy())
        return payloads * 2


class Length(Backbone):
    """The length of a text."""

    modality: ClassVar[str] = "text"
    default_signal: ClassVar[Signal] = Cues()

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self.row_shape = (1,)

    def rows(self, payloads: np.ndarray) -> np.ndarray:
        return np.array([[len(text)] for text in payloads], np.float32)


class Script:
    """A decoder in this process that plays events written by the test."""

    cpu_seconds = 0.0

    def __init__(self, events: dict[str, list[Event]]):
        self.events_of, self.queue, self.closed = events, [], False

    def __enter__(self) -> "Script":
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    @property
    def pending(self) -> int:
        return len(self.queue)

    def submit(self, key: str, path: str, **_: object) -> None:
        self.queue.append(key)

    def events(self) -> Iterator[Event]:
        while self.queue:
            for event in self.events_of[self.queue[0]]:
                if isinstance(event, Ended | Failed):
                    self.queue.pop(0)
                yield event
                if isinstance(event, Sample) and isinstance(event.payload, np.ndarray):
                    event.payload[:] = -99  # the memory is another row's by now


class Listed:
    def __init__(self, tasks: Sequence[Task]):
        self.tasks = list(tasks)

    def take(self, *, wait: bool) -> Task | None:
        return self.tasks.pop(0) if self.tasks else None


def sample(key: str, row: int, value: float) -> Sample:
    payload = np.array([value, row], np.float32)
    return Sample(key=key, signal=0, row=row, time=row + 0.5, payload=payload)


def video(key: str, values: Sequence[float], missing: dict[int, str] | None = None) -> list[Event]:
    rows = (len(values), 0)
    end = Ended(key=key, media=MEDIA, rows=rows, missing=missing or {1: "no_captions"})
    return [*(sample(key, row, value) for row, value in enumerate(values)), end]


class Bench:
    """A store, two features and a lane over scripted events."""

    def __init__(self, folder: Path, events: dict[str, list[Event]], dtype: str = "float32"):
        self.store = FeatureStore.create(folder / "s.mmf")
        self.double = Double(Setup(name="double", signal=Double.default_signal))
        backbones = {"audio": self.double, "text": Length(Setup(name="length", signal=Cues()))}
        self.features = [
            Feature(
                spec=self.store.create_feature(
                    FeatureSpec(name=name, modality=name, shape=b.row_shape, dtype=dtype)
                ),
                backbone=b,
            )
            for name, b in backbones.items()
        ]
        self.script = Script(events)
        self.ended: list[VideoEnded] = []
        self.writer = self.store.writer()
        self.commits: list[int] = []
        self.tasks = [Task(source=Input(video_id=key, path=f"{key}.mp4")) for key in events]

    def run(self, stop: Stop | None = None) -> None:
        commit = self.writer.commit

        def counted(row_seconds: dict[str, float]) -> None:
            self.commits.append(self.writer.videos)
            commit(row_seconds)

        self.writer.commit = counted
        lane = Lane(
            self.features, self.writer, decoder=lambda _: self.script, on_ended=self.ended.append
        )
        lane.run(Listed(self.tasks), stop or Stop())
        self.store.refresh()


def reasons(store: FeatureStore) -> dict[tuple[str, str], tuple[str, str]]:
    return {
        (f["video_id"], f["feature"]): (f["reason"], f["stage"])
        for f in store.failures().to_pylist()
    }


# bad input first


def test_a_failed_video_fails_every_feature_and_the_others_go_on(tmp_path):
    failed = Failed(key="b", reason="truncated", stage="decode", message="cut", media=MEDIA)
    bench = Bench(
        tmp_path, {"a": video("a", [1, 2]), "b": [sample("b", 0, 9), failed], "c": video("c", [3])}
    )
    bench.run()
    assert bench.store.state("audio") == {"a": "done", "b": "failed", "c": "done"}
    assert reasons(bench.store) == {
        ("b", "audio"): ("truncated", "decode"),
        ("b", "text"): ("truncated", "decode"),
    }
    assert bench.store.read("audio", "c").values.tolist() == [[6, 0]]


@pytest.mark.parametrize(
    ("value", "dtype", "reason"),
    [(np.nan, "float16", "nonfinite"), (np.inf, "float32", "nonfinite"),
     (60000.0, "float16", "out_of_range")],
)  # fmt: skip
def test_rows_that_cannot_be_stored_fail_their_video_alone(tmp_path, value, dtype, reason):
    bench = Bench(tmp_path, {"a": video("a", [1, value, 2]), "b": video("b", [4])}, dtype=dtype)
    bench.run()
    assert bench.store.state("audio") == {"a": "failed", "b": "done"}
    assert bench.store.state("text") == {"a": "skipped", "b": "skipped"}
    assert reasons(bench.store) == {("a", "audio"): (reason, "embed")}
    told = {e.video_id: (e.status["audio"], e.reason) for e in bench.ended}
    assert told == {"a": ("failed", reason), "b": ("done", "")}


def test_an_error_of_the_store_ends_the_lane_and_blames_no_video(tmp_path):
    bench = Bench(tmp_path, {"a": video("a", [1])})

    def full(row_seconds: dict[str, float]) -> None:
        raise OSError(28, "No space left on device")

    bench.writer.commit = full
    with pytest.raises(OSError, match="No space left"):
        Lane(bench.features, bench.writer, decoder=lambda _: bench.script).run(
            Listed(bench.tasks), Stop()
        )
    assert bench.script.closed
    bench.store.refresh()
    assert bench.store.state("audio") == {}
    assert list((bench.store.path / "tmp").iterdir()) == []


# what a lane does


def test_rows_of_different_videos_share_a_batch_and_find_home(tmp_path):
    events = {k: video(k, [10 * n + row for row in range(n)]) for n, k in enumerate("abcdef")}
    bench = Bench(tmp_path, events)
    bench.run()
    assert len(bench.double.seen) == 4  # 15 rows in batches of 4
    assert all(len(batch) == 4 for batch in bench.double.seen)
    assert bench.double.seen[0][:, 0].tolist() == [10, 20, 21, 30]
    for n, key in enumerate("abcdef"):
        track = bench.store.read("audio", key)
        assert track.values.tolist() == [[2 * (10 * n + row), 2 * row] for row in range(n)]
        assert track.times.tolist() == [row + 0.5 for row in range(n)]
    assert {e.video_id for e in bench.ended} == set("abcdef")


def test_a_stream_that_is_not_there_is_skipped_for_its_feature_only(tmp_path):
    cue = Sample(key="b", signal=1, row=0, time=0.25, payload="hello")
    both_missing = Ended(key="b", media=MEDIA, rows=(0, 1), missing={0: "no_such_stream"})
    bench = Bench(tmp_path, {"a": video("a", [1]), "b": [cue, both_missing]})
    bench.run()
    assert bench.store.state("audio") == {"a": "done", "b": "skipped"}
    assert bench.store.state("text") == {"a": "skipped", "b": "done"}
    assert bench.store.read("text", "b").values.tolist() == [[5]]
    assert len(bench.store.failures()) == 0


def test_a_file_that_is_decoded_anew_has_each_row_once(tmp_path):
    crashed = [*(sample("a", row, 7) for row in range(6)), Restarted(key="a")]
    bench = Bench(tmp_path, {"a": [*crashed, *video("a", [1, 2, 3])], "b": video("b", [4])})
    bench.run()
    assert bench.store.read("audio", "a").values[:, 0].tolist() == [2, 4, 6]
    assert bench.store.read("audio", "b").values[:, 0].tolist() == [8]


def test_a_bucket_closes_at_its_number_of_videos(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "BUCKET_VIDEOS", 3)
    events = {f"v{n}": video(f"v{n}", [n] * 4) for n in range(8)}
    bench = Bench(tmp_path, events)
    bench.run()
    assert bench.commits == [3, 3, 2]


def test_a_bucket_closes_at_its_age_with_the_rows_that_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "BUCKET_SECONDS", 0.0)
    # a's 5th row would wait in a batch until the end; b's end closes the bucket
    bench = Bench(tmp_path, {"a": video("a", [1] * 5), "b": video("b", [2] * 3)})
    bench.run()
    assert sum(bench.commits) == 2
    assert set(bench.store.state("audio").values()) == {"done"}


def test_sigterm_commits_what_is_finished_and_leaves_the_rest(tmp_path):
    class Killed(Script):
        def events(self) -> Iterator[Event]:
            for event in super().events():
                yield event
                if event.key == "c":
                    os.kill(os.getpid(), signal.SIGTERM)

    bench = Bench(tmp_path, {k: video(k, [1, 2, 3]) for k in "abcde"})
    bench.script = Killed(bench.script.events_of)
    with Stop() as stop:
        bench.run(stop)
    assert stop.requested == "SIGTERM"
    assert bench.script.closed
    assert bench.store.state("audio") == {"a": "done", "b": "done"}
    assert bench.store.read("audio", "b").values[:, 0].tolist() == [2, 4, 6]


def test_a_signal_during_a_forward_does_not_tear_it(tmp_path):
    class Interrupting(Double):
        def rows(self, payloads: np.ndarray) -> np.ndarray:
            os.kill(os.getpid(), signal.SIGINT)
            return super().rows(payloads)

    bench = Bench(tmp_path, {k: video(k, [1, 2, 3, 4]) for k in "ab"})
    backbone = Interrupting(Setup(name="double", signal=Double.default_signal))
    bench.features[0] = Feature(spec=bench.features[0].spec, backbone=backbone)
    with Stop() as stop:
        bench.run(stop)
    assert stop.requested == "SIGINT"
    assert bench.store.state("audio") == {}  # a had its rows, but not yet its end
