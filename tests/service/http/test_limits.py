"""The number of requests that are worked on at once is bounded."""

import asyncio
from typing import Any

from service.api.health import PROBES
from service.http.body import read_json
from service.http.limits import ConcurrencyLimitMiddleware
from service.http.problems import Problem
from service.observe.metrics import OVERLOADS, Metrics

MOST = 3


def request(path: str) -> dict[str, Any]:
    """The scope of a POST."""
    return {"type": "http", "method": "POST", "path": path, "headers": [(b"content-type", b"application/json")]}


class Client:
    """Sends messages from a queue, and keeps the response."""

    def __init__(self) -> None:
        self.sends: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.got: list[Any] = []
        self.task: asyncio.Future[None]  # its request

    async def send(self, message: Any) -> None:
        self.got.append(message)


def test_requests_that_are_still_arriving_do_not_count() -> None:
    """Any number may be arriving; of those that are worked on, one too many gets 503 with Retry-After."""

    async def work() -> None:
        go, metrics = asyncio.Event(), Metrics()

        async def app(_scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await go.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})

        limit = ConcurrencyLimitMiddleware(app, MOST, metrics, PROBES)

        async def asks(path: str) -> Client:
            client = Client()
            client.task = asyncio.ensure_future(limit(request(path), client.sends.get, client.send))
            await asyncio.sleep(0)
            return client

        slow = [await asks("/predict") for _ in range(10 * MOST)]
        assert limit.gate.inside == 0
        for client in slow[:MOST]:
            client.sends.put_nowait({"type": "http.request"})
        await asyncio.sleep(0.01)
        assert limit.gate.inside == MOST
        away = await asks("/predict")
        assert away.got[0]["status"] == 503
        assert (b"retry-after", b"1") in away.got[0]["headers"]
        assert metrics.snapshot().total(OVERLOADS) == 1
        for path in PROBES:
            assert not (await asks(path)).got  # waits for the body: it was admitted
        go.set()
        for client in slow:
            client.sends.put_nowait({"type": "http.request"})
        await asyncio.gather(*(client.task for client in slow))
        assert limit.gate.inside == 0
        assert all(client.got[0]["status"] == 200 for client in slow)

    asyncio.run(work())


def test_a_request_that_ends_early_frees_its_place() -> None:
    """By an exception, or by a cancellation while its body arrives."""

    async def work() -> None:
        async def fails(*_: Any) -> None:
            raise RuntimeError

        async def waits(_scope: Any, receive: Any, _send: Any) -> None:
            await receive()

        limit = ConcurrencyLimitMiddleware(fails, 1, Metrics(), PROBES)
        for _ in range(3):
            await asyncio.gather(limit(request("/predict"), Client().sends.get, Client().send), return_exceptions=True)
        limit.app = waits
        task = asyncio.ensure_future(limit(request("/predict"), Client().sends.get, Client().send))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert limit.gate.inside == 0

    asyncio.run(work())


def test_bodies_that_are_arriving_share_a_limit() -> None:
    """Many large bodies at once do not exhaust memory; a body that ends gives back its share."""

    async def work() -> None:
        piece = {"type": "http.request", "body": b" " * 2**22, "more_body": True}
        clients = [Client() for _ in range(70)]
        tasks = [asyncio.ensure_future(read_json(request("/"), client.sends.get, 2**23)) for client in clients]
        for client in clients:
            client.sends.put_nowait(piece)
        await asyncio.sleep(0.1)
        refused = [task for task in tasks if task.done()]
        assert len(refused) == 70 - 64
        for task in refused:
            problem = task.exception()
            assert isinstance(problem, Problem)
            assert problem.status == 503
            assert problem.headers == {"Retry-After": "1"}
        for task, client in zip(tasks, clients, strict=True):
            if task not in refused:
                client.sends.put_nowait({"type": "http.disconnect"})
        await asyncio.gather(*tasks, return_exceptions=True)
        client.sends.put_nowait(piece)
        client.sends.put_nowait({"type": "http.request", "body": b"{}"})
        assert len(await read_json(request("/"), client.sends.get, 2**23)) == 2**22 + 2

    asyncio.run(work())
