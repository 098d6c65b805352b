import json
import re
import sys

import pytest

from benchmarks.support.errors import DisagreementError
from benchmarks.support.harness import QUICK_ROUNDS, ROUNDS, Benchmark, main
from benchmarks.support.report import Absent, Findings, Goal

KEYS = ["name", "machine", "versions", "command", "goals", "rows", "absent"]


def findings():
    return Findings(
        goals=[
            Goal(what="ratio", value=0.5, goal=1.0),
            Goal(what="bytes", value=3, goal=4, better="lower"),
        ],
        rows=[{"case": "small", "ours_ms": 1.25}, {"case": "large", "ours_ms": 100.0}],
        versions={"python": "3.11"},
        worst="0.500 at small against quick",
        absent=[Absent(peer="optimum", reason="not installed: make peers")],
    )


@pytest.fixture
def paces():
    return []


@pytest.fixture
def fake(paces):
    def measure(pace):
        paces.append(pace)
        sys.stdout.write("a library talks\n")
        return findings()

    return Benchmark(name="fake", claim="Nothing is measured.", measure=measure)


def test_the_table_goes_to_stdout_and_ends_with_the_worst_ratio(fake, capsys):
    main(fake, [])
    out = capsys.readouterr().out
    assert out.startswith("python -m benchmarks.fake\n")
    assert "| small |   1.250 |" in out
    assert out.rstrip().splitlines()[-1] == "worst ratio: 0.500 at small against quick"


def test_missed_goals_and_absent_peers_are_named(fake, capsys):
    main(fake, [])
    out = capsys.readouterr().out
    assert "goal MISSED: ratio: 0.500 (goal: at least 1)" in out
    assert "goal met: bytes: 3.000 (goal: at most 4)" in out
    assert "ABSENT: optimum: not installed: make peers" in out


def test_with_json_on_stdout_there_is_nothing_else_on_it(fake, capsys):
    main(fake, ["--json", "-"])
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert list(report) == KEYS
    assert report["goals"] == [
        {"what": "ratio", "value": 0.5, "goal": 1.0, "better": "higher", "met": False},
        {"what": "bytes", "value": 3, "goal": 4, "better": "lower", "met": True},
    ]
    assert report["absent"] == [{"peer": "optimum", "reason": "not installed: make peers"}]
    assert report["rows"][0] == {"case": "small", "ours_ms": 1.25}
    assert "a library talks" in captured.err
    assert "worst ratio" in captured.err


def test_with_a_json_file_the_file_is_whole_and_alone(fake, capsys, tmp_path):
    file = tmp_path / "results" / "fake.json"
    main(fake, ["--json", str(file)])
    assert list(json.loads(file.read_text())) == KEYS
    assert list(file.parent.iterdir()) == [file]
    assert "worst ratio" in capsys.readouterr().out


def test_the_machine_is_described_without_its_name_or_paths(fake, capsys):
    main(fake, ["--json", "-"])
    machine = json.loads(capsys.readouterr().out)["machine"]
    assert list(machine) == ["processor", "cores", "memory_gib", "platform"]
    assert machine["cores"] >= 1
    assert not re.search(r"(^|\s)/\w", json.dumps(machine))


def test_quick_does_fewer_rounds_of_the_same_work(fake, paces, capsys):
    main(fake, [])
    main(fake, ["--quick"])
    assert [pace.rounds for pace in paces] == [ROUNDS, QUICK_ROUNDS]
    assert "python -m benchmarks.fake --quick\n" in capsys.readouterr().out


def test_a_figure_that_means_nothing_is_not_printed(capsys):
    def measure(pace):
        raise DisagreementError("they differ")

    with pytest.raises(SystemExit, match=r"benchmarks\.fake: they differ"):
        main(Benchmark(name="fake", claim="", measure=measure), [])
    assert not capsys.readouterr().out
