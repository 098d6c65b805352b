import xml.etree.ElementTree as ElementTree

from benchmarks.interop import clients_of, findings_of

REPORT = """
<testsuites><testsuite>
<testcase classname="tests.interop.test_openai" name="a">
  <properties><property name="openai" value="3.57.0"/></properties>
</testcase>
<testcase classname="tests.interop.test_openai" name="b"><failure message="no"/></testcase>
<testcase classname="tests.interop.test_openai" name="c"><skipped type="pytest.xfail" message="known"/></testcase>
<testcase classname="tests.interop.test_load_generators" name="d">
  <properties><property name="tool" value="1.0"/><property name="figures" value="3 requests/s"/></properties>
</testcase>
<testcase classname="tests.interop.test_curl" name="e"><skipped type="pytest.skip" message="not installed"/></testcase>
</testsuite></testsuites>
"""


def test_a_client_has_its_versions_its_outcomes_and_its_own_figures() -> None:
    findings = findings_of(clients_of(ElementTree.fromstring(REPORT).iter("testcase")))
    generators, openai = findings.rows
    assert openai == {
        "tests": "openai",
        "packages": "openai 3.57.0",
        "passed": 1,
        "failed": 1,
        "known to fail": 1,
        "figures": "",
    }
    assert (generators["packages"], generators["figures"]) == ("tool 1.0", "tool: 3 requests/s")
    assert [(one.peer, one.reason) for one in findings.absent] == [("curl", "not installed")]
    (goal,) = findings.goals
    assert (goal.value, goal.met) == (1.0, False)
