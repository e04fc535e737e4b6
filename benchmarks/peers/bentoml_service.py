"""BentoML: `bentoml serve benchmarks.peers.bentoml_service:Heart`, without adaptive batching."""

import bentoml

from benchmarks.peers.heart import Model, Patient, Prediction


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Heart:
    """The patient is the whole body."""

    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api
    async def predict(self, patient: Patient, /) -> Prediction:
        """One record."""
        return Prediction(probability=self.model([patient])[0])

    @bentoml.api(route="/predict/batch")
    async def predict_batch(self, patients: list[Patient], /) -> list[Prediction]:
        """Many."""
        return [Prediction(probability=p) for p in self.model(patients)]
