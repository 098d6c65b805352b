"""Parsers see anything: each returns, or raises an error of its own in one line, within its time; none grows."""

import contextlib
import csv
import gc
import hashlib
import io
import json
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from adamix_train.data.examples import read_examples
from adamix_train.errors import AdaMixError
from adamix_train.recipe.flags import make_recipe
from adamix_train.tasks.table import TASKS
from serve.api_keys import read_api_keys
from serve.args import parse_args
from serve.bundle.adapter import CARD, WEIGHTS, read_adapter
from serve.bundle.checked_json import _checksum, write_checked_json
from serve.bundle.manifest import MANIFEST
from serve.bundle.reader import open_bundle
from serve.errors import ServeError
from tests.reliability.fuzzing import SCALARS, any_of, as_json, damaged, json_values, objects
from tests.reliability.hostile import copy

SHORT, LONG = 25, 2500
"""Examples of each parser."""
MOST_SECONDS = 10.0
"""Processor time of a content. PyYAML takes a second to refuse brackets that are nested too deeply, however many there
are, and several on a core that others share; its parser in C ends the process."""
MOST_GROWTH = 8_000_000
"""Bytes by which memory may differ when the same examples are parsed again; one leaked file of each would be more."""
KEY = "0" * 64


@dataclass(frozen=True)
class Parser:
    """A parser of files."""

    suffix: str
    read: Callable[[Path], object]
    contents: st.SearchStrategy[bytes]
    errors: tuple[type[Exception], ...]
    """Errors that it declares."""


def yaml_lines(value: dict[str, Any]) -> bytes:
    """Return YAML that has values as JSON writes them."""
    return "".join(f"{json.dumps(key)}: {json.dumps(one)}\n" for key, one in value.items()).encode("ascii")


def tagged(value: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """YAML of which one value is said to be of another type."""
    tags = st.sampled_from(
        ["bool", "int", "float", "null", "timestamp", "binary", "set", "omap", "pairs", "seq", "map"]
    )
    texts = st.sampled_from(["x", "''", "1", "0b", "[a]", "{a: 1}", "0x" + "f" * 5000, "2001-01-01", "1:99", ".", "+"])
    lines = yaml_lines(value).decode()
    return st.builds(
        lambda key, tag, text: f"{lines}{key}: !!{tag} {text}\n".encode(), st.sampled_from(sorted(value)), tags, texts
    )


def toml_lines(value: dict[str, Any]) -> bytes:
    """Return TOML, or what is close to it."""
    return "".join(f"{json.dumps(key)} = {json.dumps(one)}\n" for key, one in value.items()).encode("ascii")


RECIPE = {"base": "b", "out": "o", "train_file": "t.csv", "r": 8, "seed": 1, "epochs": 2.5, "learning_rate": 1e-3}
RECIPE |= {"kind": "lora", "average": "last:0.5", "sites": "ffn", "delimiter": "tab", "prompt": "{input}"}
CONFIG = {"bundles": ["/nowhere"], "port": 8080, "drain-delay": 5, "no-cache": True, "cors-origin": ["a", "b"]}
CONFIG |= {"threads": 1, "provider": "cpu", "metrics": "vllm", "timeout": 30, "log-format": "json"}
KEYS = {"acme": {"sha256": KEY, "requests_per_minute": 5, "tokens_per_minute": 7, "admin": True}}
KEY_FILE = f'[acme]\nsha256 = "{KEY}"\nrequests_per_minute = 600\n["b c"]\nsha256 = "{"1" * 64}"\nadmin = true\n'
ROW = {"text": "a b", "label": "yes", "pair": "c", "score": "1.5", "input": "x", "target": "y", "sentence": "z"}
DART = [{"tripleset": [["a", "b", "c"]], "annotations": [{"source": "s", "text": "t"}]}]
WEBNLG = {
    "entries": [
        {
            "1": {
                "modifiedtripleset": [{"subject": "a", "property": "b", "object": "c"}],
                "lexicalisations": [{"comment": "good", "lex": "t"}],
            }
        }
    ]
}


def table(delimiter: str) -> st.SearchStrategy[bytes]:
    """Files of rows, as programs write them and damaged."""

    def write(rows: list[list[str]], quoting: int) -> bytes:
        stream = io.StringIO()
        writer = csv.writer(stream, delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
        writer.writerows(rows)
        return stream.getvalue().encode("utf-8", "surrogatepass")

    cells = st.sampled_from([*ROW.values(), '"', '""', "a\nb", delimiter, "\r", "\0", "é", "sep=;"]) | st.text(
        max_size=8
    )
    rows = st.lists(st.lists(cells, min_size=2, max_size=4), max_size=5)
    header = st.lists(st.sampled_from(sorted(ROW)), min_size=1, max_size=4)
    written = st.builds(
        lambda head, body, quoting: write([head, *body], quoting),
        header,
        rows,
        st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    )
    whole = delimiter.join(ROW) + "\n" + delimiter.join(ROW.values()) + "\n"
    return any_of(written, damaged([whole.encode(), b"sep=;\ntext;label\na;b\n", b"text|label\r\na|b\r\n"]))


def json_lines() -> st.SearchStrategy[bytes]:
    lines = st.lists(objects([ROW]).map(as_json), min_size=1, max_size=4).map(b"\n".join)
    return any_of(lines, damaged([as_json(ROW) + b"\n"]), json_values().map(as_json))


def parquet_bytes(columns: dict[str, list[Any]], **options: Any) -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), stream, **options)
    return stream.getvalue()


