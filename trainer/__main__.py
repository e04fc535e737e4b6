"""`python -m trainer`: the order of the steps, and the flags."""

import datetime
import importlib.metadata
import sys
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, CliApp, CliImplicitFlag, CliSubCommand, SettingsError

from patient.artefact import Metadata, fingerprint, schema, versions
from trainer import quiet

with quiet.stderr():  # TensorFlow greets with a dozen lines, whatever it is told
    import tensorflow as tf

    from trainer import progress
    from trainer.card import card
    from trainer.dataset import DatasetError, read, stratified_split
    from trainer.evaluate import scores
    from trainer.export import ExportError, parity, save, to_onnx
    from trainer.fit import Recipe, fit
    from trainer.generate import Generate

LIBRARIES = ("tensorflow", "keras", "tf2onnx", "onnx", "numpy")


class Fit(Recipe):
    """Fit the network, export it to ONNX, and write it as the next version."""

    data: Path = Field(
        Path("trainer/data/cleveland.csv"),
        description="CSV or Parquet file, or folder of them, with the 13 fields and `target`",
    )
    max_bad_share: float = Field(0.0, ge=0, lt=1, description="share of the rows that may be bad, and are left out")
    rejects: Path = Field(Path("rejects.csv"), description="file that lists the bad rows, where some are allowed")
    models: Path = Field(Path("models/heart_disease"), description="folder of the versions")
    test_share: float = Field(0.2, ge=0, lt=1, description="share of the rows held out to score the network")
    threshold: float = Field(0.5, gt=0, lt=1, description="probability from which on the service says heart disease")

    if_none: CliImplicitFlag[bool] = Field(False, description="do nothing if the folder holds a version already")

    def cli_cmd(self) -> None:
        """Run the command."""
        if self.if_none and (known := versions(self.models)):
            progress.say(f"{self.models} holds version {known[-1]} already: nothing to do")
            return
        progress.say(f"Training on {_device()}")
        data = read(self.data, self.max_bad_share, self.rejects if self.max_bad_share else None)
        if data.rejected:
            progress.say(f"Bad rows left out: {data.rejected}; {self.rejects} lists them")
        train, test = stratified_split(data.target, self.test_share, np.random.default_rng(self.seed))
        with progress.bar(self.epochs) as tick:
            fitted = fit(data.rows[train], data.target[train], self, tick)
        majority = np.full(len(test), data.target[train].mean())
        parts = {"train": (data.target[train], fitted.predict(data.rows[train]))}
        if len(test):
            parts |= {"test": (data.target[test], fitted.predict(data.rows[test]))}
            parts |= {"majority": (data.target[test], majority)}
        metrics = {name: scores(*part, self.threshold) for name, part in parts.items()}
        model = to_onnx(fitted)
        difference = parity(model, fitted, data.rows)
        metadata = Metadata(
            version="0",  # save() numbers it
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            fields=schema(),
            fingerprint=fingerprint(),
            threshold=self.threshold,
            data={
                "file": data.name,
                "sha256": data.sha256,
                "rows": len(data),
                "train_rows": len(train),
                "test_rows": len(test),
            },
            flags=self.model_dump(mode="json", exclude={"data", "rejects", "models", "if_none"}),
            metrics=metrics,
            libraries={name: importlib.metadata.version(name) for name in LIBRARIES},
        )
        folder = save(model, metadata, card(metadata, difference), self.models)
        progress.summary(folder, metadata, len(fitted.losses), difference)


def _device() -> str:
    names = [
        tf.config.experimental.get_device_details(gpu)["device_name"] for gpu in tf.config.list_physical_devices("GPU")
    ]
    return f"the GPU {names[0]}" if names else "the CPU: TensorFlow finds no GPU"


class Trainer(BaseSettings, env_prefix="HEART_TRAINER_", cli_prog_name="python -m trainer", cli_kebab_case=True):
    """Train the heart disease network."""

    fit: CliSubCommand[Fit]
    generate: CliSubCommand[Generate]

    def cli_cmd(self) -> None:
        """Run the command that was named."""
        CliApp.run_subcommand(self)


def main() -> int | str:
    """Run the command line; returns what the process exits with."""
    try:
        CliApp.run(Trainer)
    except ValidationError as error:
        faults = (f"--{str(e['loc'][-1]).replace('_', '-')}: {e['msg']}" for e in error.errors(include_url=False))
        return "trainer: " + "; ".join(faults)
    except (DatasetError, ExportError, SettingsError) as error:
        return f"trainer: {error}"
    except OSError as error:
        return f"trainer: {error.filename}: {error.strerror}"
    except KeyboardInterrupt:
        return "trainer: interrupted, nothing written"
    return 0


if __name__ == "__main__":
    sys.exit(main())
