"""Every block of the documentation is run in order, page by page, or says why it is not."""

import shutil
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, RUN, page_blocks, plain_commands, read_blocks, reader, skip_without_curl
from tests.fixtures.traced_graphs import traced_once

NEEDS: dict[str, tuple[str, ...]] = {
    "docs/bundle-format.md": ("bundles/both",),
    "docs/export.md": ("models", "data", "runs", "bundles/both"),
    "docs/generate.md": ("bundles/e2e",),
    "docs/how-to/from-optimum.md": ("models",),
    "docs/how-to/from-tei.md": ("bundles/both",),
    "docs/how-to/from-vllm.md": ("bundles/e2e",),
    "docs/how-to/kserve.md": ("bundles/both",),
    "docs/how-to/many-tenants.md": ("runs",),
    "docs/how-to/peft-adapter.md": ("models", "data", "runs"),
    "docs/how-to/quantise.md": ("runs", "data"),
    "docs/how-to/shell.md": ("bundles/both",),
    "docs/how-to/triton.md": ("bundles/both",),
    "docs/predict.md": ("bundles/both",),
    "docs/python-api.md": ("models", "bundles/both", "bundles/sure", "bundles/e2e", "adapters/mood"),
    "docs/serve.md": ("bundles/both", "adapters/mood"),
    "docs/train.md": ("models", "data"),
    "docs/tutorial.md": ("models", "data"),
}
"""Parts of the fixture `workspace` that are there before the first block; pages that are not named run nothing."""
ELSEWHERE = ("CONTRIBUTING.md", "README.md")
"""Pages that another test follows."""


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_or_says_why_not(page: str) -> None:
    for block in page_blocks(page):
        if block.language in RUN:
            assert page in NEEDS or page in ELSEWHERE or block.excerpt is not None, f"{block} is not run"
        assert block.language, f"{block} has no language"
        assert block.excerpt is None or len(block.excerpt) >= 10, f"{block} is an excerpt without a reason"


def test_an_excerpt_is_known_by_the_comment_before_it() -> None:
    text = "<!-- excerpt: needs a GPU -->\n```bash\nnvidia-smi\n```\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n"
    first, second = read_blocks("page", text)
    assert (first.excerpt, first.code, first.output) == ("needs a GPU", "nvidia-smi\n", None)
    assert (second.excerpt, second.line, second.output) == (None, 6, "1\n")


def test_what_needs_a_shell_goes_to_one() -> None:
    plain = "adamix-export runs/a b \\\n    --shape bank  # many\nadamix-export inspect b\n"
    assert plain_commands(plain) == [
        ["adamix-export", "runs/a", "b", "--shape", "bank"],
        ["adamix-export", "inspect", "b"],
    ]
    assert plain_commands("adamix-export inspect b | head\n") is None
    assert plain_commands("make setup\n") is None


@pytest.mark.slow
@pytest.mark.parametrize("page", NEEDS)
def test_the_blocks_of_a_page_run_in_order(
    page: str, graphs: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    skip_without_curl()
    for name in NEEDS[page]:
        shutil.copytree(request.getfixturevalue("workspace") / name, tmp_path / name)
    with reader(tmp_path) as person, traced_once(graphs):
        person.read_page(page)
