"""The books of a job: what it says on the way, and what it leaves behind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mmf.cluster.watch import ClusterSeen, ClusterStarted
from mmf.extract.pipeline import Undone, VideoEnded
from mmf.extract.spent import Spent
from mmf.extract.stopping import Stop

JUDGED_AFTER = 200  # videos, before the share of failures can end a job


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Inputs of one feature by what became of them; `missing` only where the job did not end."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    missing: int = 0


@dataclass(frozen=True, kw_only=True)
class JobStarted:
    """Said once, before the first video: how many inputs, and how many have something to do."""

    inputs: int
    todo: int
    lanes: int


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What a job found and did."""

    inputs: int
    todo: int  # inputs that had something to do when the job began
    tried: int = 0
    failed: int = 0  # of those tried
    counts: Mapping[str, Counts] = field(default_factory=dict)  # by feature, earlier runs included
    frames: int = 0
    media_seconds: float = 0.0
    seconds: float = 0.0
    spent: Spent = field(default_factory=Spent)
    stopped: str = ""  # "" = ran to its end; SIGTERM, SIGINT, failures
    max_failure_rate: float = 0.05

    @property
    def exit_code(self) -> int:
        """0 within the limit of failures, 3 above it, 75 on SIGTERM, 130 on SIGINT."""
        if self.stopped in ("SIGTERM", "SIGINT"):
            return {"SIGTERM": 75, "SIGINT": 130}[self.stopped]
        too_many = self.stopped == "failures" or self.failed > self.max_failure_rate * self.tried
        return 3 if too_many else 0


@dataclass(frozen=True, kw_only=True)
class BucketEnded:
    """What became of a bucket; a few hundred bytes, whatever it held."""

    tried: int = 0
    failed: int = 0
    named: tuple[tuple[str, str], ...] = ()  # of the failed: id and reason of the first
    frames: int = 0
    media_seconds: float = 0.0
    spent: Spent = field(default_factory=Spent)
    refused: str = ""  # why this worker cannot do this work; then nothing was done
    host: str = ""
    stopped: bool = False  # before its end


@dataclass(frozen=True, kw_only=True)
class CurvesBegun:
    """Said once, when there is something for TensorBoard to draw."""

    folder: str


Event = JobStarted | VideoEnded | Undone | BucketEnded | ClusterStarted | ClusterSeen | CurvesBegun
Progress = Callable[[Event], None]


@dataclass(kw_only=True)
class Through:
    """How far a job has come, as its events tell."""

    tried: int = 0
    failed: int = 0  # of those tried
    frames: int = 0
    media_seconds: float = 0.0

    def count(self, event: Event) -> None:
        """Add a video or a bucket that ended; take a video back that was not committed."""
        if isinstance(event, BucketEnded):
            self._add(event.tried, event.failed, event.frames, event.media_seconds)
        elif isinstance(event, VideoEnded):
            self._add_video(event, 1)
        elif isinstance(event, Undone):
            self._add_video(event.ended, -1)

    def _add_video(self, ended: VideoEnded, sign: int) -> None:
        failed, media = "failed" in ended.status.values(), ended.media
        self._add(sign, sign * failed, sign * media.frames, sign * (media.duration or 0.0))

    def _add(self, tried: int, failed: int, frames: int, media_seconds: float) -> None:
        self.tried += tried
        self.failed += failed
        self.frames += frames
        self.media_seconds += media_seconds


class Tally:
    """Counts the videos as they end, and stops a job of which too many fail."""

    def __init__(self, max_failure_rate: float, progress: Progress, stop: Stop):
        self.stop = stop
        self.through, self.spent = Through(), Spent()
        self._max_failure_rate, self._progress = max_failure_rate, progress

    def __call__(self, event: VideoEnded | Undone | BucketEnded | Spent | ClusterSeen) -> None:
        """Count what became of videos, and tell of it; or add what a lane spent."""
        if isinstance(event, Spent):
            self.spent += event
            return
        self.through.count(event)
        if isinstance(event, BucketEnded):
            self.spent += event.spent
        self._judge()
        self._progress(event)

    def _judge(self) -> None:
        n = self.through
        if n.tried >= JUDGED_AFTER and n.failed > self._max_failure_rate * n.tried:
            self.stop.request("failures")
