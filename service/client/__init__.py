"""Typed clients of the service, synchronous and for asyncio. May import records.schema; need Pydantic alone.

with Client("http://127.0.0.1:8000") as client:
    client.predict(record).probability
"""

from service.client.clients import AsyncClient, Client
from service.client.encode import Record
from service.client.errors import (
    Fault,
    Forbidden,
    InvalidRecord,
    NotThisService,
    Refused,
    ServiceError,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from service.client.tables import Scored

__all__ = [
    "AsyncClient",
    "Client",
    "Fault",
    "Forbidden",
    "InvalidRecord",
    "NotThisService",
    "Record",
    "Refused",
    "Scored",
    "ServiceError",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
]
