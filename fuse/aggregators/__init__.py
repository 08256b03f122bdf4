"""Aggregators: the steps of one feature (B, T, D), masked, to one vector per item (B, H).

A class has `Options`, takes ``(size, options)``, says its `out_size`, and gives zeros for an item
without a step. Adding one: a file here and its line in the table.
"""

from mmf import Registry

AGGREGATORS = Registry("aggregator", {"mean": "mmf.fuse.aggregators.mean:Mean"})
