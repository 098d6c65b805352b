"""A collapsed adapter and its head as a folder of AdapterHub's `adapters` library, with a flexible head."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig

from adamix_export.checkpoint.collapse import HEAD
from adamix_export.checkpoint.importers.adapterhub.families import FAMILIES
from adamix_export.checkpoint.importers.adapterhub.folder import HEAD_CONFIG, HEAD_WEIGHTS, WEIGHTS
from adamix_export.converters.adapter_readme import write_readme
from adamix_export.converters.adapterhub_methods import WRITERS, Layout, Sites
from adamix_export.converters.lora_sites import only_adapter
from adamix_export.errors import ExportError
from adamix_export.tracing.merged import by_site
from serve.bundle.adapter import Adapter
from serve.bundle.reader import Bundle

MARK = "adapter_config.json"
VERSION = "adapters.1.3.0"
"""Version of the library whose format it is."""
CLASSES = {
    "bert": "Bert",
    "deberta-v2": "DebertaV2",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "gpt2": "GPT2",
    "llama": "Llama",
    "mistral": "Mistral",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
}
"""`model_type` → start of the name of the library's class with flexible heads."""


def write_adapterhub(bundle: Bundle, adapters: list[Adapter], folder: Path) -> str:
    """Write the only adapter in `adapters` and its head; return how to load them."""
    adapter = only_adapter(adapters, "a folder of adapters")
    config = AutoConfig.from_pretrained(bundle.folder)
    if config.model_type not in FAMILIES:
        raise ExportError(f"layers of a {config.model_type} in adapters are not known; known are {', '.join(FAMILIES)}")
    sites = by_site({name: torch.from_numpy(tensor) for name, tensor in adapter.tensors.items()})
    adapted = {module: weights for (module, kind), weights in sites.items() if kind != HEAD}
    heads = {module: weights for (module, kind), weights in sites.items() if kind == HEAD}
    kinds = sorted({kind for _, kind in sites if kind != HEAD})
    if len(kinds) != 1 or kinds[0] not in WRITERS:
        raise ExportError(
            f"{adapter.card.name} is a {' and '.join(kinds) or adapter.card.kind} adapter, which adapters does not "
            f"take from a bundle: it takes one kind of {', '.join(WRITERS)}"
        )
    name = adapter.card.name.replace(".", "-")  # names of modules have no dots
    layout = Layout(FAMILIES[config.model_type], config, prefix=min(adapted).partition(".")[0] + ".")
    method, tensors = WRITERS[kinds[0]](adapted, layout, name)
    about = _about(bundle, config, name)
    _write(folder, MARK, {**about, "config": method}, WEIGHTS, tensors)
    if heads:
        head, tensors = _head(heads, layout, adapter, name)
        _write(folder, HEAD_CONFIG, {**about, "config": head}, HEAD_WEIGHTS, tensors)
    form = "modules (AdaMix), as one adapter"
    write_readme(folder, bundle, adapter, library="adapters", tag="adapter-transformers", form=form)
    model = "adapters.AutoAdapterModel" if heads else "a causal model after adapters.init(model)"
    return f"load_adapter(FOLDER, use_safetensors=True) of {model} loads it; the base is {bundle.manifest.base['name']}"


def _write(folder: Path, file: str, config: dict[str, Any], weights: str, tensors: dict[str, Tensor]) -> None:
    (folder / file).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / weights)


def _about(bundle: Bundle, config: PretrainedConfig, name: str) -> dict[str, Any]:
    """Return the fields around a configuration."""
    return {
        "hidden_size": config.hidden_size,
        "model_class": f"{CLASSES[config.model_type]}AdapterModel",
        "model_name": bundle.manifest.base["name"],
        "model_type": config.model_type,
        "name": name,
        "version": VERSION,
    }


def _head(heads: Sites, layout: Layout, adapter: Adapter, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the configuration and tensors of the flexible head with the form of the base's classifier."""
    forms = {frozenset(modules): form for form, modules in layout.family.heads.items()}
    if frozenset(heads) not in forms:
        raise ExportError(
            f"{adapter.card.name} replaces {', '.join(sorted(heads))}, and no head of adapters has that form"
        )
    layers, activation, use_pooler = form = forms[frozenset(heads)]
    step = 3 if activation else 2
    tensors = {
        f"heads.{name}.{1 + index * step}.{parameter}": weight
        for index, module in enumerate(layout.family.heads[form])
        for parameter, weight in heads[module].items()
    }
    labels = adapter.card.labels
    config = {
        "activation_function": activation,
        "bias": True,
        "dropout_prob": None,
        "head_type": "classification",
        "label2id": None if adapter.card.regression else {label: index for index, label in enumerate(labels)},
        "layers": layers,
        "num_labels": len(labels),
        "use_pooler": use_pooler,
    }
    return config, tensors
