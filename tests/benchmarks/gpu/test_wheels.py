import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

from benchmarks.gpu import wheels
from benchmarks.gpu.packing import PackingError
from benchmarks.gpu.wheels import ARCHIVES, ROOT, UNUSED, download, main, pins_of, unpack, write_metadata

RECORD = f"onnxruntime/__init__.py,sha256=a,1\n{UNUSED},sha256=b,2\nonnxruntime_gpu-1.dist-info/RECORD,,\n"


def test_the_provider_that_nobody_uses_is_left_out_and_not_recorded(tmp_path: Path) -> None:
    wheel = tmp_path / "onnxruntime_gpu-1.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("onnxruntime/__init__.py", "a")
        archive.writestr(UNUSED, "large")
        archive.writestr("onnxruntime_gpu-1.dist-info/RECORD", RECORD)
    unpack(wheel, tmp_path / "site")
    assert not (tmp_path / "site" / UNUSED).exists()
    assert (tmp_path / "site" / "onnxruntime" / "__init__.py").read_text() == "a"
    record = (tmp_path / "site" / "onnxruntime_gpu-1.dist-info" / "RECORD").read_text()
    assert record == "onnxruntime/__init__.py,sha256=a,1\nonnxruntime_gpu-1.dist-info/RECORD,,\n"


def test_every_package_has_a_pin() -> None:
    pins = pins_of((ROOT / "constraints.txt").read_text())
    assert all(pins[package][0].isdigit() for packages in ARCHIVES.values() for package in packages)
    assert pins_of("# one==2\na==1\n\nb>=3\n") == {"a": "1"}


def test_the_projects_version_is_found_without_an_installation(tmp_path: Path) -> None:
    write_metadata(tmp_path)
    assert [(one.name, one.version) for one in distributions(path=[str(tmp_path)])] == [("adamix", "0.1.0")]


def test_wheels_are_for_the_other_machines_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(wheels, "run", commands.append)
    download(["one==1"], tmp_path)
    (command,) = commands
    assert command[1:4] == ["-m", "pip", "download"]
    assert command[command.index("--python-version") + 1] == "3.12"
    assert {"--no-deps", "--only-binary=:all:", "manylinux_2_28_x86_64", "one==1"} <= set(command)


def test_a_download_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str]) -> str:
        raise PackingError("pip … failed: no network")

    monkeypatch.setattr(wheels, "run", run)
    with pytest.raises(SystemExit, match=r"benchmarks\.gpu\.wheels: pip … failed: no network"):
        main([str(tmp_path)])
