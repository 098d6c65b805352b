"""Training checkpoints opened for export: reading, collapsing, module weights."""
