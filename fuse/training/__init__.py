"""Training: a plan of the items, a straight loop of steps, and checkpoints to go on from.

Adding a schedule: a class in `schedule.py` and its line in the table.
"""

from mmf import Registry

SCHEDULES = Registry(
    "schedule",
    {
        "constant": "mmf.fuse.training.schedule:Constant",
        "staircase": "mmf.fuse.training.schedule:Staircase",
        "milestones": "mmf.fuse.training.schedule:Milestones",
        "cosine": "mmf.fuse.training.schedule:Cosine",
    },
)
