"""Which version of the model serves, and how a new one takes its place without a gap.

The newest that can be trusted serves, unless one is pinned: by the setting `version`, or while the service runs by the
file `serve` beside the versions. A version that cannot be trusted is refused, once, until its file changes. What serves
is in memory: whatever becomes of its file, it serves on until another takes its place.
"""

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from patient.artefact import FILE, PIN, ArtefactError, pinned
from service.api.state import State
from service.http.streams import yield_to_others
from service.model.device import ProviderError, reason
from service.model.predictor import Predictor, candidates, load_file
from service.observe.metrics import Counts
from service.settings import Settings

Stamp = tuple[int, ...] | None  # what changes when a file does; None is no file

log = logging.getLogger(__name__)


class Versions:
    """The versions in the folder of the settings, as one process sees them. For one thread at a time.

    model: what serves; refused: what must not, by version, with the stamp that it had; seen: stamps at the last look
    """

    def __init__(self, settings: Settings, counts: Counts) -> None:
        self.settings, self.counts = settings, counts
        self.model: Predictor | None = None
        self.serving: tuple[int, Stamp] = 0, None
        self.refused: dict[int | str, object] = {}
        self.seen: dict[int | str, object] = {}
        self.gone = False

    def start(self) -> Predictor:
        """The first that can be trusted: a restart, or a worker that replaces another, must not fail for a new one.

        Raises ArtefactError, that of the newest, if there is none, and ProviderError.
        """
        faults: list[tuple[int, Stamp, ArtefactError]] = []
        for version in candidates(self.settings.models, self._pin()):
            stamp = self._stamp(version)
            try:
                model = load_file(self._file(version), self.settings.provider, self.settings.gpu)
            except ArtefactError as error:
                faults.append((version, stamp, error))
                continue
            self.model, self.serving = model, (version, stamp)
            for fault in faults:
                self._refuse(*fault)
            return model
        raise faults[0][2]

    def look(self, now: bool = False) -> Predictor | None:
        """What is to serve from now on; None leaves it as it is. Logs and counts what must not, and never raises.

        A file is tried when it is the same in two looks: it may be still written. now: also before, and once more what
        was refused.
        """
        if now:
            self.refused.clear()
        try:
            pin = self._pin()
            wanted = candidates(self.settings.models, pin)
            self.refused.pop(PIN, None)
            self.seen.pop(PIN, None)
            self._tell_if_gone()
            for version in wanted:
                if version < self.serving[0] and pin is None:
                    break  # to go back is decided by people
                if model := self._try(version, now):
                    return model
                if version == self.serving[0]:
                    break
        except (ArtefactError, OSError) as error:
            if self._settled(PIN, str(error), now):
                self._refuse(PIN, str(error), error)
        return None

    def _try(self, version: int, now: bool) -> Predictor | None:
        """This version, if it is another than the one that serves, and can be trusted."""
        stamp = self._stamp(version)
        if self.serving == (version, stamp) or (version == self.serving[0] and self.gone):
            return None
        if version in self.refused and self.refused[version] == stamp:
            return None
        if not self._settled(version, stamp, now):
            return None
        try:
            model = self._load(version)
        except Exception as error:  # whatever a file may do: it must not end the watch
            self._refuse(version, stamp, error)
            return None
        self.model, self.serving = model, (version, stamp)
        self.counts.reload("loaded")
        return model

    def _settled(self, key: int | str, stamp: object, now: bool) -> bool:
        """Whether this was the same at the last look, or may not be waited for."""
        before, self.seen[key] = self.seen.get(key), stamp
        return now or before == stamp

    def _load(self, version: int) -> Predictor:
        """Beside the one that serves, where that may be."""
        settings, model, file = self.settings, self.model, self._file(version)
        if model and model.gpu:
            if model.lost:
                raise ProviderError(f"{file}: the GPU was lost, and takes no other model before a restart")
            if settings.gpu_mode == "graphs":  # their capture fails while another thread uses CUDA
                raise ProviderError(f"{file}: beside captured CUDA graphs no other can be loaded: it needs a restart")
        return load_file(file, settings.provider, settings.gpu)

    def _refuse(self, key: int | str, stamp: object, error: Exception) -> None:
        """Say so once, and count it."""
        if key in self.refused and self.refused[key] == stamp:
            return
        self.refused[key] = stamp
        self.counts.reload("refused")
        log.error("refused, version %d serves: %s", self.serving[0], reason(error))

    def _tell_if_gone(self) -> None:
        gone = self._stamp(self.serving[0]) is None
        if gone and not self.gone:
            log.warning("%s is gone; it serves on from memory", self._file(self.serving[0]))
        self.gone = gone

    def _pin(self) -> int | None:
        return self.settings.version or pinned(self.settings.models)

    def _file(self, version: int) -> Path:
        return self.settings.models / str(version) / FILE

    def _stamp(self, version: int) -> Stamp:
        try:
            found = self._file(version).stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@contextlib.asynccontextmanager
async def watched(versions: Versions, state: State) -> AsyncIterator[None]:
    """For as long as the context, let a new version serve soon after it is there, and at SIGHUP at once."""
    asked = asyncio.Event()
    if threading.current_thread() is threading.main_thread():  # no other can hear signals
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    task = asyncio.create_task(_watch(versions, state, asked))
    try:
        yield
    finally:
        task.cancel()


async def _watch(versions: Versions, state: State, asked: asyncio.Event) -> None:
    thread = ThreadPoolExecutor(1, "models", yield_to_others)  # one: sessions must not be made at the same time
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(versions.settings.watch or None):
                    await asked.wait()
            now = asked.is_set()
            asked.clear()
            model = await asyncio.get_running_loop().run_in_executor(thread, versions.look, now)
            if model:
                state.serve(model)
    finally:
        thread.shutdown(wait=False)
