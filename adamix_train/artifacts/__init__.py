"""Files of a run: checkpoints, training state, hashes, atomic writes."""
