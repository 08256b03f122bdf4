"""A lane's process from inside: it is told what to do, given videos, and tells what became of each.

Started by `lanes` as ``python -m mmf.extract.lane_process PIPE PARENT``. What takes long to make,
the networks and the decoder's process, is kept from one piece of work to the next, where it is the
same work: a job on a cluster comes in buckets.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from mmf import MmfError
from mmf.extract.canary import check_canary
from mmf.extract.decoder.parent import Decoder
from mmf.extract.lanes import THROUGH, Committed, Decoded, Work, one_thread
from mmf.extract.pipeline import Feature, Lane, Task
from mmf.extract.recipe import build, spec
from mmf.extract.signals import Signal
from mmf.extract.stopping import Stop, Stopped
from mmf.lifeline import end_with
from mmf.memory import memory_kept
from mmf.store import FeatureStore


def main() -> None:
    """Does the work that comes by the pipe until it is closed."""
    pipe = Connection(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the job decides
    end_with(int(sys.argv[2]))
    bench: _Bench | None = None
    with Stop(signals=(signal.SIGTERM,)) as stop, contextlib.suppress(BrokenPipeError):
        try:
            while work := _next(pipe, stop):
                if bench is None or bench.work != work:
                    if bench is not None and bench.decoder is not None:
                        bench.decoder.close()
                    bench = _Bench.of(work)
                bench.run(pipe, stop)
                pipe.send(THROUGH)
        except (MmfError, OSError) as error:
            pipe.send(error)


def _next(pipe: Connection, stop: Stop) -> Work | None:
    """What is to be done next; None where nothing is, or where it is time to stop."""
    work: Work | None = None
    try:
        while work is None:  # the end of the videos before may have been told again and again
            work = stop.wait(pipe.recv)
    except EOFError:
        return None
    except Stopped:
        pipe.send(THROUGH)
        return None
    return work


@dataclass(kw_only=True)
class _Bench:
    """What one kind of work takes."""

    work: Work
    store: FeatureStore
    features: list[Feature]
    decoder: Decoder | None = None

    @classmethod
    def of(cls, work: Work) -> "_Bench":
        """Build the networks, and refuse to go on with others than the store's features had."""
        store, features = FeatureStore(work.store), []
        with one_thread():
            for request in work.requests:
                backbone = build(request, device=work.device)
                own = spec(request, backbone)
                features.append(Feature(spec=store.create_feature(own), backbone=backbone))
            if work.canary:
                check_canary(store, features)
        return cls(work=work, store=store, features=features)

    def run(self, pipe: Connection, stop: Stop) -> None:
        """The videos that come through the pipe."""
        self.store.refresh()
        for feature in self.features:  # it may have been begun anew by now
            self.store.create_feature(feature.spec)

        def send(message: Any) -> None:
            pipe.send(message)

        lane = Lane(
            self.features,
            self.store.writer(),
            decoder=self._decoder,
            on_decoded=lambda: send(Decoded()),
            on_ended=send,
            on_committed=lambda: send(Committed()),
        )
        with memory_kept(), one_thread():
            pipe.send(lane.run(_Given(pipe, stop), stop))

    @contextlib.contextmanager
    def _decoder(self, signals: Sequence[Signal]) -> Iterator[Decoder]:
        """The decoder, for this work; it stays unless something of it is on its way."""
        decoder = self.decoder or self.work.decoder(signals)
        self.decoder = None
        try:
            yield decoder
        except BaseException:
            decoder.close()
            raise
        if decoder.pending:
            decoder.close()
        else:
            self.decoder = decoder


class _Given:
    """The videos that come through the pipe."""

    def __init__(self, pipe: Connection, stop: Stop):
        self._pipe, self._stop = pipe, stop
        self._more = True

    def take(self, *, wait: bool) -> Task | None:
        while self._more and (wait or self._pipe.poll()):
            task = self._stop.wait(self._pipe.recv)
            if task is not None:
                return task
            self._more = False
        return None


if __name__ == "__main__":
    main()
