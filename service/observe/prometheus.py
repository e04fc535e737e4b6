"""The Prometheus exposition of all metrics: text format 0.0.4, written by prometheus-client."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from types import SimpleNamespace

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4 as MEDIA_TYPE
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family

from service.model.predictor import Predictor
from service.observe.drift import DriftHistogram
from service.observe.metrics import FEATURE, FEATURE_EXPECTED, METRICS, MODEL_INFO, Metric, Metrics, Snapshot

__all__ = ["MEDIA_TYPE", "exposition"]

Series = tuple[Sequence[str], Sequence[float]]  # label values and cells


def exposition(metrics: Metrics, routes: Sequence[str], model: Predictor | None) -> Iterator[bytes]:
    """Yield the text of each metric. routes: their templates, in the order in which they are counted."""
    if model:
        metrics.set_gauge("fallback", model.fallback is not None)
    now = metrics.snapshot()
    of_model = _model_series(now, model, metrics.drift) if model and metrics.drift else {}
    for metric in METRICS:
        family = _family(metric, of_model.get(metric) or now.series(metric, routes))
        yield generate_latest(SimpleNamespace(collect=lambda family=family: [family]))  # a registry of one metric


def _model_series(now: Snapshot, model: Predictor, drift: DriftHistogram) -> dict[Metric, list[Series]]:
    """The series whose labels name the model that serves."""

    def by_bin(name: str, numbers: Sequence[float]) -> Iterator[Series]:
        for bin_, number in zip(drift.labels(name), numbers, strict=bool(numbers)):
            yield (model.version, name, bin_), [number]

    return {
        MODEL_INFO: [((model.version, model.provider, model.digest), [1.0])],
        FEATURE: [series for name in drift.known for series in by_bin(name, drift.cells(now.drift, name))],
        FEATURE_EXPECTED: [series for name in drift.known for series in by_bin(name, drift.expected(name))],
    }


def _family(metric: Metric, series: Iterable[Series]) -> Family:
    name, help_text, labels = metric.name, metric.help_text, list(metric.labels)
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(name, help_text, labels=labels)
        ends = [*(f"{bound:g}" for bound in metric.buckets), "+Inf"]
        for values, (*buckets, total) in series:
            histogram.add_metric(values, list(zip(ends, accumulate(buckets), strict=True)), total)
        return histogram
    family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(name, help_text, labels=labels)
    for values, (value,) in series:
        family.add_metric(values, value)
    return family
