"""A job on a Dask cluster: buckets of videos out, a few hundred bytes of counts back.

`driver` hands out buckets and takes the counts; `worker` is what a Dask worker does with one; the
cluster itself is found, started and watched in `mmf.cluster`. Features never go through Dask: a
bucket is committed to the store where it was computed. So the driver may be killed at any moment,
and the same command goes on.
"""
