"""docs/reliability.md promises nothing that is not tested."""

import re

from tests.conftest import ROOT

LINK = re.compile(r"\[(\w+)\]\(\.\./(tests/[\w/]+\.py)\)")


def test_every_line_of_the_table_names_a_test_that_is_there() -> None:
    """By the name of the function, in the file that the link leads to; and no line is without."""
    lines = (ROOT / "docs/reliability.md").read_text().splitlines()
    rows = [line for line in lines[lines.index("|---|---|---|---|") + 1 :] if line.startswith("|")]
    rows = rows[: next((i for i, line in enumerate(rows) if "|---" in line), len(rows))]
    faults = [row for row in rows if row.count(" | ") == 3]
    assert len(faults) >= 12
    for row in faults:
        found = LINK.findall(row)
        assert found, row
        for name, file in found:
            assert f"def {name}(" in (ROOT / file).read_text(), name
