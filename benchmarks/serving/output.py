"""Write the results: a section of RESULTS.md, a plot, and the raw numbers as JSON."""

import datetime
import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.serving.load import BATCH, LONGEST, MAIN, SINGLES
from benchmarks.serving.process import CLIENT_CORE, SERVER_CORE
from benchmarks.serving.report import Table, beside_table, goal_table, latency_table, main_table, rate
from benchmarks.serving.run import REFERENCE, Results
from benchmarks.serving.servers import CEILING, FIXED, OURS, SERVERS

BEGIN, END = "<!-- serving: written by make bench -->", "<!-- end of serving -->"
LIBRARIES = ("uvicorn", "uvloop", "httptools", "fastapi", "pydantic", "msgspec", "onnxruntime-gpu", "numpy")


def machine() -> dict[str, Any]:
    """The machine and the versions of libraries."""
    processor = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    wrk = subprocess.run(["wrk", "-v"], capture_output=True, text=True).stdout.split()  # noqa: S607
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": processor[1] if processor else platform.machine(),
        "cores": os.cpu_count(),
        "memory GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release().partition("-")[0],
        "Python": platform.python_version(),
        "wrk": wrk[1] if len(wrk) > 1 else "?",
        "libraries": {name: version(name) for name in LIBRARIES},
        "load before": round(os.getloadavg()[0], 2),
    }


def noise(table: Table) -> str:
    """The range of the ceiling's rate, and the load of wrk's core."""
    rates = [rate(one) for one in table.of(CEILING, MAIN)]
    client = max((one.get("client", 0) for one in table.results.slices), default=0)
    if not rates:
        return ""
    swing = f"Raw ASGI's rate at 64 connections varied from {min(rates):,.0f} to {max(rates):,.0f}"
    return f"{swing}; wrk used at most {client:.0%} of its core."


def section(results: Results, about: dict[str, Any], settings: dict[str, Any]) -> str:
    """All tables with their explanations."""
    table = Table(results)
    libraries = ", ".join(f"{name} {number}" for name, number in about["libraries"].items())
    legend = "\n".join(f"- **{server.name}**: {server.how}" for server in SERVERS if server.name in results.servers)
    return f"""## Service

`make bench` repeats this in about {settings["minutes"]:.0f} minutes; peers are included only after `make bench-peers`.
One run on {about["date"]}: {about["processor"]}, {about["cores"]} cores, {about["memory GiB"]} GiB,
Linux {about["kernel"]}; Python {about["Python"]}, {libraries}; wrk {about["wrk"]}.
One core runs all of a server's processes, the other one the load generator. Load average before: {about["load before"]}.

![Requests per second at 64 connections, and rows per second in batches](serving.svg)

![Latency at 1, 16, 64 and 256 connections: median to 99th percentile](latency.svg)

{goal_table(table)}

{main_table(table)}

Cells show the rate · **times that of raw ASGI** ± half the interquartile range. Every load runs in slices of
{settings["seconds"]} s (up to {LONGEST} for a slow server, so that it answers every connection) that alternate between the servers, in {settings["rounds"]} rounds; each round begins with another server;
peers take part in every {settings["sparse"]}th round. Idle servers are stopped. A ratio is computed within its round;
the median over the rounds is shown. {noise(table)}

CPU is the processor time per request in us at 64 connections, of all the server's processes, and its ratio to raw ASGI's. Cold start is
the time from the start of the process to its first response to a record. Memory is the sum of the processes' peaks.
`refuses bad` shows whether the server rejects a string for the age (type) and an undefined code (range).

{latency_table(table)}

Measured by wrk in a closed loop on open connections: medians over the slices. With fewer than 1,000 responses in a slice p99.9 is
the slowest one, with fewer than 100 also p99. `-`: fewer than two responses per connection in a slice.

{beside_table(table)}

This service only. Requests are sent at fixed times, every 10 ms on each of three connections; latencies count from the time when the
request was due. Invalid: every record of the batch has an undefined code.

Before the timing, each server's predictions were compared with ONNX Runtime in the benchmark's own process, within 1e-5: single
records, also with missing values, and batches. All servers use the same model file and one ONNX Runtime thread; the
bodies are the 303 patients of the data set. Each server runs as one process, or with one worker; peers without an access log; uvloop and
httptools wherever Uvicorn runs; no adaptive batching, which costs more than a model this small. `this service, request ids` has always the same id
on each request; the service treats such a head like one that it has never seen.

{legend}"""


