import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from serve.cli import main
from serve.cluster.deploy import IMPORT_PATH
from serve.cluster.settings import command_line
from tests.serve.conftest import bundle_folder, reference

__all__ = ["bundle_folder", "reference"]


def test_a_configuration_for_rays_own_command_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["deploy", "/bundles/one", "--slots", "4", "--max-replicas", "3", "--port", "9000", "--print-config"])
    document = yaml.safe_load(capsys.readouterr().out)
    assert document["http_options"] == {"host": "0.0.0.0", "port": 9000}
    (application,) = document["applications"]
    assert (application["name"], application["route_prefix"], application["import_path"]) == (
        "adamix",
        "/",
        IMPORT_PATH,
    )
    cluster, argv = command_line(application["args"])
    assert (cluster.max_replicas, argv) == (3, ["--slots=4", "/bundles/one"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give a BUNDLE"),
        (["/b", "--workers", "2"], "--workers means nothing on a cluster: --max-replicas"),
        (["/nowhere"], "there is no bundle folder /nowhere"),
        (["/b", "--slotz", "2"], "unknown setting --slotz"),
    ],
)
def test_mistakes_end_with_one_line(flags: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=f"^adamix-serve deploy: {message}"):
        main(["deploy", *flags])


def test_without_ray_the_extra_is_named(bundle_folder: Path) -> None:
    code = "import sys; sys.modules['ray'] = None; from serve.cli import main; main(['deploy', sys.argv[1]])"
    found = subprocess.run([sys.executable, "-c", code, str(bundle_folder)], capture_output=True, text=True)
    assert found.returncode == 1
    assert found.stderr.startswith("adamix-serve deploy: deploy needs the extra ray (")
