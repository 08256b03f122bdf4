"""What a run looks at over the steps of an item: attention, local sensitivity, similarity."""
