import subprocess
import sys

from benchmarks.peers import HERE

PROGRAM = f"""
import os, sys
sys.path.insert(0, {str(HERE)!r})
from answering import answer_once_made

def make():
    print("what Python says")
    os.write(1, b"what a C library says")
    return do

def do(job):
    print("what Python says")
    os.write(1, b"what a C library says")
    return [2 * job["number"]]

answer_once_made(make)
"""


def test_only_answers_are_on_stdout_and_the_end_of_the_jobs_ends_it() -> None:
    jobs = '{"number": 1}\n{"number": 2}\n'
    result = subprocess.run([sys.executable, "-c", PROGRAM], input=jobs, capture_output=True, text=True)
    assert result.returncode == 0
    assert result.stdout == '"ready"\n[2]\n[4]\n'
    assert result.stderr.count("what Python says") == result.stderr.count("what a C library says") == 3