def replace_section(document: str, text: str) -> str:
    """Replace the part between the markers; append it if there are none."""
    block = f"{BEGIN}\n{text}\n{END}"
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    return before + block + after if begin and end else f"{document.rstrip()}\n\n{block}\n"


def write(path: Path, content: str) -> None:
    """Write to a temporary file and rename it, so that a reader never sees a partial file."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(content)
    part.replace(path)


def plot(table: Table, path: Path) -> None:
    """Two bar charts: single records relative to raw ASGI, batches relative to parsing alone."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams |= {"svg.hashsalt": "serving", "svg.fonttype": "none", "font.size": 9}
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = ((MAIN, CEILING, "requests/s"), (BATCH, REFERENCE, "rows/s"))
    for axes, (load, top, unit) in zip(figure.subplots(1, 2), panels, strict=True):
        fixed = FIXED if top == REFERENCE else ()  # which read no batch
        names = [top, *(server.name for server in SERVERS if server.name not in (*fixed, top))]
        shares = {name: median(found) for name in names if (found := table.ratios(name, top, load))}
        names = sorted(shares, key=lambda name: shares[name])
        colours = ["#c44e52" if name == OURS else "#b0b0b0" if name == top else "#4878a8" for name in names]
        for bar, name in zip(axes.barh(names, [shares[name] for name in names], color=colours), names, strict=True):
            label = f"{shares[name]:.2f} ({(table.middle(name, load) or 0) * load.rows:,.0f}/s)"
            at = (bar.get_width(), bar.get_y() + bar.get_height() / 2)
            axes.annotate(label, at, xytext=(3, 0), textcoords="offset points", va="center")
        axes.set_xlim(0, 1.4 * max(shares.values(), default=1))
        axes.set_title(f"{unit}, {load.name}\nas a share of {top}", fontsize=9)
        axes.xaxis.set_visible(False)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, format="svg", metadata={"Date": None})
    part.replace(path)


def plot_latency(table: Table, path: Path) -> None:
    """A line from the median to the 99th percentile per server, for each number of connections."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams |= {"svg.hashsalt": "latency", "svg.fonttype": "none", "font.size": 9}
    figure = Figure(figsize=(9, 4), layout="constrained")
    names = [server.name for server in SERVERS if any(table.of(server.name, load) for load in SINGLES)][::-1]
    for axes, load in zip(figure.subplots(1, len(SINGLES), sharey=True), SINGLES, strict=True):
        for place, name in enumerate(names):
            if found := table.of(name, load):
                p50, p99 = (median(one[key] for one in found) for key in ("p50", "p99"))
                axes.plot([p50, p99], [place, place], "|-", color="#c44e52" if name == OURS else "#4878a8")
        axes.set_xscale("log")
        axes.set_yticks(range(len(names)), names)
        axes.set_title(f"{load.name}", fontsize=9)
        axes.set_xlabel("ms, median to p99")
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, format="svg", metadata={"Date": None})
    part.replace(path)


def save(folder: Path, results: Results, about: dict[str, Any], settings: dict[str, Any]) -> None:
    """RESULTS.md's section, serving.svg and serving.json in a folder."""
    document = folder / "RESULTS.md"
    text = document.read_text() if document.exists() else "# Benchmarks\n"
    plot(Table(results), folder / "serving.svg")
    plot_latency(Table(results), folder / "latency.svg")
    write(
        folder / "serving.json",
        json.dumps({"machine": about, "settings": settings, **asdict(results)}, indent=1) + "\n",
    )
    write(document, replace_section(text, section(results, about, settings)))


def show(results: Results) -> None:
    """Print the tables."""
    table = Table(results)
    parts = (main_table(table), latency_table(table), beside_table(table), goal_table(table), noise(table))
    sys.stdout.write("\n\n".join(parts) + "\n")
    sys.stdout.write(f"One core serves (core {SERVER_CORE}), the other one loads (core {CLIENT_CORE}).\n")
