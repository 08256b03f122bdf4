"""Aggregators: the steps of one feature (B, T, D), masked, to one vector per item (B, H).

A class has `Options`, takes ``(size, options)``, says its `out_size`, and gives zeros for an item
without a step. Adding one: a file here and its line in the table.
"""

from mmf import Registry

AGGREGATORS = Registry(
    "aggregator",
    {
        "mean": "mmf.fuse.aggregators.mean:Mean",
        "max": "mmf.fuse.aggregators.max:Max",
        "attention": "mmf.fuse.aggregators.attention:Attention",
        "dbof": "mmf.fuse.aggregators.dbof:DBoF",
        "netvlad": "mmf.fuse.aggregators.netvlad:NetVLAD",
        "netrvlad": "mmf.fuse.aggregators.netvlad:NetRVLAD",
        "nextvlad": "mmf.fuse.aggregators.nextvlad:NeXtVLAD",
        "lstm": "mmf.fuse.aggregators.recurrent:LSTM",
        "gru": "mmf.fuse.aggregators.recurrent:GRU",
        "gmsa": "mmf.fuse.aggregators.gmsa:GMSA",
    },
    group="mmf.aggregators",
)