def parquet() -> st.SearchStrategy[bytes]:
    """Files of all kinds of columns, whole and damaged."""
    far = pyarrow.array([2**62, 1], pyarrow.timestamp("ns"))
    kinds = {"n": [1, 2], "f": [0.5, None], "b": [b"\xff", b"x"], "l": [[1], []], "s": [{"a": 1}, None], "t": far}
    strings = {"text": ["a", "b"], "label": ["x", "y"], "pair": ["c", "d"], "score": ["1", "2"]}
    wholes = [
        parquet_bytes({**strings, **kinds}),
        parquet_bytes(strings, compression="zstd"),
        parquet_bytes(strings, use_dictionary=False, compression="none", data_page_version="2.0"),
        parquet_bytes({"text": kinds["l"], "label": kinds["b"], "score": far}),
    ]
    return any_of(st.sampled_from(wholes), damaged(wholes))


def of_task(name: str) -> Callable[[Path], object]:
    return lambda file: read_examples(file, TASKS[name])


def settings_of(file: Path) -> object:
    """Read a configuration; argparse ends the command by itself for some values."""
    return parse_args(["--config", str(file)])


def file_parsers() -> dict[str, Parser]:
    """Return the parsers of files that people write."""
    recipe, config = objects([RECIPE]), objects([CONFIG])
    keys = objects([KEYS]) | st.builds(lambda one: {"acme": one}, objects([KEYS["acme"]]))
    read_recipe = lambda file: make_recipe(file, {})  # noqa: E731
    train, served = (AdaMixError,), (ServeError,)
    found = {
        "a recipe in YAML": Parser(
            ".yaml", read_recipe, any_of(recipe.map(yaml_lines), tagged(RECIPE), damaged([yaml_lines(RECIPE)])), train
        ),
        "a recipe in TOML": Parser(
            ".toml", read_recipe, any_of(recipe.map(toml_lines), damaged([toml_lines(RECIPE)])), train
        ),
        "a configuration in YAML": Parser(
            ".yaml",
            settings_of,
            any_of(config.map(yaml_lines), tagged(CONFIG), damaged([yaml_lines(CONFIG)])),
            (*served, SystemExit),
        ),
        "a configuration in TOML": Parser(
            ".toml", settings_of, any_of(config.map(toml_lines), damaged([toml_lines(CONFIG)])), (*served, SystemExit)
        ),
        "API keys": Parser(".toml", read_api_keys, any_of(keys.map(toml_lines), damaged([KEY_FILE.encode()])), served),
        "DART": Parser(
            ".json",
            of_task("dart"),
            any_of(damaged([as_json(DART)]), json_values(["tripleset", "annotations"]).map(as_json)),
            train,
        ),
        "WebNLG": Parser(
            ".json",
            of_task("web_nlg"),
            any_of(damaged([as_json(WEBNLG)]), json_values(["entries", "modifiedtripleset"]).map(as_json)),
            train,
        ),
    }
    for task in ("classification", "pair-regression", "generation", "sst2"):
        for suffix, contents in (
            (".csv", table(",")),
            (".tsv", table("\t")),
            (".jsonl", json_lines()),
            (".parquet", parquet()),
        ):
            found[f"{suffix} of {task}"] = Parser(suffix, of_task(task), contents, train)
    return found


PARSERS = file_parsers()


def fuzz(parse: Callable[[bytes], object], contents: st.SearchStrategy[bytes], errors: Any, examples: int) -> list[Any]:
    """Parse examples, and return those; what is neither returned nor declared is shown with the least of its kind."""
    seen: list[bytes] = []

    def check(content: bytes) -> None:
        seen.append(content)
        started = time.thread_time()  # other work on the machine is no fault of the parser
        try:
            parse(content)
        except errors as error:
            assert isinstance(error, SystemExit) or "\n" not in str(error), str(error)
        assert time.thread_time() - started < MOST_SECONDS

    run = settings(
        max_examples=examples,
        deadline=None,
        derandomize=examples == SHORT,
        database=None,
        suppress_health_check=list(HealthCheck),
    )(given(contents)(check))
    run()
    return seen


def growth(parse: Callable[[bytes], object], contents: Sequence[bytes], errors: Any) -> int:
    """Return the bytes by which memory grows when the same contents are parsed again."""

    def parse_all() -> int:
        for content in contents:
            with contextlib.suppress(errors):
                parse(content)
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    parse_all()
    before = parse_all()
    return parse_all() - before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


