"""Two raylets, one of them killed while a folder is scored: run as a process of its own, because Ray warns a lot.

Usage: python -m tests.service.cli.score.cluster IN OUT FLAG...

Prints, as JSON: how many parts there were when the node was killed, the exit status, and what was said.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster

STORE = 80 * 2**20  # bytes: the least that Ray takes
SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 3}


def main(source: str, out: str, *flags: str) -> dict[str, object]:
    """Score the folder on the cluster."""
    head = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False, "_system_config": SOON}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        node = cluster.add_node(num_cpus=1, object_store_memory=STORE)
        cluster.wait_for_nodes()
        command = [sys.executable, "-m", "service", "score", source, out, *flags]
        ray = ["--engine", "ray", "--ray-address", cluster.address]
        with subprocess.Popen([*command, *ray], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as scoring:
            while scoring.poll() is None and not list(Path(out).glob("*.parquet")):
                time.sleep(0.01)
            cluster.remove_node(node, allow_graceful=False)
            there = len(list(Path(out).glob("*.parquet")))
            printed, said = scoring.communicate(timeout=120)
        return {"there": there, "status": scoring.returncode, "printed": printed, "said": said}
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]  # Ray has no types for it


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(main(*sys.argv[1:])))
