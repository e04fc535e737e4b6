"""Results as Markdown. A ratio is computed within a round; the median over the rounds is shown."""

from collections.abc import Callable, Iterator
from statistics import median, quantiles
from typing import Any

from benchmarks.serving.beside import PROBES, ROWS
from benchmarks.serving.load import BATCH, LOADS, MAIN, SINGLES, Load
from benchmarks.serving.run import REFERENCE, Results
from benchmarks.serving.servers import CEILING, FIXED, IDS, KEYS, NGINX, OURS, QUIET, SERVERS, TUTORIAL, TWO

Slice = dict[str, Any]
Figure = Callable[[Slice], float]


def rate(one: Slice) -> float:
    """Requests per second."""
    return float(one["requests"] / one["seconds"])


def p99(one: Slice) -> float:
    """In ms."""
    return float(one["p99"])


def cpu(one: Slice) -> float:
    """Microseconds of the server's processor time per request."""
    return float(one["cpu"] / one["requests"] * 1e6)


def errors(one: Slice) -> int:
    """Requests without a valid response."""
    return int(one.get("refused", 0) + one.get("broken", 0))


class Table:
    """The slices of a run, by server and load."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.slices: dict[tuple[str, str], dict[int, Slice]] = {}
        for one in results.slices:
            self.slices.setdefault((one["server"], one["load"]), {})[one["round"]] = one

    def of(self, server: str, load: Load) -> list[Slice]:
        """A server's slices of a load; empty if any had errors or the server failed later."""
        found = list(self.slices.get((server, load.name), {}).values())
        return [] if server in self.results.failures or any(errors(one) for one in found) else found

    def errors(self, server: str, load: Load) -> int:
        """Over all rounds."""
        return sum(errors(one) for one in self.slices.get((server, load.name), {}).values())

    def ratios(self, server: str, other: str, load: Load, figure: Figure = rate) -> list[float]:
        """One ratio for each round in which both were measured without errors."""
        if not self.of(server, load) or not self.of(other, load):
            return []
        mine, theirs = self.slices[server, load.name], self.slices[other, load.name]
        return [figure(mine[turn]) / figure(theirs[turn]) for turn in mine if turn in theirs]

    def middle(self, server: str, load: Load, figure: Figure = rate) -> float | None:
        """The median over the rounds, None if there is none."""
        values = [figure(one) for one in self.of(server, load)]
        return median(values) if values else None


def spread(values: list[float]) -> float:
    """Half the interquartile range."""
    if len(values) < 2:
        return 0.0
    low, _, high = quantiles(values, n=4, method="inclusive")
    return (high - low) / 2


def throughput_cell(table: Table, server: str, load: Load) -> str:
    """Rows per second, and how many times those of raw ASGI."""
    if count := table.errors(server, load):
        return f"invalid: {count:,} errors"
    found, shares = table.middle(server, load), table.ratios(server, CEILING, load)
    if found is None:
        return "-"
    text = f"{found * load.rows:,.0f}"
    if server == CEILING or not shares:
        return text
    return f"{text} · **{median(shares):.2f}** ±{spread(shares):.2f}"


def latency_cell(table: Table, server: str, load: Load) -> str:
    """Percentiles in ms; none if a slice was too short."""
    found = table.of(server, load)
    if not found or any(one["requests"] < 2 * load.connections for one in found):
        return "-"
    p50, p99, p999 = (median(one[key] for one in found) for key in ("p50", "p99", "p999"))
    return f"{p50:.2f} / {p99:.2f} / {p999:.2f}"


def cpu_cell(table: Table, server: str) -> str:
    """Microseconds of processor time per request, and the ratio to raw ASGI's."""
    found, times = table.middle(server, MAIN, cpu), table.ratios(server, CEILING, MAIN, cpu)
    if found is None or not times:
        return "-"
    return f"{found:,.0f}" + ("" if server == CEILING else f" · {median(times):.1f}x")


