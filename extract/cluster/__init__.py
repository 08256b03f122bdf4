"""A job on a Dask cluster: buckets of videos out, a few hundred bytes of counts back.

`driver` hands out buckets and takes the counts; `worker` is what a Dask worker does with one;
`connect` finds or starts the cluster that a `profile` describes, with the `settings` that must be
set. Features never go through Dask: a bucket is committed to the store where it was computed. So
the driver may be killed at any moment, and the same command goes on.
"""
