import subprocess
import sys


def test_the_package_runs_as_a_module() -> None:
    result = subprocess.run([sys.executable, "-m", "adamix_train", "--version"], capture_output=True, text=True)
    assert result.stdout.startswith("adamix "), result.stderr
