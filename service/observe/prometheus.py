"""What the service has done, all its processes together, in the words of Prometheus: its text format, version 0.0.4.

Written by hand: the official client takes several times as long, while nobody else is served.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from patient.record import FIELDS
from service.model.predictor import Predictor
from service.observe.drift import DriftHistogram
from service.observe.metrics import BOUNDS, MAX_ROUTES, REFUSED, SIZES, STATUSES, Metrics, Snapshot

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[Mapping[str, object], float]


def exposition(metrics: Metrics, routes: Sequence[str], model: Predictor | None) -> bytes:
    """All metrics."""
    if model:
        metrics.set_fallback(model.fallback is not None)
    read = metrics.snapshot()
    parts = [*_requests(read, routes), *_runs(read), *_records(read), *_process(read)]
    if model and metrics.drift:
        parts += _model(read, model, metrics.drift)
    return "".join(parts).encode()


def _requests(read: Snapshot, routes: Sequence[str]) -> Iterator[str]:
    counts = read.block("requests", MAX_ROUTES).tolist()
    seconds = read.block("seconds", MAX_ROUTES).tolist()
    known = [*enumerate(routes), (MAX_ROUTES - 1, "other")]
    yield _family(
        "heart_requests_total",
        "counter",
        "Requests, by route and status; 499: the client left first, cut: the answer had begun and could not be ended.",
        (
            ({"route": route, "status": status}, number)
            for place, route in known
            for status, number in zip((*STATUSES, "cut", "other"), counts[place], strict=True)
            if number or status == 500  # which is there from the start, so that the first is seen as an increase
        ),
    )
    yield _head("heart_request_seconds", "histogram", "Seconds from a request's head to the end of its answer.")
    for place, route in known:
        *buckets, total = seconds[place]
        if sum(buckets):
            yield _histogram("heart_request_seconds", {"route": route}, BOUNDS, buckets, total)


def _runs(read: Snapshot) -> Iterator[str]:
    ways = [({"way": way}, way) for way in ("single", "batch")]
    for name, text in (("runs", "Runs of the model."), ("rows", "Records that went through the model.")):
        samples = [(labels, read.total(f"{name}/{way}")) for labels, way in ways]
        yield _family(f"heart_{name}_total", "counter", text, samples)
    yield _head("heart_run_rows", "histogram", "Records that shared a run of the model.")
    for labels, way in ways:
        buckets = read.block(f"sizes/{way}")[0].tolist()
        yield _histogram("heart_run_rows", labels, SIZES, buckets, read.total(f"rows/{way}"))


def _records(read: Snapshot) -> Iterator[str]:
    for name, text, fields in (
        ("refused", "Records refused for the sake of a field; `other`: for another key, or no record at all.", REFUSED),
        ("missing", "Records that were scored without a field.", FIELDS),
    ):
        numbers = read.block(name)[0].tolist()
        samples = [({"field": field}, number) for field, number in zip(fields, numbers, strict=True)]
        yield _family(f"heart_{name}_total", "counter", text, samples)


def _process(read: Snapshot) -> Iterator[str]:
    yield _one("heart_overloads_total", "counter", "Requests sent away for a full queue.", read.total("overloads"))
    reloads = [({"outcome": outcome}, read.total(f"reloads/{outcome}")) for outcome in ("loaded", "refused")]
    yield _family("heart_reloads_total", "counter", "New versions, by what became of them.", reloads)
    yield _one("heart_log_dropped_total", "counter", "Lines not logged: nobody read them.", read.total("dropped"))
    waiting = [({"queue": name}, read.living(name)) for name in ("records", "batches", "explanations")]
    yield _family("heart_waiting", "gauge", "What waits for the model now.", waiting)
    yield _one("heart_streams", "gauge", "Tables that are scored now.", read.living("streams"))
    yield _one("heart_workers", "gauge", "Processes that live.", read.processes)
    ready = read.processes - read.living("unready")
    yield _one("heart_workers_ready", "gauge", "Processes that can answer.", ready)
    text = "Processes that answer from the CPU although they were to use a GPU if they can."
    yield _one("heart_provider_fallback", "gauge", text, read.living("fallback"))


def _model(read: Snapshot, model: Predictor, spread: DriftHistogram) -> Iterator[str]:
    version = model.version
    info = {"version": version, "provider": model.provider, "sha256": model.digest}
    yield _family("heart_model_info", "gauge", "What serves.", [(info, 1)])

    def samples(of: Mapping[str, Sequence[float]]) -> Iterator[Sample]:
        for feature, numbers in of.items():
            for bin_, number in zip(spread.labels(feature), numbers, strict=True):
                yield {"version": version, "feature": feature, "bin": bin_}, number

    seen = {name: spread.cells(read.drift, name) for name in spread.known}
    text = "Records that were scored, by the bins of the model's training rows; `probability` is what was answered."
    yield _family("heart_feature_total", "counter", text, samples(seen))
    expected = {name: spread.expected(name) for name in spread.known if spread.expected(name)}
    text = "The share of the model's training rows that lies in each bin."
    yield _family("heart_feature_expected_share", "gauge", text, samples(expected))


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    return _head(name, kind, text) + "".join(_line(name, labels, value) for labels, value in samples)


def _one(name: str, kind: str, text: str, value: float) -> str:
    return _family(name, kind, text, [({}, value)])


def _histogram(
    name: str, labels: Mapping[str, object], bounds: Sequence[float], buckets: Sequence[float], total: float
) -> str:
    """Of len(bounds) + 1 buckets, each without those before it, and the sum of what they hold."""
    ends = [*(f"{bound:g}" for bound in bounds), "+Inf"]
    sums = list(accumulate(buckets))
    lines = [_line(f"{name}_bucket", {**labels, "le": end}, number) for end, number in zip(ends, sums, strict=True)]
    return "".join([*lines, _line(f"{name}_sum", labels, total), _line(f"{name}_count", labels, sums[-1])])


def _head(name: str, kind: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _line(name: str, labels: Mapping[str, object], value: float) -> str:
    said = ",".join(f'{label}="{_escaped(str(value))}"' for label, value in labels.items())
    return f"{name}{{{said}}} {float(value)!r}\n" if said else f"{name} {float(value)!r}\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") if not value.isalnum() else value
