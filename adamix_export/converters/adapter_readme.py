"""The model card of one adapter of a bundle in another library's format."""

from pathlib import Path

from huggingface_hub import ModelCardData

from serve.bundle.adapter import Adapter
from serve.bundle.manifest import README
from serve.bundle.reader import Bundle


def write_readme(folder: Path, bundle: Bundle, adapter: Adapter, *, library: str, tag: str, form: str) -> None:
    """Write the card; `form` says of what the mixture was and as what the adapter is one."""
    name = bundle.manifest.base["name"]
    data = ModelCardData(
        base_model=name if "/" in name else None,
        library_name=library,
        pipeline_tag=bundle.manifest.task,
        tags=[tag, "adamix"],
    )
    (folder / README).write_text(
        f"---\n{data.to_yaml()}\n---\n\n# {adapter.card.name} on {name}\n\nThe average of a mixture of "
        f"{adapter.card.num_modules} {form}. sha256 of the base's weights: "
        f"`{bundle.manifest.base['sha256']}`. Labels: {', '.join(adapter.card.labels) or '-'}.\n"
    )
