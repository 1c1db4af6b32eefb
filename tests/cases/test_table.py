"""The table in TABLE.md is this run's, and knows every case."""

from __future__ import annotations

import pytest

from tests.cases import table
from tests.cases.conftest import results


def test_every_case_has_a_row() -> None:
    """All 67 are in the table, whatever has been built."""
    assert list(table.TITLES) == list(range(1, 68))
    assert table.render(table.read()) == table.FILE.read_text()


def test_the_table_says_what_this_run_found(request: pytest.FixtureRequest) -> None:
    """A case that passes, fails or is not built says so in the table of its back end; ``--table`` writes it."""
    if request.config.getoption("--table"):
        return
    said = table.read()[str(request.config.getoption("--back-end"))]

    found = results(request.config)

    assert {number: said.get(number) for number in found} == found
