"""One media file → timed rows: opened safely, one pass over its packets, one axis of seconds.

`decoding` is the pass; `opening` what may be opened; `streams` which stream and which clock;
`pictures`, `sound` and `captions` make the rows of each kind.
"""
