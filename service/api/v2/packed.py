"""A compressed request, within the limits of compressed tables."""

from http import HTTPStatus

from service.api.v2.requests import refused
from service.api.v2.tensors import Source
from service.records.errors import RecordError, TooLarge
from service.settings import Settings
from service.tables.source import Limits, open_source


class Unpacked:
    """What a compressed source holds."""

    def __init__(self, source: Source, packing: str, settings: Settings) -> None:
        most = settings.max_body + settings.max_part
        self.source = open_source(source, packing, Limits(most, most, ratio=settings.max_ratio))

    def read(self, size: int, /) -> bytes:
        """See Source. Raises Problem 400 and 413."""
        try:
            return self.source.read(size)
        except TooLarge as error:
            raise refused(str(error), HTTPStatus.REQUEST_ENTITY_TOO_LARGE) from None
        except RecordError as error:
            raise refused(str(error)) from None
