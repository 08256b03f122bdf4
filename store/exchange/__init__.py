"""Features in the formats of others: YouTube-8M's TFRecords, Parquet, HDF5.

Each exchange uses the store as any program does: rows out of it, and into it many small commits.
"""
