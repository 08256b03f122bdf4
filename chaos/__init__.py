"""Faults that a user can repeat: `mmf chaos` breaks inputs, processes and disks, and counts.

`trials` lists them; `poisoned_child` is the decoder's process that breaks where it is asked to.
Nobody but the command imports from here.
"""
