"""Our side's timings against those of its peers; a ratio is the peer's median seconds by ours, so more is better."""

from dataclasses import dataclass

from benchmarks.support.rounds import Timings


@dataclass(frozen=True)
class Ratio:
    """The speed-up over a peer in one case."""

    value: float
    case: str
    peer: str

    def __str__(self) -> str:
        return f"{self.value:.3f} at {self.case} against {self.peer}"


@dataclass(frozen=True)
class Comparison:
    """Timings, one side of which is ours."""

    ours: str
    timings: Timings

    def ratio(self, case: str, peer: str) -> Ratio:
        """Return the ratio to one peer in one case."""
        sides = self.timings[case]
        return Ratio(sides[peer].seconds / sides[self.ours].seconds, case, peer)

    def peers(self, case: str) -> list[str]:
        """Return the other sides of a case."""
        return [side for side in self.timings[case] if side != self.ours]

    def worst(self, peer: str | None = None) -> Ratio:
        """Return the lowest ratio over all cases: that to a peer, or to the best of all, in its best case."""
        ratios = [
            self.ratio(case, one) for case in self.timings for one in (self.peers(case) if peer is None else [peer])
        ]
        return min(ratios, key=lambda ratio: ratio.value)

    def rows(self) -> list[dict[str, object]]:
        """Return one flat row a case: milliseconds by side, ratios by peer, and the noisiest side's noise."""
        return [self._row(case) for case in self.timings]

    def _row(self, case: str) -> dict[str, object]:
        sides = self.timings[case]
        return {
            "case": case,
            **{f"{side}_ms": timing.seconds * 1e3 for side, timing in sides.items()},
            **{f"ratio_{peer}": self.ratio(case, peer).value for peer in self.peers(case)},
            "noise": max(timing.noise for timing in sides.values()),
        }
