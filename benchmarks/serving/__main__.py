"""Compare the service with its ceiling and its peers: `python -m benchmarks.serving [--quick]`.

Starts every installed server, checks its predictions against ONNX Runtime, measures, and writes RESULTS.md,
serving.svg and serving.json. Exits with 1 if a server did not start, gave wrong predictions or failed.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.serving import output
from benchmarks.serving.process import CLIENT_CORE
from benchmarks.serving.run import Run, say
from benchmarks.serving.servers import ROOT, SERVERS
from patient.artefact import FILE, versions

MODELS = ROOT / "models/heart_disease"


def arguments() -> argparse.Namespace:
    """The flags, with the defaults of the full or the quick run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="under two minutes, coarser, shown only; peers that start fast"
    )
    parser.add_argument("--rounds", type=int, help="default 9, quick 2")
    parser.add_argument("--seconds", type=int, default=1, help="of a slice, default 1")
    parser.add_argument("--sparse", type=int, help="peers take part in every so-manieth round, default 3")
    parser.add_argument("--only", help="these peers, by a part of their names, comma separated; none: no peers")
    parser.add_argument("--output", type=Path, help="the folder to write to, default benchmarks; quick: none")
    chosen = parser.parse_args()
    chosen.rounds = chosen.rounds or (2 if chosen.quick else 9)
    chosen.sparse = chosen.sparse or 3
    if chosen.output is None and not chosen.quick:
        chosen.output = ROOT / "benchmarks"
    return chosen


def obstacle() -> str | None:
    """Why the benchmark cannot run here."""
    if not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2:
        return "needs Linux and two cores: one serves, the other one loads"
    if not shutil.which("wrk"):
        return "needs wrk (Debian: apt-get install wrk)"
    if not shutil.which("nginx"):
        return "needs nginx (Debian: apt-get install nginx-light)"
    if not versions(MODELS):
        return f"there is no model in {MODELS.relative_to(ROOT)}: make train"
    return None


def main() -> int | str:
    """Measure everything; returns the exit status."""
    flags = arguments()
    if reason := obstacle():
        return f"benchmarks: {reason}"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server is left behind
    begun, about = time.perf_counter(), output.machine()
    os.sched_setaffinity(0, {CLIENT_CORE})
    model = MODELS / str(versions(MODELS)[-1]) / FILE
    with tempfile.TemporaryDirectory(prefix="bench") as work:
        run = Run(Path(work), model, flags.seconds, flags.rounds, flags.sparse, 1 if flags.quick else 3)
        try:
            for server in SERVERS:
                wanted = not flags.only or any(word in server.name.lower() for word in flags.only.lower().split(","))
                if not server.peer or (server.installed and wanted and (server.quick or flags.only or not flags.quick)):
                    run.start(server)
            run.measure()
        finally:
            run.stop()
    took = (time.perf_counter() - begun) / 60
    settings = {"seconds": flags.seconds, "rounds": flags.rounds, "sparse": flags.sparse, "minutes": round(took, 1)}
    output.show(run.results)
    if flags.output:
        output.save(flags.output, run.results, about, settings)
    say(f"took {60 * took:.0f} s")
    return 1 if run.results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
