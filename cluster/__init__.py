"""A Dask cluster, whatever its workers do: found or started, set up safely, and watched.

`connect` finds or starts the cluster that a `profile` describes, with the `settings` that must be
set; `watch` looks after it while a job waits. What is computed on it belongs to a stage.
"""
