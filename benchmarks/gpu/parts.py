"""The parts of a run, smallest first, each with the limit of its process."""

from dataclasses import dataclass
from importlib import import_module

from benchmarks.gpu.outcome import Measurement


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the run."""

    name: str
    measure: str
    """Function that measures, as `module:function` below `benchmarks.gpu`; it is imported in the part's process."""
    limit: float
    """Seconds that its process may take."""
    timed: bool = True
    """Times count, so that nothing else runs meanwhile; neighbours that time nothing run side by side."""

    def load(self) -> Measurement:
        """Return the function that measures."""
        module, _, function = self.measure.partition(":")
        measure: Measurement = getattr(import_module(f"benchmarks.gpu.{module}"), function)
        return measure


SHAPES = "shapes"
"""The part that makes bundles, which others need."""
PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part(name="ceilings", measure="ceilings:measure_ceilings", limit=60),
        Part(name="tests", measure="suite:run_tests", limit=200, timed=False),
        Part(name=SHAPES, measure="shapes:make_shapes", limit=200, timed=False),
        Part(name="classify", measure="classification:measure_small", limit=90),
        Part(name="banks", measure="banks:measure_banks", limit=60),
        Part(name="decode", measure="decoding:measure_small", limit=120),
        Part(name="classify-large", measure="classification:measure_large", limit=100),
        Part(name="decode-large", measure="decoding:measure_large", limit=120),
        Part(name="train", measure="training:measure_training", limit=60),
        Part(name="static", measure="decoding:measure_static_small", limit=150),
        Part(name="static-large", measure="decoding:measure_static_large", limit=150),
        Part(name="kernels", measure="kernels:profile_kernels", limit=90),
    )
}
"""Parts by name, in the order in which they run."""
