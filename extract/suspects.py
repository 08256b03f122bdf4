"""Videos that a lane died of, or beside: they are tried again in ever smaller groups.

When a process dies, all that it was working on is suspected and nothing is blamed. Halves of it are
tried, then halves of the half that died again; only a video that ends a lane by itself, twice, is a
failure. So a video among n that kills costs about log2(n) lanes, and its neighbours nothing.
"""

import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mmf import MmfError
from mmf.extract.pipeline import Task, VideoEnded
from mmf.extract.stopping import Stop
from mmf.store import FeatureStore, Media, Outcome

if TYPE_CHECKING:
    from mmf.extract.lanes import Work

# does what it can, and gives back what was lost with a lane that died
Run = Callable[[Sequence[Task]], list[Task]]


class LaneDied(MmfError):
    """A lane's process ended by itself: a crash below Python, or somebody's kill."""

    def __init__(self, code: int):
        self.code = code
        super().__init__(
            f"an extraction lane died ({_how(code)}). What was committed stays; run the same "
            "command again, with fewer --workers if the machine ran out of memory."
        )


def settle(
    suspects: Sequence[Task], run: Run, blame: Callable[[Task], None], stop: Stop | None = None
) -> None:
    """Run videos that were lost with their lane; `blame` those that end one alone, twice."""
    if not suspects or (stop is not None and stop.requested):
        return
    lost = run(suspects)
    if lost and len(suspects) == 1:
        if run(suspects) and not (stop is not None and stop.requested):
            blame(suspects[0])
        return
    middle = len(lost) // 2
    for half in (lost[:middle], lost[middle:]):
        settle(half, run, blame, stop)


def blame(work: "Work", on_ended: Callable[[VideoEnded], None], task: Task) -> None:
    """Write down that a video ends every lane that computes its rows."""
    message = "the process that computes its rows died of it, alone and twice."
    outcome = Outcome(
        video_id=task.source.video_id,
        status="failed",
        reason="lane_died",
        stage="embed",
        message=message,
        attempts=task.attempts,
        media=Media(path=task.source.path.encode("utf-8", "backslashreplace").decode()),
    )
    writer = FeatureStore(work.store).writer()
    names = [request.name for request in work.requests]
    for name in names:
        writer.mark(name, outcome)
    writer.commit()
    on_ended(
        VideoEnded(
            video_id=outcome.video_id,
            status=dict.fromkeys(names, "failed"),
            reason=outcome.reason,
            message=message,
            media=outcome.media,
        )
    )


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
