"""A process that ends with the one that started it, even by a kill."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with(parent: int) -> None:
    """Die when `parent` does, the process that started this one; exit where it is gone already.

    Its number is passed on the command line: to ask who the parent is says nothing of one that died
    before, and in a container the first process, 1, may be the real one. Off Linux a process that
    is orphaned later goes on until its pipe is found closed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
