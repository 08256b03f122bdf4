"""Pairs side by side on a CPU, one thread each.

Two threads on one pair wait for each other at every layer; two pairs never do. And a pair's flow
has the same bits however many threads there are.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float32, UInt8

Work = Callable[[np.ndarray], np.ndarray]


def side_by_side(
    work: Work, pairs: UInt8[np.ndarray, "B 2 h w 3"]
) -> Float32[np.ndarray, "B h w 2"]:
    """`work` on the pairs, cut into a run of neighbours for each of torch's threads."""
    threads = torch.get_num_threads()
    if threads == 1:
        return work(pairs)
    runs = np.array_split(pairs, min(threads, len(pairs)))
    try:
        with ThreadPoolExecutor(len(runs), initializer=torch.set_num_threads, initargs=(1,)) as at:
            return np.concatenate(list(at.map(work, runs)))
    finally:
        torch.set_num_threads(threads)  # for threads to come; this one has kept its number
