"""Tables through a model of this process."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from service.cli import show
from service.cli.job import LIMITS, Buffer, Job, Kind, Part
from service.model.device import GpuOptions
from service.model.model_file import bundled_notice, model_folder
from service.model.predictor import Predictor, load
from service.records.errors import Tally
from service.settings import Provider
from service.tables.formats import PARQUET
from service.tables.scoring import result_schema, score
from service.tables.source import Source, open_source


class Local:
    """An Engine. content: the model's file, from which `load` has made the predictor."""

    def __init__(self, predictor: Predictor, content: bytes, job: Job) -> None:
        self.predictor, self.content, self.job = predictor, content, job
        self.identity = self.identity_on(predictor.provider)

    def identity_on(self, provider: str) -> str:
        """What the same model is on this execution provider: another may round the last digit otherwise."""
        return f"version {self.predictor.version}, {hashlib.sha256(self.content).hexdigest()}, {provider}"

    @classmethod
    def load(cls, models: Path, provider: Provider, gpu: GpuOptions, job: Job) -> "Local":
        """With the highest version. Raises ArtefactError and ProviderError."""
        predictor = load(folder := model_folder(models), provider, gpu)
        if folder != models:
            show.say(bundled_notice(models, predictor.version))
        return cls(predictor, predictor.file.read_bytes(), job)

    def answer(self, source: Source, part: Part, tally: Tally) -> Iterator[Buffer]:
        """See Engine."""
        came, job = Kind(part.came), self.job
        if came.format is not PARQUET or came.packing:  # which is read where it is, if it can be
            source = open_source(source, came.packing, LIMITS)
        table = came.format.read(source, job.keep, LIMITS)
        out = result_schema(table.kept, self.predictor, job.report)
        batches = score(table.chunks, self.predictor, table.kept, report=job.report, tally=tally)
        return Kind(part.to).write(out, batches, pipe=part.target == "-")
