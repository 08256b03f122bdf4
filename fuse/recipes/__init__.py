"""The tables of the papers, as functions."""
