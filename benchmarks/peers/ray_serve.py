"""Ray Serve: `python -m benchmarks.peers.ray_serve PORT`. FastAPI ingress, one replica, behind HAProxy."""

import logging
import os
import sys
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve

from benchmarks.peers.heart import Model, Patient, Prediction

app = FastAPI()


@serve.deployment(num_replicas=1, max_ongoing_requests=256)
@serve.ingress(app)
class Heart:
    """Two routes of one replica."""

    def __init__(self) -> None:
        self.model = Model()

    @app.post("/predict")
    async def predict(self, patient: Patient) -> Any:
        """One record."""
        return Prediction(probability=self.model([patient])[0])

    @app.post("/predict/batch")
    async def predict_batch(self, patients: list[Patient]) -> Any:
        """Many."""
        return [Prediction(probability=p) for p in self.model(patients)]


if __name__ == "__main__":
    handed = ("PYTHONPATH", "BENCH_MODEL", "BENCH_WORK")
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        _temp_dir=f"{os.environ['BENCH_WORK']}/ray",
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        logging_level=logging.WARNING,
        _node_ip_address="127.0.0.1",
        runtime_env={"env_vars": {name: os.environ[name] for name in handed}},
    )
    quiet = {"log_level": "WARNING", "enable_access_log": False}
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config=quiet)
    serve.run(Heart.bind(), blocking=True)  # type: ignore[attr-defined]  # the decorator adds it
