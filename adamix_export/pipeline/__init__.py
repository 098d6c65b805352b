"""From opened checkpoints to a bundle on disk."""
