import pytest

from demos.notebooks.execute import CellError, Notebook, execute


def notebook(*sources: str) -> Notebook:
    cells = [{"cell_type": "code", "metadata": {}, "source": [source], "outputs": []} for source in sources]
    return {"cells": [{"cell_type": "markdown", "metadata": {}, "source": ["# Title"]}, *cells], "nbformat": 4}


def test_cells_share_a_namespace_and_keep_what_they_print() -> None:
    title, first, second = execute(notebook("x = 1", "print(x)\nprint(x + 1)"))["cells"]
    assert "outputs" not in title
    assert (first["outputs"], first["execution_count"]) == ([], 1)
    assert second["outputs"] == [{"output_type": "stream", "name": "stdout", "text": ["1\n", "2\n"]}]


def test_parameters_replace_those_of_the_tagged_cell() -> None:
    given = notebook("x, y = 1, 2", "print(x, y)")
    given["cells"][1]["metadata"] = {"tags": ["parameters"]}
    assert execute(given, {"x": 5})["cells"][2]["outputs"][0]["text"] == ["5 2\n"]


def test_a_cell_that_fails_is_named() -> None:
    with pytest.raises(CellError, match="cell 2 failed: ZeroDivisionError: division by zero"):
        execute(notebook("x = 0", "1 / x"))
