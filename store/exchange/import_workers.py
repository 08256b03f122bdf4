"""Import many files in as many processes as there are; results come in the order of the files."""

import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

from mmf import MmfError
from mmf.store.exchange.import_file import FileImporter, FileResult

Job = tuple[Path, Collection[int]]  # a file, and the offsets of records to leave out


class ImportStopped(MmfError, RuntimeError):
    """The import ended early and can be gone on with."""

    exit_code = 75


def run(root: Path, jobs: Sequence[Job], workers: int) -> Iterator[FileResult]:
    """Import the files into the store at `root`; ImportStopped where a worker dies."""
    if min(workers, len(jobs)) == 1:
        importer = FileImporter(root)
        for path, skip in jobs:
            yield importer.run(path, skip)
        return
    # a worker is a fresh process: threads of pyarrow do not survive a fork
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin, initargs=(root,))
    try:
        for done in [pool.submit(_import_file, *job) for job in jobs]:
            yield done.result()
    except BrokenProcessPool as error:
        raise ImportStopped(
            f"a worker process died ({error}). What was committed is safe; the same command goes "
            "on from there, with fewer --workers if memory was short."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_importer: FileImporter


def _begin(root: Path) -> None:
    """Make this process a worker, which ends when its parent does, even by a kill."""
    global _importer

    def follow() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            os._exit(ImportStopped.exit_code)

    Thread(target=follow, daemon=True).start()
    _importer = FileImporter(root)


def _import_file(path: Path, skip: Collection[int]) -> FileResult:
    return _importer.run(path, skip)
