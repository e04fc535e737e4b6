"""Past one machine: the same folder on a Ray cluster gives the same parts, and a node may die meanwhile."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from tests.conftest import ROOT
from tests.service.cli.score.conftest import Command, patients, spoiled, started, write

KEEP = ("--keep", "*", "--on-error", "report")
PARTS = 12


def test_a_node_that_is_killed_costs_nothing(tmp_path: Path, score: Command) -> None:
    """Two raylets, one killed after the first parts: each part is there once, and equal to that of one process."""
    for i in range(PARTS):
        table = spoiled(patients(40_000, seed=i), chol={i: 7.5}, age={100 * i: 17})
        write(tmp_path / "in" / f"p{i:02}.{'csv' if i % 2 else 'parquet'}", table)
    command = [
        sys.executable,
        "-m",
        "tests.service.cli.score.cluster",
        str(tmp_path / "in"),
        str(tmp_path / "ray.parquet"),
    ]
    done = subprocess.run([*command, *KEEP], cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["status"] == 3, found["said"]
    assert 0 < found["there"] < PARTS
    assert found["printed"] == ""
    assert "1 of the cluster's 2 nodes were lost" in found["said"]
    assert score(tmp_path / "in", tmp_path / "one.parquet", *KEEP) == 3
    assert found["said"].splitlines()[1:] == score.said.splitlines()
    for i in range(PARTS):
        one, ray = (
            pa.parquet.read_table(tmp_path / out / f"p{i:02}.parquet") for out in ("one.parquet", "ray.parquet")
        )
        assert ray.equals(one, check_metadata=True)
    assert len(list((tmp_path / "ray.parquet").iterdir())) == PARTS + 1
    assert not list((tmp_path / "ray.parquet/.parts").glob(".writing-*"))
    # What a cluster has finished, one process does not make again.
    assert score(tmp_path / "in", tmp_path / "ray.parquet", *KEEP) == 3
    assert f"{PARTS} of them finished before" in score.said


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path) -> None:
    """In a line."""
    write(tmp_path / "in/a.csv", patients(3))
    ray = ("--engine", "ray", "--ray-address", "127.0.0.1:1")
    with started(tmp_path / "in", tmp_path / "out", *KEEP, *ray) as done:
        said = done.communicate()[1].decode()
    assert done.returncode == 1
    assert said.startswith("score: No Ray cluster at 127.0.0.1:1: ")
    assert said.count("\n") == 1


def test_without_ray_it_says_how_to_install_it(tmp_path: Path) -> None:
    """The service's own set has none."""
    write(tmp_path / "in/a.csv", patients(3))
    code = f"""
import sys
sys.modules["ray"] = None
from service.cli.score.command import score
sys.exit(score(["{tmp_path}/in", "{tmp_path}/out", "--engine", "ray"]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("score: --engine ray requires Ray: pip install ")
    assert done.stderr.count("\n") == 1


def test_a_cluster_takes_neither_pipes_nor_a_service(score: Command) -> None:
    """What is asked for must be possible."""
    assert score("-", "out", "--format", "csv", "--engine", "ray") == 2
    assert score("in.csv", "out", "--engine", "ray", "--url", "http://127.0.0.1:8000") == 2
    assert score("in.csv", "out", "--engine", "ray", "--workers", "0") == 2
