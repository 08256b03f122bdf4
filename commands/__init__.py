"""The commands of `mmf`, a file for each part of the work; each imports its stage when it runs."""
