"""Tables on a Ray cluster, by Ray Data: one model an actor, a table at a time each.

An actor writes a hidden file and says its name. This process alone gives files the names of parts, each once, whichever
attempts fail or are made twice.
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

from pyarrow import fs

import patient
import service
from patient.artefact import FILE
from service.cli.attempt import attempt
from service.cli.job import Job, Outcome, Part, Tick
from service.cli.local import Local
from service.cli.plan import Plan
from service.cli.show import say
from service.cli.store import remove
from service.model.device import GpuOptions, ProviderError
from service.model.predictor import load
from service.model.session import CPU, CUDA
from service.records.errors import TableError
from service.settings import Provider

STORE = 80 * 2**20  # bytes of the object store of a cluster that is started here: no rows go through it
CONNECT = 10.0  # seconds
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)  # Ray reads them when it is imported
try:
    import ray
    import ray.data
except ImportError:
    raise TableError(
        "--engine ray needs Ray: pip install 'ray[data]', or the lock of the extra, locks/ray.txt"
    ) from None


class Scorer:
    """An actor: holds a model, and attempts the parts it is given."""

    def __init__(
        self,
        model: tuple[str, bytes],
        provider: tuple[Provider, GpuOptions],
        job: Job,
        systems: list[fs.FileSystem],
        folder: str,
    ) -> None:
        version, content = model
        with tempfile.TemporaryDirectory() as models:  # the very model that the driver has, wherever this runs
            Path(models, version).mkdir()
            Path(models, version, FILE).write_bytes(content)
            self.engine = Local(load(Path(models), *provider), content, job)
        self.job, self.systems, self.folder = job, systems, folder

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Parts as JSON to their outcomes as JSON."""
        source, target = self.systems
        parts = [Part(**json.loads(text)) for text in batch["part"]]
        made = [attempt(self.engine, self.job, part, source, target, self.folder, _unseen) for part in parts]
        return {"outcome": [json.dumps(outcome.as_dict()) for outcome in made]}


def _unseen(_read: int, _rows: int) -> None:
    """No bar reaches as far as here."""


@contextlib.contextmanager
def joined(
    engine: Local, provider: Provider, gpu: GpuOptions, address: str | None, workers: int | None
) -> Iterator["Cluster"]:
    """A cluster that is joined, or started here and stopped in the end.

    Raises TableError where no cluster answers, and ProviderError where it lacks the GPUs that are asked for.
    """
    rooms = [str(Path(room.__path__[0])) for room in (patient, service)]
    own: dict[str, Any] = {"object_store_memory": STORE, "num_cpus": workers, "include_dashboard": False}
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123  # Ray prints there
        try:
            _reach(address)
            with _silent():
                ray.init(
                    address=address or "local",
                    runtime_env={"py_modules": rooms},
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    **({} if address else own),
                )
        except (OSError, RuntimeError, ValueError) as error:
            raise TableError(f"No Ray cluster at {address or 'hand'}: {_first_line(error)}") from None
        try:
            there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
            gpus = 0 if provider == "cpu" else int(there.get("GPU", 0))
            if provider == "cuda" and not gpus:
                raise ProviderError("provider=cuda: the cluster has no GPU")
            yield Cluster(engine, gpu if gpus else None, workers or gpus or int(there.get("CPU", 1)))
        finally:
            ray.shutdown()


class Cluster:
    """An Executor: so many models, each on a GPU of its own or on a CPU."""

    def __init__(self, engine: Local, gpu: GpuOptions | None, workers: int) -> None:
        self.engine, self.gpu, self.workers = engine, gpu, workers
        self.identity = engine.identity_on(CUDA if gpu else CPU)

    def attempts(self, found: Plan, parts: list[Part], folder: str, _tick: Tick) -> Iterator[Outcome]:
        """See Executor. Raises TableError where the cluster fails."""
        if not parts:
            return
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        engine = self.engine
        model = (engine.predictor.version, engine.content)
        provider = ("cuda", self.gpu) if self.gpu else ("cpu", GpuOptions())
        items = [{"part": json.dumps(asdict(part))} for part in parts]
        outcomes = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            Scorer,
            fn_constructor_args=(model, provider, engine.job, [found.source, found.target], folder),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(self.workers, len(items)), max_tasks_in_flight_per_actor=1),
            num_cpus=1,
            num_gpus=int(bool(self.gpu)),
        )
        left, nodes = {part.name for part in parts}, _nodes()
        try:
            for row in outcomes.iter_rows():
                outcome = Outcome.from_dict(json.loads(row["outcome"]))
                if outcome.name in left:
                    left.remove(outcome.name)
                    yield outcome
                elif outcome.hidden:  # made twice
                    remove(found.target, outcome.hidden)
        except ray.exceptions.RayError as error:
            raise TableError(f"The cluster failed: {_first_line(error)}; finished parts stay, run it again.") from None
        if (lost := nodes - _nodes()) > 0:
            say(f"{lost} of the cluster's {nodes} nodes were lost; their parts were made by others")
        for name in sorted(left):
            yield Outcome(name, failure="The cluster lost it: run it again.")


def _reach(address: str | None) -> None:
    """Raise OSError where nobody listens at an address: Ray itself would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT).close()


def _nodes() -> int:
    return sum(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without what Ray's own core, below Python, greets with on stderr."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _first_line(error: BaseException) -> str:
    """What went wrong first, without Ray's frames."""
    cause: BaseException = getattr(error, "cause", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[-1]
