"""From a metric's declaration follow its cells in shared memory and its text."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from service.observe.metrics import METRICS, RUN_ROWS, RUNS, STREAMS, WORKERS, Metrics
from service.observe.prometheus import exposition


def test_no_two_metrics_share_a_cell() -> None:
    """Each has as many as its labels and buckets need."""
    cells = [cell for metric in METRICS for cell in range(metric.start, metric.end)]
    assert cells == list(range(METRICS[-1].end))
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert RUN_ROWS.cell("batch") - RUN_ROWS.cell("single") == len(RUN_ROWS.buckets) + 2


def test_every_declared_metric_is_exposed_with_its_help_text() -> None:
    """Also those that have counted nothing."""
    text = b"".join(exposition(Metrics(), ["/predict"], None)).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == {metric.name.removesuffix("_total") for metric in METRICS}
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help_text)
    (errors,) = (sample for sample in families["heart_requests"].samples if sample.labels["route"] == "/predict")
    assert (errors.labels["status"], errors.value) == ("500", 0)


def test_counters_include_processes_that_have_ended_and_gauges_do_not(tmp_path: Path) -> None:
    """An ended process leaves its file, but no lock on it."""
    ended = Metrics()
    ended.record_run("single", 1)
    ended.set_gauge("streams", 3)
    (tmp_path / "1").write_bytes(ended._counters.array.tobytes())
    living = Metrics(tmp_path)
    living.record_run("single", 5)
    living.set_gauge("streams", 1)
    now = living.snapshot()
    assert (now.total(RUNS, "single"), now.total(STREAMS), now.total(WORKERS)) == (2, 1, 1)
