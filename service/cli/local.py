"""Score tables by a model in this process."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from service.cli import progress
from service.cli.job import LIMITS, Buffer, Job, Kind, Part
from service.model.device import GpuOptions
from service.model.model_file import bundled_notice, model_folder
from service.model.predictor import Predictor, load
from service.records.errors import Tally
from service.settings import Provider
from service.tables import scoring
from service.tables.formats import PARQUET
from service.tables.source import Source, open_source


class Local:
    """An Engine. content: the model file that the predictor was loaded from."""

    def __init__(self, predictor: Predictor, content: bytes, job: Job) -> None:
        self.predictor, self.content, self.job = predictor, content, job
        self.identity = self.identity_on(predictor.provider)

    def identity_on(self, provider: str) -> str:
        """Return the identity of the model on an execution provider: another may round the last digit differently."""
        return f"version {self.predictor.version}, {hashlib.sha256(self.content).hexdigest()}, {provider}"

    @classmethod
    def load(cls, models: Path, provider: Provider, gpu: GpuOptions, job: Job) -> "Local":
        """Load the highest version. Raises ArtefactError and ProviderError."""
        folder = model_folder(models)
        predictor = load(folder, provider, gpu)
        if folder != models:
            progress.say(bundled_notice(models, predictor.version))
        return cls(predictor, predictor.file.read_bytes(), job)

    def score(self, source: Source, part: Part, tally: Tally) -> Iterator[Buffer]:
        source_kind, job = Kind(part.source_kind), self.job
        if source_kind.format is not PARQUET or source_kind.packing:  # uncompressed Parquet is read in place
            source = open_source(source, source_kind.packing, LIMITS)
        table = source_kind.format.read(source, job.keep, LIMITS)
        schema = scoring.result_schema(table.kept, self.predictor, job.report)
        batches = scoring.score(table.chunks, self.predictor, schema, tally)
        return Kind(part.target_kind).write(schema, batches, pipe=part.target == "-")
