"""`heart convert`: rewrite a CSV file in the codes of Kaggle's heart.csv in those of the patient record."""

import csv
import io

import click
import pyarrow as pa

from patient import codebook
from patient.command_line import HELP
from patient.printable import printable
from patient.record import FIELDS
from service.cli.score.attempt import compress
from service.cli.score.job import Kind
from service.cli.score.output_files import commit, hidden_file
from service.cli.score.storage import folder_of, is_same_file, locate
from service.client.sender import describe_error
from service.tables.formats import CSV

SEPARATORS = ",;\t"


@click.command("convert", context_settings=HELP)
@click.argument("source", metavar="IN", type=click.Path())
@click.argument("target", metavar="OUT", type=click.Path())
def convert(source: str, target: str) -> None:
    """Convert a table in the codes of Kaggle's heart.csv, which mean other findings here.

    IN and OUT are CSV files, also as .gz or .zst. The codes of cp, restecg, slope, ca and thal are replaced, and target
    is inverted, because there 1 is a patient without the disease; all other columns stay as they are. A file with other
    codes is refused, and OUT is not written. docs/codebook.md lists the codes.
    """
    source_kind, target_kind = Kind.of(source), Kind.of(target)
    if not (source_kind and target_kind and source_kind.format is target_kind.format is CSV):
        raise click.UsageError("IN and OUT must be CSV files: .csv, .csv.gz or .csv.zst")
    (storage, path), (target_storage, target_path) = locate(source), locate(target)
    try:
        if is_same_file(storage, path, target_storage, target_path):
            raise click.UsageError("the output would replace its input")
        with storage.open(path, is_seekable=False) as file, pa.input_stream(file, source_kind.compression) as stream:
            converted, rows = _convert(stream.read(), source)
        with hidden_file(target_storage, folder_of(target_path)) as (hidden, out):
            for piece in compress(iter([converted]), target_kind.compression):
                out.write(piece)
        commit(target_storage, hidden, target_path)
    except OSError as error:
        raise click.ClickException(printable(f"{error.filename or source}: {describe_error(error)}")) from None
    click.echo(f"{rows:,} rows converted", err=True)


def _convert(content: bytes, source: str) -> tuple[bytes, int]:
    """Return the converted file and its number of rows. Raises click.ClickException, which names the line."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.ClickException(f"{printable(source)}: not UTF-8 text") from None
    header = text.partition("\n")[0].lower()
    separator = max(SEPARATORS, key=lambda mark: sum(name.strip(' "\r') in FIELDS for name in header.split(mark)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    out, rows = io.StringIO(), -1
    writer = csv.writer(out, delimiter=separator, lineterminator="\n")
    try:
        for rows, row in enumerate(codebook.convert(reader)):  # noqa: B007  # the header is row 0
            writer.writerow(row)
    except (codebook.NotConvertible, csv.Error) as error:
        reason = error if isinstance(error, codebook.NotConvertible) else "not CSV"
        raise click.ClickException(f"{printable(source)}:{reader.line_num}: {reason}. Nothing was written.") from None
    return out.getvalue().encode(), rows
