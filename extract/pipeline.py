"""One lane of extraction: decode ║ batch across videos ║ forward ║ scatter ║ write.

Rows of different videos share a batch of each feature; a batch is always of the recipe's shape,
so that a row has the same bits whatever stands beside it. A video is written when all of its rows
of all features are there; a bucket of videos is committed together.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import numpy as np

from mmf.extract.backbones import Backbone
from mmf.extract.chosen import Chosen
from mmf.extract.decoder.events import Ended, Event, Failed, Restarted, Sample
from mmf.extract.decoder.parent import Decoder, Some
from mmf.extract.hearing import Listener
from mmf.extract.manifest import Input
from mmf.extract.rows import RowBatch, Rows, Unstorable, storable
from mmf.extract.signals import Signal
from mmf.extract.spent import Forward, Spent
from mmf.extract.stopping import Stop, Stopped
from mmf.store import FeatureSpec, Media, Outcome, Track
from mmf.store.writer import Writer

AHEAD = 8  # files submitted to the decoder: clips of a row or two must fill batches too
BUCKET_VIDEOS = 256
BUCKET_BYTES = 256 << 20
BUCKET_SECONDS = 60.0

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One video to extract."""

    source: Input
    attempts: int = 1  # this one included
    chosen: Chosen | None = None  # of its rows; None: all


@dataclass(frozen=True, kw_only=True)
class VideoEnded:
    """What became of one video: its status for each feature, and what it took."""

    video_id: str
    status: dict[str, Status]
    reason: str = ""  # of a failure
    message: str = ""
    media: Media


@dataclass(frozen=True, kw_only=True)
class Undone:
    """A video that was told of was not committed after all; it is tried again."""

    ended: VideoEnded


class Tasks(Protocol):
    """Where a lane takes its videos from."""

    def take(self, *, wait: bool) -> Task | None:
        """The next video; None if there is none (`wait`: for good) at the moment."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One feature of a lane: what is stored, and what computes it."""

    spec: FeatureSpec
    backbone: Backbone


@dataclass(kw_only=True)
class _Video:
    """A video on its way; `ended` once the decoder is through with it."""

    task: Task
    features: list[Rows]
    ended: Ended | None = None


