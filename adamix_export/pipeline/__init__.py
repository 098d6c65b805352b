"""The export pipeline: from checkpoints to a bundle folder."""
