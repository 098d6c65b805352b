"""What benchmarks share: harness, timing, reports, and the sides that are compared."""
