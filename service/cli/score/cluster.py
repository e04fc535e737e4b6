"""Score tables on a Ray cluster with Ray Data: one model per actor, which scores a table at a time.

An actor writes a hidden file and returns its name. Only this process renames files to parts, each once, even if
attempts fail or run twice.
"""

import contextlib
import json
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import patient
import service
from patient.artefact import FILE
from patient.suppress_stderr import suppress_stderr
from service.cli.score.attempt import attempt
from service.cli.score.job import Job, Outcome, Tick
from service.cli.score.local_engine import LocalEngine
from service.cli.score.plan import Plan
from service.cli.score.progress import say
from service.model.device import GpuOptions, ProviderError
from service.model.loading import load
from service.model.session import CPU, CUDA
from service.records.errors import TableError
from service.settings import Provider

OBJECT_STORE_BYTES = 80 * 2**20  # of a cluster started here; no rows go through the object store

for _name, _value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}.items():
    os.environ.setdefault(_name, _value)  # Ray reads them at import
try:
    import ray
    import ray.data
except ImportError:
    raise TableError("--engine ray requires Ray: pip install 'ray[data]', or install locks/ray.txt") from None


class Scorer:
    """A Ray actor: a model that scores parts."""

    def __init__(
        self, model: tuple[str, bytes], provider: tuple[Provider, GpuOptions], job: Job, plan: Plan, folder: str
    ) -> None:
        version, content = model
        with tempfile.TemporaryDirectory() as models:  # the same model as the driver's, on any machine
            Path(models, version).mkdir()
            Path(models, version, FILE).write_bytes(content)
            self.engine = LocalEngine(load(Path(models), *provider), content, job)
        self.plan, self.folder = plan, folder

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Map indexes of parts to outcomes as JSON. No progress is shown: the bar is in the driver's process."""
        parts = [self.plan.parts[i] for i in batch["item"]]
        outcomes = [attempt(self.engine, part, self.plan, self.folder, lambda _read, _rows: None) for part in parts]
        return {"outcome": [json.dumps(asdict(outcome)) for outcome in outcomes]}


@contextlib.contextmanager
def join_cluster(
    engine: LocalEngine, provider: Provider, gpu: GpuOptions, address: str | None, workers: int | None
) -> Iterator["ClusterExecutor"]:
    """Join a cluster, or start one here and stop it at the end.

    Raises TableError if no cluster responds, and ProviderError if provider is cuda and the cluster has no GPU.
    """
    packages = [str(Path(package.__path__[0])) for package in (patient, service)]
    own: dict[str, Any] = {"object_store_memory": OBJECT_STORE_BYTES, "num_cpus": workers, "include_dashboard": False}
    with open(os.devnull, "w") as devnull, contextlib.redirect_stdout(devnull):  # noqa: PTH123  # Ray prints there
        try:
            _check_reachable(address)
            with suppress_stderr():  # Ray's C++ core writes there
                ray.init(
                    address=address or "local",
                    runtime_env={"py_modules": packages},
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    **({} if address else own),
                )
        except (OSError, RuntimeError, ValueError) as error:
            raise TableError(f"No Ray cluster at {address or 'this machine'}: {_last_line(error)}") from None
        try:
            resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
            gpus = 0 if provider == "cpu" else int(resources.get("GPU", 0))
            if provider == "cuda" and not gpus:
                raise ProviderError("provider=cuda: the cluster has no GPU")
            yield ClusterExecutor(engine, gpu if gpus else None, workers or gpus or int(resources.get("CPU", 1)))
        finally:
            ray.shutdown()


class ClusterExecutor:
    """An Executor with `workers` models, each on its own GPU or on a CPU."""

    def __init__(self, engine: LocalEngine, gpu: GpuOptions | None, workers: int) -> None:
        self.engine, self.gpu, self.workers = engine, gpu, workers
        self.identity = engine.identity_on(CUDA if gpu else CPU)

    def attempts(self, plan: Plan, folder: str, _tick: Tick) -> Iterator[Outcome]:
        """Raises TableError if the cluster fails."""
        count = len(plan.parts)
        if not count:
            return
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        engine = self.engine
        model = (engine.predictor.version, engine.content)
        provider = ("cuda", self.gpu) if self.gpu else ("cpu", GpuOptions())
        outcomes = ray.data.from_items([*range(count)], override_num_blocks=count).map_batches(
            Scorer,
            fn_constructor_args=(model, provider, engine.job, plan, folder),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(self.workers, count), max_tasks_in_flight_per_actor=1),
            num_cpus=1,
            num_gpus=int(bool(self.gpu)),
        )
        left, nodes = {part.name for part in plan.parts}, _nodes()
        try:
            for row in outcomes.iter_rows():
                outcome = Outcome.from_dict(json.loads(row["outcome"]))
                if outcome.name in left:
                    left.remove(outcome.name)
                    yield outcome
                elif outcome.hidden:  # a second attempt
                    plan.target.remove(outcome.hidden)
        except ray.exceptions.RayError as error:
            cause = _last_line(error)
            raise TableError(f"The cluster failed: {cause}; finished parts are kept, run it again.") from None
        if (lost := nodes - _nodes()) > 0:
            say(f"{lost} of the cluster's {nodes} nodes were lost; other nodes scored their parts")
        for name in sorted(left):
            yield Outcome(name, failure="The cluster lost this part: run it again.")


def _check_reachable(address: str | None) -> None:
    """Raise OSError if nothing listens at an address: Ray itself would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _nodes() -> int:
    return sum(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]


def _last_line(error: BaseException) -> str:
    """Return the last line of the cause, without Ray's stack frames."""
    cause: BaseException = getattr(error, "cause", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[-1]