FORMS = [SHORT, pytest.param(LONG, marks=pytest.mark.soak)]


@pytest.mark.parametrize("examples", FORMS)
@pytest.mark.parametrize("name", PARSERS)
def test_a_file_of_any_content(
    name: str, examples: int, tmp_path: Path, figure: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    parser, file = PARSERS[name], tmp_path / f"file{PARSERS[name].suffix}"

    def parse(content: bytes) -> object:
        file.write_bytes(content)
        return parser.read(file)

    check_parser(name, parse, parser.contents, parser.errors, examples, figure)
    assert "Traceback" not in capsys.readouterr().err


def check_parser(
    name: str,
    parse: Callable[[bytes], object],
    contents: st.SearchStrategy[bytes],
    errors: Any,
    examples: int,
    figure: Callable[[str], None],
) -> None:
    """Assert that a parser stands any content, and in the long form that neither memory nor open files grow."""
    files = open_files()
    seen = fuzz(parse, contents, errors, examples)
    gc.collect()
    assert open_files() <= files + 1
    if examples == LONG:
        grown = growth(parse, seen, errors)
        figure(f"{name}: {len(seen)} contents; {grown / 1e6:+.1f} MB when they are parsed again")
        assert grown < MOST_GROWTH


def safetensors() -> st.SearchStrategy[bytes]:
    """Files of weights, damaged or with another header."""
    whole = save({"a.lora.down.weight": np.ones((2, 3), np.float32), "head.bias": np.zeros(4, np.float32)})
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    dtypes = st.sampled_from(["F32", "F16", "BF16", "F8_E4M3", "I64", "BOOL", "X", 1])
    numbers = st.sampled_from([0, 1, 4, 8, -1, 2**31, 2**63, 2**64, 10**30, 0.5, None])
    entries = objects([entry]) | st.builds(
        lambda dtype, shape, offsets: {"dtype": dtype, "shape": shape, "data_offsets": offsets},
        dtypes,
        st.lists(numbers, max_size=3),
        st.lists(numbers, max_size=3),
    )
    headers = st.dictionaries(
        st.sampled_from(["a", "b", "__metadata__", "a\0", "\ud800"]), entries | SCALARS, max_size=3
    )

    def with_header(header: Any, data: bytes) -> bytes:
        text = as_json(header)
        return len(text).to_bytes(8, "little") + text + data

    return any_of(st.builds(with_header, headers, st.binary(max_size=16)), damaged([whole]))


@pytest.fixture
def adapter_folder(classifier_folder: Path, tmp_path: Path) -> Path:
    return copy(classifier_folder / "adapters" / "tone", tmp_path / "tone")


@pytest.mark.parametrize("examples", FORMS)
def test_an_adapter_of_any_weights(adapter_folder: Path, examples: int, figure: Callable[[str], None]) -> None:
    """Its card has the right hash of them."""
    card = json.loads((adapter_folder / CARD).read_text())
    card.pop("seal")

    def parse(content: bytes) -> object:
        (adapter_folder / WEIGHTS).write_bytes(content)
        write_checked_json(adapter_folder / CARD, {**card, "sha256": hashlib.sha256(content).hexdigest()})
        return read_adapter(adapter_folder)

    check_parser("weights of an adapter", parse, safetensors(), (ServeError,), examples, figure)


def sealed_json(content: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """Contents of a checked file: its own, with other values."""
    return objects([content]).map(as_json)


@pytest.mark.parametrize("examples", FORMS)
def test_an_adapter_of_any_card(adapter_folder: Path, examples: int, figure: Callable[[str], None]) -> None:
    content = json.loads((adapter_folder / CARD).read_text())
    content.pop("seal")

    def parse(text: bytes) -> object:
        write_sealed(adapter_folder / CARD, text)
        return read_adapter(adapter_folder)

    whole = damaged([(adapter_folder / CARD).read_bytes()])
    check_parser("cards", parse, any_of(sealed_json(content), whole), (ServeError,), examples, figure)


@pytest.mark.parametrize("examples", FORMS)
def test_a_bundle_of_any_manifest(
    classifier_folder: Path, tmp_path: Path, examples: int, figure: Callable[[str], None]
) -> None:
    folder = copy(classifier_folder, tmp_path / "bundle")
    content = json.loads((folder / MANIFEST).read_text())
    content.pop("seal")

    def parse(text: bytes) -> object:
        write_sealed(folder / MANIFEST, text)
        return open_bundle(folder)

    whole = damaged([(folder / MANIFEST).read_bytes()])
    check_parser("manifests", parse, any_of(sealed_json(content), whole), (ServeError,), examples, figure)


def write_sealed(file: Path, text: bytes) -> None:
    """Write a file, with the right checksum if it is an object."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    file.write_bytes(text)
    if isinstance(content, dict):
        content.pop("seal", None)
        file.write_bytes(as_json({**content, "seal": _checksum(content)}))
