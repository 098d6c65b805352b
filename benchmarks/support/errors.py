"""The errors of benchmarks.

BenchmarkError           the benchmark cannot give a figure that means something
├── OutOfTimeError       the time that the command was given is over
├── DisagreementError    two sides do not compute the same
└── PeerError            a peer is not there, or does not do its part
"""


class BenchmarkError(Exception):
    """The benchmark cannot give a figure that means something."""


class OutOfTimeError(BenchmarkError):
    """The time that the command was given is over."""


class DisagreementError(BenchmarkError):
    """Two sides do not compute the same, so that their times do not compare."""


class PeerError(BenchmarkError):
    """A peer is not there, or does not do its part; the benchmark goes on without it and names it."""
