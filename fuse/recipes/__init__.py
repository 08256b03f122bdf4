"""The papers' tables, as functions: rows of settings, with the published figures beside.

A recipe takes a config, of which it keeps what a paper cannot know (`contract.KEPT`: the store, the
features' names, the device, …), and gives a `contract.Recipe`. Adding one: a function, its line in
the table.
"""

from mmf import Registry

RECIPES = Registry(
    "recipe",
    {
        "mfb_mean": "mmf.fuse.recipes.mfb:mfb_mean",
        "mfb_netvlad": "mmf.fuse.recipes.mfb:mfb_netvlad",
        "mfb_dbof": "mmf.fuse.recipes.mfb:mfb_dbof",
        "gmsa": "mmf.fuse.recipes.gmsa:gmsa",
        "mixer": "mmf.fuse.recipes.mixer:mixer",
        "adamml": "mmf.fuse.recipes.adamml:adamml",
        "early_late": "mmf.fuse.recipes.early_late:early_late",
    },
)
