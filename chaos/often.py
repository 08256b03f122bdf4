"""`python -m mmf.chaos.often`: the command line, but a lane commits every few videos.

That holds where a lane works in the job's own process (`--workers 1`): kills are to fall into many
commits, not into the one at the job's end. All else is what `mmf` runs.
"""

import runpy

from mmf.extract import pipeline

VIDEOS = 8  # of a commit

if __name__ == "__main__":
    vars(pipeline)["BUCKET_VIDEOS"] = VIDEOS
    runpy.run_module("mmf.cli", run_name="__main__", alter_sys=True)