class Lane:
    """Takes videos, decodes them beside, computes their rows and commits them bucket by bucket."""

    def __init__(
        self,
        features: Sequence[Feature],
        writer: Writer,
        *,
        decoder: Callable[[Sequence[Signal]], AbstractContextManager[Decoder]],
        on_decoded: Callable[[], None] = lambda: None,
        on_ended: Callable[[VideoEnded], None] = lambda _: None,
        on_committed: Callable[[], None] = lambda: None,
    ):
        self._features = features
        self._writer = writer
        # of one signal, but for what hears its sound
        heard = [(f.backbone.signal, _ear_of(f.backbone)) for f in features]
        wanted = list(dict.fromkeys(heard))
        signals = [signal for signal, _ in wanted]
        self._signal_of = [wanted.index(one) for one in heard]
        self._features_of = [
            [f for f, s in enumerate(self._signal_of) if s == signal]
            for signal in range(len(signals))
        ]
        self._make_decoder = lambda: decoder(signals)
        self._batches = [RowBatch(f.backbone) for f in features]
        ears = zip(self._signal_of, features, strict=True)
        self._listener = Listener(
            {s: f.backbone.transcriber for s, f in ears if f.backbone.transcriber}
        )
        self._videos: dict[str, _Video] = {}
        self._held = 0  # videos put or marked since the last commit
        self._began = self._waited = 0.0
        self._on_decoded, self._on_ended = on_decoded, on_ended
        self._on_committed = on_committed

    def run(self, tasks: Tasks, stop: Stop) -> Spent:
        """Work until there is no task left, or the stop is asked for; then commit.

        An error of the store (OSError) ends the lane; it is never a video's failure. What was not
        committed by then is dropped, and the next run makes it again.
        """
        decoding = 0.0
        try:
            with self._make_decoder() as decoder:
                before = decoder.cpu_seconds
                try:
                    while self._submit(decoder, tasks):
                        events = decoder.events()
                        while (event := stop.wait(partial(self._next, events))) is not None:
                            for heard in self._listener(event):
                                self._handle(heard)
                            if isinstance(event, Ended | Failed):
                                self._submit(decoder, tasks)
                            self._commit_if_due()
                except Stopped:
                    pass
                decoding = decoder.cpu_seconds - before
                self._forward_all()
            self._commit()
        except BaseException:
            self._writer.discard()
            raise
        return Spent(
            lanes=1,
            seconds=time.perf_counter() - self._began if self._began else 0.0,
            waited=self._waited,
            decoder_cpu_seconds=decoding,
            forward=self._spent(),
        )

    def _spent(self) -> dict[str, Forward]:
        """The passes of each feature; the first of those that hear has the hearing's time."""
        found = {f.spec.name: b.spent for f, b in zip(self._features, self._batches, strict=True)}
        for signal, spent in self._listener.spent.items():
            found[self._features[self._features_of[signal][0]].spec.name] += spent
        return found

    def _row_seconds(self) -> dict[str, float]:
        """What a row of each feature has taken so far, hearing included."""
        found = {}
        for feature, batch in zip(self._features, self._batches, strict=True):
            if (seconds := batch.row_seconds) is not None:
                found[feature.spec.name] = seconds
        for signal, heard in self._listener.spent.items():
            first = self._features_of[signal][0]
            name, batch = self._features[first].spec.name, self._batches[first]
            if name in found:
                device = self._features[first].backbone.device
                found[name] += heard.busy(device) / batch.spent.rows
        return found

    def _next(self, events: Iterator[Event]) -> Event | None:
        """The decoder's next event; the wait for the first one is its start, and not counted."""
        before = time.perf_counter()
        event = next(events, None)
        now = time.perf_counter()
        if self._began:
            self._waited += now - before
        else:
            self._began = now
        return event

    def _submit(self, decoder: Decoder, tasks: Tasks) -> bool:
        """Keep the decoder fed; False when nothing is left to decode."""
        while decoder.pending < AHEAD:
            task = tasks.take(wait=not decoder.pending)
            if task is None:
                break
            source = task.source
            self._videos[source.video_id] = _Video(
                task=task, features=[Rows() for _ in self._features]
            )
            decoder.submit(
                source.video_id,
                source.path,
                captions=source.captions,
                size=source.size,
                sha256=source.sha256,
                some=self._some(task.chosen),
            )
        return decoder.pending > 0

    def _some(self, chosen: Chosen | None) -> Some | None:
        """The rows that the decoder is to give, of each signal those of all its features."""
        if chosen is None:
            return None
        names = [[self._features[f].spec.name for f in of] for of in self._features_of]
        return chosen.seconds, [chosen.union(of) for of in names]

    def _handle(self, event: Event) -> None:
        video = self._videos[event.key]
        match event:
            case Sample():
                forwarded, chosen = False, video.task.chosen
                for f in self._features_of[event.signal]:
                    if chosen and not chosen.has(self._features[f].spec.name, event.row):
                        continue
                    rows = video.features[f]
                    rows.times.append(event.time)
                    forwarded |= self._batches[f].add(rows, event.payload)
                if forwarded:
                    self._finish_complete()
            case Restarted():
                # rows on their way in a batch go to the old lists, which nobody reads any more
                video.features = [Rows() for _ in self._features]
            case Ended():
                video.ended = event
                self._on_decoded()
                self._finish_complete()
            case Failed():
                del self._videos[event.key]
                self._on_decoded()
                self._fail(video.task, event)

    def _finish_complete(self) -> None:
        for key, video in list(self._videos.items()):
            complete = all(len(rows.values) == len(rows.times) for rows in video.features)
            if video.ended is not None and complete:
                del self._videos[key]
                self._finish(video, video.ended)

    def _finish(self, video: _Video, ended: Ended) -> None:
        outcomes: dict[str, Outcome | None] = {}
        for feature, signal, rows in zip(
            self._features, self._signal_of, video.features, strict=True
        ):
            name = feature.spec.name
            if signal in ended.missing:
                outcomes[name] = _outcome(
                    video.task, "skipped", ended.missing[signal], ended.media, stage="open"
                )
                continue
            try:
                values = storable(feature.spec, rows)
            except Unstorable as error:
                outcomes[name] = _outcome(
                    video.task, "failed", error.reason, ended.media, "embed", str(error)
                )
                continue
            times = np.array(rows.times, np.float64)
            track = Track(video_id=video.task.source.video_id, values=values, times=times)
            how = "transcribed" if signal in ended.transcribed else None
            self._writer.put(name, track, media=ended.media, reason=how)
            outcomes[name] = None
        self._settle(video.task, outcomes, ended.media)

    def _fail(self, task: Task, event: Failed) -> None:
        outcome = _outcome(task, "failed", event.reason, event.media, event.stage, event.message)
        self._settle(task, {f.spec.name: outcome for f in self._features}, event.media)

    def _settle(self, task: Task, outcomes: dict[str, Outcome | None], media: Media) -> None:
        """Mark what has no rows, and tell of the video; None stands for rows."""
        for name, outcome in outcomes.items():
            if outcome is not None:
                self._writer.mark(name, outcome)
        self._held += 1
        failed = next((o for o in outcomes.values() if o and o.status == "failed"), None)
        self._on_ended(
            VideoEnded(
                video_id=task.source.video_id,
                status={name: o.status if o else "done" for name, o in outcomes.items()},
                reason=failed.reason if failed else "",
                message=failed.message if failed else "",
                media=media,
            )
        )

    def _forward_all(self) -> None:
        for batch in self._batches:
            batch.finish()
        self._finish_complete()

    def _commit_if_due(self) -> None:
        if not self._held:
            return
        full = self._held >= BUCKET_VIDEOS or self._writer.bytes >= BUCKET_BYTES
        if full or self._writer.age_seconds >= BUCKET_SECONDS:
            self._forward_all()  # videos that wait for one row in a rarely filled batch
            self._commit()

    def _commit(self) -> None:
        self._writer.commit(self._row_seconds())
        self._held = 0
        self._on_committed()


def _ear_of(backbone: Backbone) -> str:
    """What is the same for two backbones whose files are heard alike."""
    return str(backbone.transcriber and sorted(backbone.transcriber.details.items()))


def _outcome(
    task: Task,
    status: Literal["skipped", "failed"],
    reason: str,
    media: Media,
    stage: str = "",
    message: str = "",
) -> Outcome:
    return Outcome(
        video_id=task.source.video_id,
        status=status,
        reason=reason,
        stage=stage,
        message=message,
        attempts=task.attempts,
        media=media,
    )
