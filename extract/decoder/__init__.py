"""Decoding in a process of its own, ahead of whoever uses the rows.

`parent` has the Decoder, its user's side; `process` starts and watches the child; `child` is what
it runs; `ring` the shared memory between them. The child loads what it needs and no more, so
nothing is imported here.
"""
