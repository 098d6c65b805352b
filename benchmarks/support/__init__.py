"""Shared parts of the benchmarks: harness, timing, reports, and the sides that are compared."""
