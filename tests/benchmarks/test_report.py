"""Slices of a load become ratios, tables and a section of RESULTS.md."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.serving.checks import probabilities, same
from benchmarks.serving.load import BATCH, LOADS, MAIN, SINGLES, parse
from benchmarks.serving.output import BEGIN, END, replace_section, save, write
from benchmarks.serving.process import Failed
from benchmarks.serving.report import Table, goals, latency_table, main_table, markdown, spread
from benchmarks.serving.run import REFERENCE, Results
from benchmarks.serving.servers import CEILING, OURS, TUTORIAL


def one(server: str, load: str, turn: int, requests: int, **more: Any) -> dict[str, Any]:
    """A slice of a second."""
    figures = {"requests": requests, "seconds": 1.0, "p50": 1.0, "p99": 2.0, "p999": 3.0, "cpu": 0.5, "client": 0.4}
    return {"server": server, "load": load, "round": turn} | figures | more


@pytest.fixture
def results() -> Results:
    """Three rounds on a machine that grows four times as slow, and the ratio of ours to the ceiling stays near 0.8."""
    found = Results()
    for name in (OURS, CEILING, TUTORIAL):
        found.servers[name] = {"version": "x 1", "cold": [0.5, 0.7, 0.6], "refuses": "type", "memory": 100.0}
    for turn, (ceiling, ours) in enumerate(((20_000, 16_000), (10_000, 8_200), (5_000, 3_900))):
        for load in LOADS:
            found.slices.append(one(CEILING, load.name, turn, ceiling))
            found.slices.append(one(OURS, load.name, turn, ours, p99=3.0))
            found.slices.append(one(TUTORIAL, load.name, turn, ours // 4))
        found.slices.append(
            {"server": REFERENCE, "load": BATCH.name, "round": turn, "requests": 2 * ours, "seconds": 1.0}
        )
    return found


def test_what_wrk_printed_becomes_figures() -> None:
    """Whatever else wrk says before it."""
    line = '{"requests": 9, "seconds": 0.9, "p50": 1, "p99": 2, "p999": 3, "refused": 1, "broken": 2}'
    figures = parse(f"Running 1s test\n\nFIGURES {line}\n")
    assert (figures.requests, figures.p99, figures.errors) == (9, 2, 3)


def test_a_wrk_that_could_not_connect_is_a_failure_with_its_own_words() -> None:
    """And no row of zeros."""
    with pytest.raises(Failed, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_a_slow_server_gets_longer_slices_within_bounds() -> None:
    """Four answers on each of 256 connections at 400 a second take 2.6 s, and at 50 too long."""
    *_, many = SINGLES
    assert [many.seconds(1, pace) for pace in (10_000, 400, 50)] == [1, 3, 6]


def test_a_ratio_is_formed_within_its_round(results: Results) -> None:
    """The machine's own drift cancels out: 0.8, 0.82 and 0.78 of a ceiling that fell to a quarter."""
    assert Table(results).ratios(OURS, CEILING, MAIN) == pytest.approx([0.8, 0.82, 0.78])
    assert "8,200 · **0.80** ±0.01" in main_table(Table(results))


def test_a_server_that_missed_a_round_is_compared_in_the_others(results: Results) -> None:
    """Peers take part in a few rounds only."""
    results.slices = [s for s in results.slices if s["server"] != TUTORIAL or s["round"] == 1]
    assert Table(results).ratios(OURS, TUTORIAL, MAIN) == [4.0]


@pytest.mark.parametrize("kind", ["refused", "broken"])
def test_one_error_makes_a_row_invalid(results: Results, kind: str) -> None:
    """Refusing is faster than answering: such a rate is no result."""
    results.slices.append(one(OURS, MAIN.name, 3, 50_000, **{kind: 1}))
    assert "invalid: 1 errors" in main_table(Table(results))
    assert not Table(results).ratios(OURS, CEILING, MAIN)
    assert not any("64 connections" in what for what, *_ in goals(Table(results)))


