"""What a run says of items."""
