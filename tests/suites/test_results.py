"""Reading what suites say, and writing it into the docs."""

import datetime
import re

import pytest

from tests.suites.page import FIRST_COLUMN, PAGE, Row, with_rows
from tests.suites.suite import junit_results, unittest_results
from tests.suites.suites import SUITES

JUNIT = """
<testsuites><testsuite>
<testcase classname="tests.test_a.Case" name="test_one[x-1]"/>
<testcase classname="tests.test_a" name="test_two"><failure message="m">text</failure></testcase>
<testcase classname="tests.test_a" name="test_three"><skipped message="no server"/></testcase>
<testcase classname="tests.test_a" name="test_four"><error message="in its teardown"/><system-out/></testcase>
<testcase classname="" name="tests.test_b"><error message="collection failure"/></testcase>
</testsuite></testsuites>
"""
UNITTEST = """
Applying sites.0001_initial... OK
test_add (cache.tests.PyMemcacheCacheTests.test_add) ... ok
test_none (cache.tests.PyMemcacheCacheTests.test_none)
If None is cached, get() returns it. ... FAIL
test_cull (cache.tests.PyLibMCCacheTests.test_cull) ... skipped "Culling isn't implemented."
test_wrong (cache.tests.PyLibMCCacheTests.test_wrong) ... ERROR
test_known (cache.tests.PyLibMCCacheTests.test_known) ... expected failure

======================================================================
FAIL: test_none (cache.tests.PyMemcacheCacheTests.test_none)
"""


def test_what_pytest_reports_is_read() -> None:
    assert junit_results(JUNIT) == {
        "tests.test_a.Case::test_one[x-1]": "passed",
        "tests.test_a::test_two": "failed",
        "tests.test_a::test_three": "skipped",
        "tests.test_a::test_four": "failed",
        "::tests.test_b": "failed",
    }


def test_what_unittest_prints_is_read() -> None:
    assert unittest_results(UNITTEST) == {
        "cache.tests.PyMemcacheCacheTests.test_add": "passed",
        "cache.tests.PyMemcacheCacheTests.test_none": "failed",
        "cache.tests.PyLibMCCacheTests.test_cull": "skipped",
        "cache.tests.PyLibMCCacheTests.test_wrong": "failed",
        "cache.tests.PyLibMCCacheTests.test_known": "passed",
    }


def test_the_table_names_each_difference() -> None:
    page = "# Suites\n\nText.\n\n| suite | old |\n|---|---|\n| gone | 1 |\n\nMore text.\n"
    results = [{"a": "passed", "b": "failed", "c": "skipped"}, {"a": "passed", "b": "passed"}]
    written = with_rows(page, ["memcached 1.6.45", "ours"], [Row("theirs", "1.2", results)])  # type: ignore[arg-type]
    today = datetime.datetime.now(datetime.UTC).date()
    assert written == (
        "# Suites\n\nText.\n\n"
        "| suite | version | tests | memcached 1.6.45 | ours | differences | date |\n"
        "|---|---|---|---|---|---|---|\n"
        f"| theirs | 1.2 | 3 | 1 passed, 1 failed, 1 skipped | 2 passed | b, c | {today} |\n"
        "\nMore text.\n"
    )


@pytest.mark.parametrize("name", SUITES)
def test_the_page_has_the_results_of_the_version_that_is_tested(name: str) -> None:
    table = PAGE.read_text().partition(FIRST_COLUMN)[2].partition("\n\n")[0]
    [row] = re.findall(rf"^\| {re.escape(name)} \|.*$", table, re.MULTILINE)
    assert row.split(" | ")[1] == SUITES[name].version
    assert row.split(" | ")[-2] == "none"
