"""Text that learns a little: BERT inside the network, fed by stored token ids."""
