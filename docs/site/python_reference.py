"""Reference of the Python API: directives from which mkdocstrings reads docstrings, without importing the packages."""

import ast
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package's page."""

    title: str
    introduction: str
    public: str | None = None
    """Module whose `__all__` has the public names; None takes `more` alone."""
    more: tuple[str, ...] = ()
    """Names besides."""


PACKAGES: dict[str, Package] = {
    "train.md": Package(
        title="Train in Python",
        introduction="[Python API](../python-api.md#train) shows them in use.",
        public="adamix_train",
        more=("adamix_train.errors",),
    ),
    "export.md": Package(
        title="Export in Python",
        introduction="The command [adamix-export](../export.md) is the interface; these are the functions below it.",
        more=(
            "adamix_export.checkpoint.checkpoint.open_checkpoint",
            "adamix_export.pipeline.options.Options",
            "adamix_export.pipeline.export",
            "adamix_export.parity.report.Parity",
            "adamix_export.errors",
        ),
    ),
    "serve.md": Package(
        title="Serve in Python",
        introduction="[Python API](../python-api.md#serve) shows them in use.",
        public="serve",
        more=("serve.engine", "serve.errors"),
    ),
}
"""Page → package."""


def python_pages() -> dict[str, str]:
    """Return a page for each package."""
    return {name: _page(package) for name, package in PACKAGES.items()}


def _page(package: Package) -> str:
    names = [f"{package.public}.{name}" for name in public_names(package.public)] if package.public else []
    directives = "\n".join(f"::: {name}\n" for name in (*names, *package.more))
    return f"# {package.title}\n\n{package.introduction}\n\n{directives}"


def public_names(package: str) -> list[str]:
    """Return the names in a package's `__all__`, read from its source."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text("utf-8"))
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]
    )
    return list(names)
