"""Decoding in a process of its own, ahead of whoever uses the rows.

`parent` has the Decoder, its user's side, and `events` what it tells; `process` starts and watches
the child; `child` is what it runs; `ring` the shared memory between them; `staging` fetches files
at URLs. The child loads what it needs and no more, so nothing is imported here.
"""
