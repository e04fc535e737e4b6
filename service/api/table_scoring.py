"""Score the table in a request's body, in a worker process."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from service.api.table_request import TableRequest, format_of_type
from service.http.multipart import FormFile
from service.http.problems import Problem, as_problem, invalid_rows_problem
from service.isolation.worker import Buffer
from service.records.errors import EMPTY_BATCH, ColumnsError, InvalidRows, RecordError, Tally, TooLarge
from service.tables.chunk import Chunk
from service.tables.formats import JSON, NDJSON, Format, format_of_file
from service.tables.scoring import Scorer, result_schema, score
from service.tables.source import Limits, Source, buffer_until_complete, open_source

if TYPE_CHECKING:
    from service.settings import Settings


class TableScoring:
    """The scoring of one table.

    on_invalid_fields: called with the number of invalid values of each field
    response_format: known once `work` has yielded
    """

    def __init__(
        self,
        request: TableRequest,
        settings: "Settings",
        scorer: Scorer,
        on_invalid_fields: Callable[[Mapping[str, int]], object],
    ) -> None:
        self.request, self.settings, self.scorer = request, settings, scorer
        self.on_invalid_fields = on_invalid_fields
        self.response_format = NDJSON
        self.tally = Tally()

    def work(self, body: Source) -> Iterator[Buffer]:
        """Yield the pieces of the response. Raises RecordError and Problem."""
        format_, source, encoding = self._table_in(body)
        self.response_format, report = self.request.response_format(format_), self.request.reports_errors(format_)
        limits = self._limits(format_)
        table = format_.read(open_source(source, encoding, limits), self.request.keep, limits)
        self.tally.notes += table.notes
        schema = result_schema(table.kept, self.scorer.version, self.scorer.threshold, report)
        batches = score(self._checked(table.chunks, limits), self.scorer, schema, self.tally)
        written = self.response_format.write(schema, batches, self.request.keep)
        pieces = self._not_empty(memoryview(piece) for piece in written)
        if report:
            return self._with_summary(pieces) if self.response_format is NDJSON else pieces
        return buffer_until_complete(pieces, limits.spool)

    def _table_in(self, body: Source) -> tuple[Format, Source, str | None]:
        """The table's format, its bytes, and how they are compressed."""
        if self.request.format:
            return self.request.format, body, self.request.encoding
        form = open_source(body, self.request.encoding, self._limits(NDJSON))
        file = FormFile(form, self.request.boundary)
        if named := format_of_file(file.file_name):
            format_, encoding = named
            return format_, file, encoding
        if typed := format_of_type(file.media_type):
            return typed, file, None
        detail = "Name the form's file after its format, such as table.csv, or give it a Content-Type."
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)

    def _limits(self, format_: Format) -> Limits:
        of = self.settings
        others = of.max_spool, of.max_ratio, of.max_columns
        if format_ is JSON:  # read as a whole
            return Limits(of.max_body, of.max_body, of.max_rows, of.max_body, *others)
        return Limits(of.max_table, of.max_unpacked, of.max_table_rows, of.max_part, *others)

    def _checked(self, chunks: Iterable[Chunk], limits: Limits) -> Iterator[Chunk]:
        """The chunks, up to the limit of rows; after each, its invalid fields are reported."""
        for chunk in chunks:
            if self.tally.rows + len(chunk) > limits.rows:
                raise TooLarge(f"The table has more than {limits.rows} rows.")
            yield chunk
            if fields := self.tally.fields:
                self.tally.fields = Counter()
                self.on_invalid_fields(fields)

    def _not_empty(self, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
        """The pieces, from the first row on. Raises ColumnsError if the table has no row."""
        held_back: list[memoryview] = []
        for piece in pieces:
            held_back.append(piece)
            if self.tally.rows:
                yield from held_back
                held_back.clear()
        if not self.tally.rows:
            raise ColumnsError([EMPTY_BATCH])

    def _with_summary(self, pieces: Iterable[memoryview]) -> Iterator[Buffer]:
        """The pieces of NDJSON and a last line that counts the rows, or says why the response is cut off."""
        has_begun = False
        try:
            for piece in pieces:
                has_begun = True
                yield piece
        except RecordError as error:
            if has_begun:
                yield self._summary(str(error))
            raise
        yield self._summary(None)

    def _summary(self, cut: str | None) -> bytes:
        tally, scorer = self.tally, self.scorer
        summary: dict[str, object] = {"rows": tally.rows, "scored": tally.rows - tally.bad, "bad": tally.bad}
        summary |= {"model_version": scorer.version, "threshold": scorer.threshold}
        summary |= {"notes": tally.notes} if tally.notes else {}
        return json.dumps({"summary": summary | ({"cut": cut} if cut else {})}).encode() + b"\n"


def table_problem(error: RecordError | Problem, request: TableRequest) -> Problem:
    """A table's failure as a problem, with a hint where a different request would succeed."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, InvalidRows):
        return invalid_rows_problem(error)
    problem = as_problem(error)
    if isinstance(error, TooLarge) and request.format is JSON:
        problem.detail += " Send larger tables as NDJSON, CSV, Arrow or Parquet."
    return problem
