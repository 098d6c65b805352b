from pathlib import Path

import yaml

from adamix_train.recipe.recipe import Recipe


def test_the_card_of_a_run_is_filled(shared_run: Recipe) -> None:
    _, header, page = (Path(shared_run.out) / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(header) == {"library_name": "peft", "tags": ["adamix"]}
    assert f"4 lora modules on `{Path(shared_run.base).name}`" in page
    assert "with 2 labels: negative, positive" in page
    assert "| validation_accuracy | " in page
    assert "| test_accuracy | " in page
    assert "the best was kept, and measured on" in page
    assert "[More Information Needed]" not in page