def markdown(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is the header, all but the first column are numbers."""
    lines = [rows[0], ["---"] + ["---:"] * (len(rows[0]) - 1), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main_table(table: Table) -> str:
    """One row per server: rates, processor time, start, memory."""
    heads = [f"req/s, {load.name}" for load in SINGLES] + [f"rows/s, {BATCH.name}"]
    heads += [f"of nginx, {MAIN.connections}", f"CPU us a request, {MAIN.connections}"]
    rows = [["server", *heads, "cold start s", "peak MiB", "refuses bad"]]
    for server in SERVERS:
        if facts := table.results.servers.get(server.name):
            cells = [throughput_cell(table, server.name, load) for load in LOADS]
            of_nginx = table.ratios(server.name, NGINX, MAIN)
            last = [
                f"{median(of_nginx):.2f}" if of_nginx and server.name != NGINX else "-",
                cpu_cell(table, server.name),
                f"{median(facts['cold']):.2f}",
                f"{facts['memory']:,.0f}",
                facts["refuses"],
            ]
            rows.append([f"{server.name} ({facts['version']})" if facts["version"] else server.name, *cells, *last])
        elif reason := table.results.failures.get(server.name):
            rows.append([server.name, f"not measured: {reason}", *["-"] * (len(rows[0]) - 2)])
        else:
            reason = "left out" if server.installed else "not installed: `make bench-peers`"
            rows.append([server.name, reason, *["-"] * (len(rows[0]) - 2)])
    if table.of(REFERENCE, BATCH):
        cells = ["-"] * len(SINGLES) + [throughput_cell(table, REFERENCE, BATCH)]
        rows.append([f"{REFERENCE}, same bodies, no server", *cells, *["-"] * 5])
    return markdown(rows)


def latency_table(table: Table) -> str:
    """One row per server: p50 / p99 / p99.9 of each load."""
    rows = [["p50 / p99 / p99.9 in ms", *[load.name for load in LOADS]]]
    names = [server.name for server in SERVERS if server.name in table.results.servers]
    rows += [[name, *[latency_cell(table, name, load) for load in LOADS]] for name in names]
    return markdown(rows)


def beside_table(table: Table) -> str:
    """Latencies beside large batches, for our own service."""
    rows = [[f"beside batches of {ROWS:,}: p50 / p99 / worst in ms", *PROBES, "rows/s of the batches"]]
    for name, found in table.results.beside.items():
        waits = [f"{w['p50']:.1f} / {w['p99']:.1f} / {w['max']:.1f}" for w in found["probes"].values()]
        rows.append([name, *waits, f"{found['rows/s']:,.0f}"])
    return markdown(rows)


def goals(table: Table) -> Iterator[tuple[str, float, str, float]]:
    """Each goal: its name, the measured value, the comparison, and the target."""
    for what, ours, load, figure, other, sign, goal in (
        ("64 connections: req/s over raw ASGI's", OURS, MAIN, rate, CEILING, ">=", 2.0),
        ("64 connections, without access log: req/s over raw ASGI's", QUIET, MAIN, rate, CEILING, ">=", 2.3),
        ("64 connections, with API keys: req/s over raw ASGI's", KEYS, MAIN, rate, CEILING, ">=", 1.9),
        ("64 connections, with request ids: req/s over raw ASGI's", IDS, MAIN, rate, CEILING, ">=", 1.5),
        ("16 connections: req/s over raw ASGI's", OURS, SINGLES[1], rate, CEILING, ">=", 1.7),
        ("256 connections: req/s over raw ASGI's", OURS, SINGLES[3], rate, CEILING, ">=", 2.2),
        ("1 connection: req/s over raw ASGI's", OURS, SINGLES[0], rate, CEILING, ">=", 0.95),
        ("64 connections: req/s over nginx's", OURS, MAIN, rate, NGINX, ">=", 0.55),
        ("64 connections: p99 over raw ASGI's", OURS, MAIN, p99, CEILING, "<=", 0.7),
        ("batches of 1,000: rows/s over orjson.loads alone", OURS, BATCH, rate, REFERENCE, ">=", 0.45),
        ("batches of 1,000: rows/s over the tutorial's", OURS, BATCH, rate, TUTORIAL, ">=", 5.0),
    ):
        if found := table.ratios(ours, other, load, figure):
            yield what, median(found), sign, goal
    if found := table.ratios(OURS, TWO, MAIN, cpu):
        yield "`--workers 2`: requests per CPU second over those of one worker", median(found), ">=", 0.9
    peers = [server.name for server in SERVERS if server.name not in (OURS, QUIET, KEYS, IDS, TWO, *FIXED)]
    others = {name: table.ratios(OURS, name, MAIN) for name in peers}
    if leads := {name: median(values) for name, values in others.items() if values}:
        best = min(leads, key=lambda name: leads[name])
        yield f"64 connections: req/s over the best peer's ({best})", leads[best], ">=", 12.0
    for name, found in table.results.beside.items():
        for probe, waits in found["probes"].items():
            yield f"`{probe}` beside batches of {ROWS:,}, {name}: p99 in ms", waits["p99"], "<=", 25.0
    if facts := table.results.servers.get(OURS):
        yield "seconds from process start to the first answer", median(facts["cold"]), "<=", 1.0


def goal_table(table: Table) -> str:
    """Each goal and whether it was reached."""
    rows = [["goal", "wanted", "measured", "reached"]]
    for what, found, sign, goal in goals(table):
        reached = found >= goal if sign == ">=" else found <= goal
        rows.append([what, f"{sign} {goal:g}", f"{found:.2f}", "yes" if reached else "**no**"])
    return markdown(rows)
