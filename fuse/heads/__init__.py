"""Heads: from the fused vector (B, H) to one logit per class (B, C).

A head's `weights_per_input` is how many parameters one more input costs; fusions that match
parameter budgets ask for it before the head exists. Adding one: a file here and its line in the
table.
"""

from mmf import Registry

HEADS = Registry(
    "head",
    {
        "logistic": "mmf.fuse.heads.logistic:Logistic",
        "moe": "mmf.fuse.heads.moe:MixtureOfExperts",
        "gated": "mmf.fuse.heads.gated:Gated",
        "sequence": "mmf.fuse.heads.sequence:SequenceHead",
    },
    group="mmf.heads",
)
