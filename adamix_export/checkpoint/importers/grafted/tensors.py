"""Stored tensors that are taken by name and shape; what is missing, left over or of another size is an error."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from adamix_train.errors import CheckpointError

ADVICE = (
    "its configuration does not describe these weights, or the base is another than the adapter was trained on (--base "
    "names it)"
)


class Tensors:
    """The tensors of a file; a prefix of their names, such as `bert`, may be there or not."""

    def __init__(self, tensors: Mapping[str, Tensor], path: Path, *, prefix: str = "") -> None:
        self.path = path
        self.left = {name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items()}

    def take(self, name: str, *shape: int) -> Tensor:
        """Return a tensor once.

        Raises:
            CheckpointError: there is no such tensor, or it has another shape.
        """
        if name not in self.left:
            raise CheckpointError(f"{self.path} lacks {name}, of which its configuration speaks: {ADVICE}")
        tensor = self.left.pop(name)
        if tensor.shape != shape:
            found, expected = (" × ".join(map(str, sizes)) for sizes in (tensor.shape, shape))
            raise CheckpointError(f"{name} in {self.path} is {found}, and the model takes {expected}: {ADVICE}")
        return tensor

    def require_all_taken(self) -> None:
        """Raise a `CheckpointError` if a tensor has no place in the model."""
        if self.left:
            raise CheckpointError(
                f"{self.path} has {len(self.left)} tensors that have no place in the model, such as {min(self.left)}: "
                + ADVICE
            )
