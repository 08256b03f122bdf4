"""What decoding in a child process costs against decoding in this one.

    python benchmarks/children.py ../shared/data/videos [--repeat 5] [--fps 5]

The same files, the same rows (frames of 224 × 224, so many a second, and sound), taken and thrown
away: by `decode` in this process, and through `Decoder`, whose child decodes into a ring of shared
memory. CPU seconds of both processes together; they take turns on one core. The start of the child
(once in 500 files) is not counted. Medians; the goal is 1.05.
"""

import argparse
import os
import statistics
import time
from collections.abc import Sequence

from mmf.extract import read_manifest
from mmf.extract.decoder.events import Ended, Failed, Sample
from mmf.extract.decoder.parent import Decoder
from mmf.extract.media.decoding import Row, decode
from mmf.extract.media.opening import Unusable
from mmf.extract.signals import Frames, Signal, Waves


def here(paths: Sequence[str], signals: Sequence[Signal]) -> tuple[int, float]:
    """Rows and CPU seconds of decoding in this process."""
    began, rows = time.process_time(), 0
    for path in paths:
        rows += sum(isinstance(event, Row) for event in decode(path, signals))
    return rows, time.process_time() - began


def child(decoder: Decoder, paths: Sequence[str]) -> tuple[int, float]:
    """Rows and CPU seconds of decoding in a child that runs already."""
    began, rows, ended = time.process_time() + decoder.cpu_seconds, 0, 0
    for number, path in enumerate(paths):
        decoder.submit(str(number), path)
    for event in decoder.events():
        rows += isinstance(event, Sample)
        ended += isinstance(event, Ended | Failed)
    return rows, time.process_time() + decoder.cpu_seconds - began


def usable(paths: Sequence[str], signals: Sequence[Signal]) -> list[str]:
    """The files of which anything can be decoded."""
    found = []
    for path in paths:
        try:
            for _ in decode(path, signals):
                pass
            found.append(path)
        except Unusable:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("videos")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--fps", type=float, default=5.0)
    options = parser.parse_args()
    signals = [Frames(fps=options.fps), Waves()]
    paths = usable([one.path for one in read_manifest(options.videos).inputs()], signals)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with Decoder(signals) as decoder:
        child(decoder, paths[:1])
        turns = [(here(paths, signals), child(decoder, paths)) for _ in range(options.repeat)]
    (rows, _), (through, _) = turns[0]
    ours, theirs = ([turn[i][1] for turn in turns] for i in (0, 1))
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    print(f"{len(paths)} files, {rows} rows here, {through} through a child")
    print(
        f"here {statistics.median(ours):.2f} s, through a child {statistics.median(theirs):.2f} s"
    )
    print(f"a child costs {ratio:.3f} of decoding here")


if __name__ == "__main__":
    main()
