"""Add the newest model version to the wheel, so that an installed service has a model without a models folder."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

MODELS = Path("models/heart_disease")
FILES = ("model.onnx", "MODEL_CARD.md")


class BuildWithModel(build_py):
    """build_py that copies models/heart_disease/<newest version> to service/bundled_models/<version>."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        version = max(MODELS.glob(f"[0-9]*/{FILES[0]}"), key=lambda file: int(file.parent.name)).parent
        bundled = Path(self.build_lib, "service/bundled_models")
        shutil.rmtree(bundled, ignore_errors=True)  # an earlier build may have left an older version
        (bundled / version.name).mkdir(parents=True)
        for name in FILES:
            shutil.copyfile(version / name, bundled / version.name / name)


setup(cmdclass={"build_py": BuildWithModel})
