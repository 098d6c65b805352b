import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adamix_predict.turn import only_job_of
from adamix_train.errors import DataError

HOLD = """
import sys, time
from pathlib import Path
from adamix_predict.turn import only_job_of
with only_job_of(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_an_output_has_one_job_at_a_time_and_a_killed_one_leaves_it(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    with pytest.raises(DataError, match=r"another job writes .*out\.csv: wait for its end"), only_job_of(out):
        pass
    assert (tmp_path / "out.csv.partial").exists(), "the file of the other job"
    with only_job_of(tmp_path / "another.csv"):
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    with only_job_of(out):
        pass


def test_the_standard_output_is_nobodys() -> None:
    with only_job_of(None), only_job_of(None):
        pass
