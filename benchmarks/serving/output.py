"""Where the results go: a section of RESULTS.md, a plot, and the raw numbers as JSON."""

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

from benchmarks.serving.load import BATCH, LONGEST, MAIN
from benchmarks.serving.process import CLIENT_CORE, SERVER_CORE
from benchmarks.serving.report import Table, beside_table, goal_table, latency_table, main_table, rate
from benchmarks.serving.run import REFERENCE, Results
from benchmarks.serving.servers import CEILING, OURS, SERVERS

BEGIN, END = "<!-- serving: written by make bench -->", "<!-- end of serving -->"
LIBRARIES = ("uvicorn", "uvloop", "httptools", "fastapi", "pydantic", "msgspec", "onnxruntime-gpu", "numpy")


def machine() -> dict[str, Any]:
    """What it runs on."""
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
    """How steady the machine was, and whether wrk had room."""
    rates = [rate(one) for one in table.of(CEILING, MAIN)]
    client = max((one.get("client", 0) for one in table.results.slices), default=0)
    if not rates:
        return ""
    swing = f"The ceiling's own rate at 64 connections went from {min(rates):,.0f} to {max(rates):,.0f}"
    return f"{swing}; wrk used at most {client:.0%} of its core."


def section(results: Results, about: dict[str, Any], settings: dict[str, Any]) -> str:
    """All tables and how to read them."""
    table = Table(results)
    libraries = ", ".join(f"{name} {number}" for name, number in about["libraries"].items())
    legend = "\n".join(f"- **{server.name}**: {server.how}" for server in SERVERS if server.name in results.servers)
    return f"""## Service

`make bench` repeats it in about {settings["minutes"]:.0f} minutes; without `make bench-peers` before it the peers are left out.
One run on {about["date"]}: {about["processor"]}, {about["cores"]} cores, {about["memory GiB"]} GiB,
Linux {about["kernel"]}; Python {about["Python"]}, {libraries}; wrk {about["wrk"]}.
One core serves (all of a server's processes), the other one loads. Load average before: {about["load before"]}.

![Requests a second at 64 connections, and rows a second in batches](serving.svg)

{goal_table(table)}

{main_table(table)}

Shown as rate · **share of the ceiling** ± half the distance of its quartiles. Every load runs in slices of
{settings["seconds"]} s (up to {LONGEST} for a slow server, so that it answers every connection) that alternate between the servers, in {settings["rounds"]} rounds, each of which begins with another server;
peers take part in every {settings["sparse"]}th round, and whoever's turn it is not is stopped. A share is formed within its round,
and the median over the rounds is shown. {noise(table)}

CPU is processor time in us a request at 64 connections, of all the server's processes, and how many times the ceiling's that is;
cold start is from the start of the process to its first answer to a record; memory is the sum of the processes' peaks;
`refuses bad` says whether a text for the age (type) and a code that there is not (range) are refused.

{latency_table(table)}

As wrk saw them, closed loop: medians over the slices, connections already open. Of fewer than 1,000 answers in a slice p99.9 is
the slowest one, and of fewer than 100 p99. `-`: fewer than two answers a connection in a slice.

{beside_table(table)}

Of this service. Requests are sent by the clock, every 10 ms on each of three connections, and a latency counts from when its
request was due. Invalid: every record of the batch has a code that there is not.

Before anything was timed, each server's answers were those of ONNX Runtime in the benchmark's own process, within 1e-5: single
records, also with values missing, and batches. All answer from the same model file, with one thread of ONNX Runtime, and the
bodies are the 303 patients of the data set. One process, or one worker of what a server is made of; no access log; uvloop and
httptools wherever uvicorn runs; no adaptive batching, which costs more than a model this small.

{legend}"""


def replace_section(document: str, text: str) -> str:
    """The document with the part between the markers replaced; appended where there is none."""
    block = f"{BEGIN}\n{text}\n{END}"
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    return before + block + after if begin and end else f"{document.rstrip()}\n\n{block}\n"


def write(path: Path, content: str) -> None:
    """Beside it, then renamed: a reader never sees half."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(content)
    part.replace(path)


def plot(table: Table, path: Path) -> None:
    """Two panels of bars: single records beside the ceiling, batches beside what parsing alone takes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams |= {"svg.hashsalt": "serving", "svg.fonttype": "none", "font.size": 9}
    figure = Figure(figsize=(9, 3), layout="constrained")
    panels = ((MAIN, CEILING, "requests/s"), (BATCH, REFERENCE, "rows/s"))
    for axes, (load, top, unit) in zip(figure.subplots(1, 2), panels, strict=True):
        names = [top, *(server.name for server in SERVERS if server.name not in (CEILING, top))]
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


def save(folder: Path, results: Results, about: dict[str, Any], settings: dict[str, Any]) -> None:
    """RESULTS.md's section, serving.svg and serving.json in a folder."""
    document = folder / "RESULTS.md"
    text = document.read_text() if document.exists() else "# Benchmarks\n"
    plot(Table(results), folder / "serving.svg")
    write(
        folder / "serving.json",
        json.dumps({"machine": about, "settings": settings, **asdict(results)}, indent=1) + "\n",
    )
    write(document, replace_section(text, section(results, about, settings)))


def show(results: Results) -> None:
    """The tables on standard output."""
    table = Table(results)
    parts = (main_table(table), latency_table(table), beside_table(table), goal_table(table), noise(table))
    sys.stdout.write("\n\n".join(parts) + "\n")
    sys.stdout.write(f"One core serves (core {SERVER_CORE}), the other one loads (core {CLIENT_CORE}).\n")
