"""`python -m trainer generate`: write a table of synthetic patients."""

from trainer.cli.options import GenerateOptions
from trainer.dataset import read
from trainer.generate import generate


def run(options: GenerateOptions) -> None:
    generate(options.out, options.rows, options.seed, read(options.data))
