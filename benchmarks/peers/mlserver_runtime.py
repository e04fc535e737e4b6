"""MLServer: `mlserver start FOLDER`, whose model-settings.json names HeartRuntime.

MLServer brings no runtime for ONNX.
"""

from mlserver import MLModel
from mlserver.handlers import custom_handler

from benchmarks.peers.heart import Model, Patient, Prediction


class HeartRuntime(MLModel):
    """Custom routes: plain JSON needs fewer steps than the V2 protocol."""

    async def load(self) -> bool:
        """Load the model."""
        self.model = Model()
        return True

    @custom_handler(rest_path="/predict")
    async def one(self, patient: Patient) -> Prediction:
        """One record."""
        return Prediction(probability=self.model([patient])[0])

    @custom_handler(rest_path="/predict/batch")
    async def many(self, patients: list[Patient]) -> list[Prediction]:
        """Many."""
        return [Prediction(probability=p) for p in self.model(patients)]
