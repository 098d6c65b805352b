"""The generation engine: continuous batching over one decoder."""