def test_a_server_that_failed_says_why(results: Results) -> None:
    """In its row; what it did before counts for nothing."""
    del results.servers[TUTORIAL]
    results.failures[TUTORIAL] = "answers wrongly"
    assert f"| {TUTORIAL} | not measured: answers wrongly |" in main_table(Table(results))
    assert not Table(results).of(TUTORIAL, MAIN)


def test_a_slice_too_short_to_answer_every_connection_twice_has_no_latencies(results: Results) -> None:
    """The slowest answers would be those that the slice cut off."""
    few = [s | {"requests": 500} if s["server"] == OURS else s for s in results.slices]
    cells = next(line for line in latency_table(Table(Results(results.servers, few))).splitlines() if OURS in line)
    assert [cell.strip() for cell in cells.split("|")[2:-1]][:4] == ["1.00 / 3.00 / 3.00"] * 3 + ["-"]


def test_goals_are_held_against_what_was_measured(results: Results) -> None:
    """The ones on ratios, on the best peer and on the start."""
    found = {what: value for what, value, *_ in goals(Table(results))}
    assert sorted(found.values()) == pytest.approx(sorted([0.8, 0.8, 0.8, 0.8, 1.5, 0.5, 4.0, 4.0, 0.6]), rel=0.01)
    assert any(TUTORIAL in what for what in found)


def test_spread_is_half_the_distance_of_the_quartiles() -> None:
    """And nothing where there is one round only."""
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == 1.0
    assert spread([1.0]) == 0.0


def test_a_rerun_replaces_its_own_section_only() -> None:
    """What stands before and after it stays as it was."""
    first = replace_section("# Benchmarks\n\n## Trainer\n\nfast\n", "one")
    assert first == f"# Benchmarks\n\n## Trainer\n\nfast\n\n{BEGIN}\none\n{END}\n"
    assert replace_section(first + "\n## More\n", "two") == first.replace("one", "two") + "\n## More\n"


def test_everything_is_written_and_no_part_is_left(results: Results, tmp_path: Path) -> None:
    """Document, plot and raw numbers."""
    about = {
        "date": "2026-11-01",
        "processor": "x",
        "cores": 2,
        "memory GiB": 4,
        "kernel": "6",
        "Python": "3",
        "wrk": "4",
    }
    about |= {"libraries": {"uvicorn": "1"}, "load before": 0.1}
    settings = {"seconds": 1, "rounds": 3, "sparse": 1, "minutes": 2.0}
    save(tmp_path, results, about, settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "RESULTS.md",
        "latency.svg",
        "serving.json",
        "serving.svg",
    ]
    assert main_table(Table(results)) in (tmp_path / "RESULTS.md").read_text()
    write(tmp_path / "RESULTS.md", "x")
    assert (tmp_path / "RESULTS.md").read_text() == "x"


@pytest.mark.parametrize(
    "answer",
    [
        [{"probability": 0.25}, {"probability": 0.5}],
        {"predictions": [{"probability": 0.25, "missing": []}, {"probability": 0.5, "missing": ["ca"]}]},
        {"predictions": [[0.25], [0.5]]},
        {"outputs": [{"name": "probability", "shape": [2, 1], "data": [0.25, 0.5]}]},
    ],
)
def test_probabilities_are_found_in_whatever_wraps_them(answer: Any) -> None:
    """Each server has its own shape, and none may answer other values, or in another order."""
    assert probabilities(answer) == [0.25, 0.5]
    assert same(answer, np.array([0.25, 0.5], np.float32))
    assert not same(answer, np.array([0.5, 0.25], np.float32))
    assert not same(answer, np.array([0.25], np.float32))
    assert not same(answer, np.array([0.25, 0.5001], np.float32))


def test_a_table_has_a_cell_a_column() -> None:
    """Markdown silently drops what has no head."""
    rows = markdown([["a", "b"], ["1", "2"]]).splitlines()
    assert {line.count("|") for line in rows} == {3}
    assert len({line.count("|") for line in main_table(Table(Results())).splitlines()}) == 1
    assert len(SINGLES) == 4
