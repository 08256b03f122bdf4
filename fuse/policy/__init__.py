"""Which modalities to use in each segment of an item, decided by a network that costs little.

`policy` (AdaMML) and `lite_eval` are whole models: fusions of a kind of their own (`contract`).
Their backbones stay frozen, since features are stored: only recognition heads and policy learn.
"""
