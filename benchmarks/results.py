"""Write benchmarks/RESULTS.md: each benchmark replaces the part between its two marker lines."""

from pathlib import Path

from trainer.atomic_write import atomic_write

RESULTS = Path(__file__).with_name("RESULTS.md")


def put(begin: str, end: str, text: str) -> None:
    """Replace the text between two marker lines. Raises ValueError if they are missing."""
    before, found, rest = RESULTS.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{RESULTS.name} lacks the lines {begin} and {end}")
    with atomic_write(RESULTS) as hidden:
        hidden.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
