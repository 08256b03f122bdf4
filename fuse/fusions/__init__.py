"""Fusions: one vector per feature, (B, D_1) … (B, D_M), to one vector per item (B, H).

A class has `Options` and takes ``(sizes, options, head_weights)``: the features' names and sizes in
order, and the parameters that the head adds per output, for budgets. It says its `out_size`. What
an item lacks is said by ``present`` (B, M) and never counts as zeros. Adding one: a file here and
its line in the table.
"""

from mmf import Registry

FUSIONS = Registry(
    "fusion",
    {
        "single": "mmf.fuse.fusions.single:Single",
        "concat": "mmf.fuse.fusions.concat:Concat",
        "fc_concat": "mmf.fuse.fusions.fc_concat:FCConcat",
        "mfb": "mmf.fuse.fusions.mfb:MFB",
        "mfh": "mmf.fuse.fusions.mfh:MFH",
        "mlb": "mmf.fuse.fusions.mlb:MLB",
        "mutan": "mmf.fuse.fusions.mutan:Mutan",
        "mcb": "mmf.fuse.fusions.mcb:MCB",
        "framewise": "mmf.fuse.fusions.framewise:Framewise",
        "weighted": "mmf.fuse.fusions.weighted:Weighted",
        "late": "mmf.fuse.fusions.late:Late",
        "gmsa": "mmf.fuse.fusions.gmsa:GMSAFusion",
        "mixer": "mmf.fuse.fusions.mixer:Mixer",
        "mmf_transformer": "mmf.fuse.fusions.mmf_transformer:MMFTransformer",
        "early": "mmf.fuse.fusions.early:Early",
        "early_vectors": "mmf.fuse.fusions.early:EarlyVectors",
        "policy": "mmf.fuse.policy.adamml:Policy",
        "lite_eval": "mmf.fuse.policy.lite_eval:LiteEval",
    },
    group="mmf.fusions",
)
