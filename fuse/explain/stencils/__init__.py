"""Stencils: what each class of a run looks for, found through its frozen network."""
