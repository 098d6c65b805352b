"""The setting of a run: the folder with what was prepared, the device, and how much is measured."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.support.errors import BenchmarkError
from benchmarks.support.rounds import Pace

DEVICES = {"cuda": "cuda", "cpu": "cpu"}
"""Device of torch by the provider of ONNX Runtime."""
NO_CARD = "none"
PATIENCE = {"cuda": 1.0, "cpu": 4.0}
"""Factor of the limits of parts by provider: a rehearsal may share two cores with others."""
PACES = {
    "cuda": Pace(rounds=7, turn_seconds=0.05, rest_seconds=0.01),
    "cpu": Pace(rounds=3, turn_seconds=0.1),
}
TINY_PACE = Pace(rounds=1, turn_seconds=0.001, rest_seconds=0.0)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Facts that every part of a run needs."""

    folder: Path
    """Folder that `--prepare` wrote, and that the run adds its own bundles to."""
    provider: str
    """A key of `DEVICES`."""
    tiny: bool = False
    """Rehearse with tiny shapes and few repeats: its times mean nothing."""

    @property
    def device(self) -> str:
        """Device of torch."""
        return DEVICES[self.provider]

    @property
    def pace(self) -> Pace:
        """The amount of measuring."""
        return TINY_PACE if self.tiny else PACES[self.provider]

    @property
    def patience(self) -> float:
        """Factor of the limits of parts."""
        return PATIENCE[self.provider]

    @property
    def counts(self) -> bool:
        """Goals may be held against the figures."""
        return self.provider == "cuda" and not self.tiny

    def bundle(self, name: str) -> Path:
        """Return the folder of a bundle."""
        return self.folder / "bundles" / name

    def merged(self, model: str) -> Path:
        """Return the folder of the merged model in fp16 that PyTorch runs."""
        return self.folder / "merged" / model

    def base(self, model: str) -> Path:
        """Return the folder of a base, or of its tokenizer and configuration alone."""
        return self.folder / "bases" / model

    def require(self, folder: Path) -> Path:
        """Return a folder that an earlier step wrote.

        Raises:
            BenchmarkError: It is missing.
        """
        if not folder.is_dir():
            where = folder.relative_to(self.folder)
            raise BenchmarkError(f"{where} is missing in {self.folder}: run --parts shapes, or --prepare it again")
        return folder

    def as_dict(self) -> dict[str, Any]:
        """Return the setting as JSON has it."""
        return {**asdict(self), "folder": str(self.folder)}


def setting_of(content: dict[str, Any]) -> Setting:
    """Return the setting from what `as_dict` returned."""
    return Setting(**{**content, "folder": Path(content["folder"])})
