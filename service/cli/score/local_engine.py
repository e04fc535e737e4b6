"""Score tables by a model in this process."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from service.cli.score import progress
from service.cli.score.job import Buffer, Job, Part
from service.model.device import GpuOptions
from service.model.loading import load
from service.model.model_file import bundled_notice, model_folder
from service.model.predictor import Predictor
from service.records.errors import Tally
from service.records.results import rounded
from service.settings import Provider
from service.tables.scoring import Scorer, result_schema, score
from service.tables.source import Source


class LocalEngine:
    """An Engine. content: the model file that the predictor was loaded from."""

    def __init__(self, predictor: Predictor, content: bytes, job: Job) -> None:
        self.predictor, self.content, self.job = predictor, content, job
        self.identity = self.identity_on(predictor.provider)

    def identity_on(self, provider: str) -> str:
        """Return the identity of the model on an execution provider: another may round the last digit differently."""
        return f"version {self.predictor.version}, {hashlib.sha256(self.content).hexdigest()}, {provider}"

    @classmethod
    def load(cls, models: Path, provider: Provider, gpu: GpuOptions, job: Job) -> "LocalEngine":
        """Load the pinned version, or else the highest. Raises ArtefactError and ProviderError."""
        folder = model_folder(models)
        predictor = load(folder, provider, gpu)
        if folder != models:
            progress.say(bundled_notice(models, predictor.version))
        return cls(predictor, predictor.file.read_bytes(), job)

    def score(self, source: Source, part: Part, tally: Tally) -> Iterator[Buffer]:
        table, scorer = part.read(source, self.job.keep), self._scorer()
        tally.notes += table.notes
        schema = result_schema(table.kept, scorer.version, scorer.threshold, self.job.report)
        return part.encode(schema, score(table.chunks, scorer, schema, tally), self.job.keep)

    def _scorer(self) -> Scorer:
        predictor = self.predictor
        return Scorer(
            predictor.version,
            predictor.metadata.threshold,
            lambda columns: rounded(predictor.predict_columns(columns)),
        )
