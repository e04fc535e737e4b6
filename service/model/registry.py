"""Registry of model versions: chooses the version that serves and replaces it without a gap.

The highest version that passes its checks serves, unless one is pinned: by the setting `version`, or at run time by
the file `serve` beside the versions. A version that fails is refused once, until its file changes. The serving model
is in memory: it serves until another replaces it, even if its file is deleted.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from patient.artefact import FILE, PIN, ArtefactError, pinned
from service.model import model_file
from service.model.device import GpuOptions, ProviderError, reason
from service.model.loading import candidates, load_file
from service.model.predictor import Predictor
from service.model.trial import Trial
from service.settings import Settings

Stamp = tuple[int, ...] | None  # inode, size and times of a file; None without a file
Outcome = Literal["loaded", "refused"]

log = logging.getLogger(__name__)


class ModelRegistry:
    """The versions in the model folder, as one process sees them. For one thread at a time.

    on_reload: called with the outcome of each new version
    model: the one that serves; refused: failed versions and their stamps; seen: stamps at the last poll
    is_gone: whether the serving version's file has been deleted
    """

    def __init__(self, settings: Settings, on_reload: Callable[[Outcome], None] = lambda _outcome: None) -> None:
        self.settings, self.on_reload = settings, on_reload
        self.models = model_file.model_folder(settings.models)
        self.model: Predictor | None = None
        self.serving: tuple[int, Stamp] = 0, None
        self.refused: dict[int | str, object] = {}
        self.seen: dict[int | str, object] = {}
        self.is_gone = False
        self.trial = Trial()

    def start(self) -> Predictor:
        """Load the first version that passes its checks: a restart must not fail because a newer one is bad.

        Raises ArtefactError, that of the newest version, if none passes, and ProviderError.
        """
        failed: list[tuple[int, Stamp, ArtefactError]] = []
        for version in candidates(self.models, self._pin()):
            stamp = self._stamp(version)
            try:
                self.model = self._load(version)
            except ArtefactError as error:
                failed.append((version, stamp, error))
                continue
            self.serving = version, stamp
            for failure in failed:
                self._refuse(*failure)
            if self.models != self.settings.models:
                log.info(model_file.bundled_notice(self.settings.models, self.model.version))
            return self.model
        raise failed[0][2]

    def poll(self, now: bool = False) -> Predictor | None:
        """Return the model that serves from now on, or None to change nothing. Never raises.

        A file is tried once it is the same in two polls: it may still be being written. now: try it at once, and try
        refused versions again.
        """
        if now:
            self.refused.clear()
        try:
            pin = self._pin()
            wanted = candidates(self.models, pin)
            self.refused.pop(PIN, None)
            self.seen.pop(PIN, None)
            is_gone = self._stamp(self.serving[0]) is None
            if is_gone and not self.is_gone:
                log.warning("%s was deleted; its model keeps serving from memory", self._file(self.serving[0]))
            self.is_gone = is_gone
            for version in wanted:
                if version < self.serving[0] and pin is None:
                    break  # only a pin goes back to an older version
                if model := self._try(version, now):
                    return model
                if version == self.serving[0]:
                    break
        except (ArtefactError, OSError) as error:
            if self._is_settled(PIN, str(error), now):
                self._refuse(PIN, str(error), error)
        return None

    def _try(self, version: int, now: bool) -> Predictor | None:
        """Load a version, unless it serves already, was refused, or fails."""
        stamp = self._stamp(version)
        if self.serving == (version, stamp) or (version == self.serving[0] and self.is_gone):
            return None
        if self._is_refused(version, stamp) or not self._is_settled(version, stamp, now):
            return None
        try:
            model = self._load(version)
        except Exception as error:  # no file may end the polling
            self._refuse(version, stamp, error)
            return None
        self.model, self.serving = model, (version, stamp)
        self.on_reload("loaded")
        return model

    def _is_settled(self, key: int | str, stamp: object, now: bool) -> bool:
        """Whether the stamp was the same at the last poll; always true for `now`."""
        before, self.seen[key] = self.seen.get(key), stamp
        return now or before == stamp

    def _load(self, version: int) -> Predictor:
        if self.model and self.model.is_gpu_lost:
            raise ProviderError(f"{self._file(version)}: the GPU was lost; no model is loaded before a restart")
        return load_file(self._file(version), self.settings.provider, GpuOptions.of(self.settings), self.trial.run)

    def _refuse(self, key: int | str, stamp: object, error: Exception) -> None:
        """Log and report a refusal, once for each state of the file."""
        if not self._is_refused(key, stamp):
            self.refused[key] = stamp
            self.on_reload("refused")
            log.error("refused; version %d keeps serving: %s", self.serving[0], reason(error))

    def _is_refused(self, key: int | str, stamp: object) -> bool:
        return key in self.refused and self.refused[key] == stamp

    def _pin(self) -> int | None:
        return self.settings.version or pinned(self.models)

    def _file(self, version: int) -> Path:
        return self.models / str(version) / FILE

    def _stamp(self, version: int) -> Stamp:
        try:
            found = self._file(version).stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@contextlib.asynccontextmanager
async def polling(registry: ModelRegistry, on_model: Callable[[Predictor], None]) -> AsyncIterator[None]:
    """Within the context, poll for new versions, at once on SIGHUP; pass each one loaded to `on_model`."""
    loop, hangup = asyncio.get_running_loop(), asyncio.Event()
    if threading.current_thread() is threading.main_thread():  # no other thread receives signals
        loop.add_signal_handler(signal.SIGHUP, hangup.set)
    thread = ThreadPoolExecutor(1, "models", lower_thread_priority)  # one: sessions must not be created concurrently

    async def poll() -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(registry.settings.watch or None):
                    await hangup.wait()
            now = hangup.is_set()
            hangup.clear()
            if model := await loop.run_in_executor(thread, registry.poll, now):
                on_model(model)

    task = asyncio.create_task(poll())
    try:
        yield
    finally:
        task.cancel()
        thread.shutdown(wait=False)
        registry.trial.stop()  # the end of the process would wait for it


def lower_thread_priority() -> None:
    """Give the event loop's thread priority over this one: on a busy core, single records come first."""
    if sys.platform == "linux":  # where threads have their own priorities
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
