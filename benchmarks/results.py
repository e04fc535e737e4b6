"""benchmarks/RESULTS.md, of which each benchmark writes the part between two lines of its own."""

from pathlib import Path

from trainer.atomic_write import atomic_write

RESULTS = Path(__file__).with_name("RESULTS.md")


def put(begin: str, end: str, text: str) -> None:
    """Write what stands between two lines anew. Raises ValueError if they are not there."""
    before, found, rest = RESULTS.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{RESULTS.name} lacks the lines {begin} and {end}")
    with atomic_write(RESULTS) as hidden:
        hidden.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
