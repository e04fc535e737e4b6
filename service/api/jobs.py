"""The jobs of worker processes: their arguments, their work, and how their failures come back.

A job gets the headers and the query that it needs, and parses them again: the service has parsed them already, to
reject what it can before the body arrives.
"""

from collections.abc import Iterator
from http import HTTPStatus
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from starlette.datastructures import Headers
from starlette.requests import Request

from service.api.table_request import parse_table_request
from service.api.table_scoring import TableScoring, table_problem
from service.api.v2.inference import Inference
from service.http.problems import INTERNAL_ERROR, FieldError, Problem, as_problem
from service.isolation.messages import Done
from service.isolation.worker import Body, Buffer, JobFailed, Jobs, Service
from service.records.errors import RecordError
from service.tables.scoring import Scorer

if TYPE_CHECKING:
    from service.model.predictor import Predictor
    from service.settings import Settings

TABLE, INFERENCE = "table", "inference"
TABLE_HEADERS = ("content-type", "content-encoding", "accept")


def arguments(request: Request, names: tuple[str, ...], model: "Predictor", settings: "Settings") -> dict[str, Any]:
    """The arguments of a job: the request's headers of these names, its query, the model's metadata, the settings."""
    headers = [(name, value) for name, value in request.headers.items() if name in names]
    return {
        "headers": headers,
        "query": request.url.query,
        "version": model.version,
        "threshold": model.metadata.threshold,
        "settings": settings.model_dump(mode="json"),
    }


def score_table(given: dict[str, Any], body: Body, service: Service) -> Iterator[Buffer]:
    """Yield the response to a table; tell the service its format and notes first. The result has the counts of rows."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given["headers"]]
    wanted = parse_table_request(Request({"type": "http", "headers": headers, "query_string": given["query"].encode()}))
    settings, scorer = _settings(given), _scorer(given, service)
    scoring = TableScoring(wanted, settings, scorer, lambda fields: service.tell({"invalid_fields": fields}))
    has_begun = False
    try:
        for piece in scoring.work(body):
            if not has_begun:
                service.tell({"media_type": scoring.response_format.media_type, "notes": scoring.tally.notes})
                has_begun = True
            yield piece
    except MemoryError:
        raise JobFailed(_encode(_too_much_memory())) from None
    except (RecordError, Problem) as error:
        raise JobFailed(_encode(table_problem(error, wanted))) from None
    finally:
        service.result = {"rows": scoring.tally.rows, "bad": scoring.tally.bad}


def infer(given: dict[str, Any], body: Body, service: Service) -> Iterator[Buffer]:
    """Yield the response to an inference request; the result holds its headers and number of rows."""
    inference = Inference(Headers(dict(given["headers"])), _settings(given))
    try:
        response = inference.run_in_worker(body, _scorer(given, service))
    except MemoryError:
        raise JobFailed(_encode(_too_much_memory())) from None
    except (RecordError, Problem) as error:
        raise JobFailed(_encode(error if isinstance(error, Problem) else as_problem(error))) from None
    service.result = {"rows": inference.scored_rows, "headers": dict(response.headers)}
    yield response.body


JOBS: Jobs = {TABLE: score_table, INFERENCE: infer}


def result(done: Done | None) -> dict[str, Any]:
    """The result of a job. Raises Problem if it failed."""
    if done and done.failure is not None:
        raise _decode(done.failure)
    if not done or done.result is None:
        raise Problem(HTTPStatus.INTERNAL_SERVER_ERROR, INTERNAL_ERROR.detail)
    return done.result


def _settings(given: dict[str, Any]) -> "Settings":
    return cast("Settings", SimpleNamespace(**given["settings"]))  # a worker needs no more of them than their values


def _scorer(given: dict[str, Any], service: Service) -> Scorer:
    return Scorer(given["version"], given["threshold"], service.score)


def _too_much_memory() -> Problem:
    detail = "To read the table takes more memory than one table may have: send it in smaller parts."
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def _encode(problem: Problem) -> dict[str, Any]:
    return {
        "status": problem.status,
        "detail": problem.detail,
        "errors": [error.model_dump() for error in problem.errors],
        "total": problem.total,
        "headers": problem.headers,
        "fields": problem.fields,
    }


def _decode(failure: dict[str, Any]) -> Problem:
    errors = [FieldError.model_construct(**error) for error in failure.pop("errors")]
    return Problem(HTTPStatus(failure.pop("status")), failure.pop("detail"), errors, **failure)
