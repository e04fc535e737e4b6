"""What the service has done, all its processes together, in the words of Prometheus."""

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from service.state import State

MEDIA_TYPE = CONTENT_TYPE_LATEST


def exposition(state: State) -> bytes:
    """All metrics."""
    registry = CollectorRegistry()
    registry.register(_Reading(state))
    return generate_latest(registry)


class _Reading(Collector):
    def __init__(self, state: State) -> None:
        self.state = state

    def collect(self) -> Iterator[Metric]:
        counts, model = self.state.counts, self.state.model
        for name, help_text in (("runs", "Runs of the model."), ("rows", "Records that went through the model.")):
            family = CounterMetricFamily(f"heart_{name}", help_text, labels=["way"])
            for way in ("single", "batch"):
                family.add_metric([way], counts.total(f"{name}/{way}"))
            yield family
        yield CounterMetricFamily("heart_overloads", "Requests sent away for a full queue.", counts.total("overloads"))
        reloads = CounterMetricFamily("heart_reloads", "New versions, by what became of them.", labels=["outcome"])
        for outcome in ("loaded", "refused"):
            reloads.add_metric([outcome], counts.total(f"reloads/{outcome}"))
        yield reloads
        workers, ready = counts.workers()
        yield GaugeMetricFamily("heart_workers", "Processes that live.", workers)
        yield GaugeMetricFamily("heart_workers_ready", "Processes that can answer.", ready)
        if model:
            info = {"version": model.version, "provider": model.provider, "sha256": model.digest}
            yield InfoMetricFamily("heart_model", "What serves.", info)
