"""Several workers on one socket: started, watched, started again, ended together.

Workers are forked before anything else was begun: each loads the identity and the models for
itself. One that dies is replaced, a little later each time; one that cannot even start ends
the whole gateway, with its reason. Should the parent be killed, its workers end in order.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from counterseal import errors
from counterseal.errors import CountersealError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Work = Callable[[int, Callable[[], None]], None]

__all__ = ["run_workers"]

_READY: Final = b"+"
_PAUSES: Final = (0.1, 0.5, 2.0, 5.0)
_STEADY_SECONDS: Final = 30.0  # after which a worker that dies is started again at once
_PATIENCE_SECONDS: Final = 20.0  # for requests that still run when all is to end
_MOST_BYTES: Final = 4096


@dataclass(slots=True)
class _Worker:
    number: int
    process: int = 0
    pipe: int = -1
    ready: bool = False
    said: bytes = b""
    begun: float = 0.0
    falls: int = 0
    again: float | None = None  # when to start it again


@dataclass(slots=True)
class _Crew:
    work: Work
    workers: list[_Worker]
    say: Callable[[str], None]
    ready: Callable[[], None]
    ending: bool = False
    told: bool = False
    waker: tuple[int, int] = field(default_factory=os.pipe)
    life: tuple[int, int] = field(default_factory=os.pipe)  # its second end is the parent's alone

    def start(self, worker: _Worker) -> None:
        reading, writing = os.pipe()
        worker.begun, worker.again, worker.ready, worker.said = time.monotonic(), None, False, b""
        process = os.fork()
        if process == 0:
            os.close(reading)
            os.close(self.life[1])
            os._exit(_in_worker(self.work, worker.number, writing, self.life[0]))
        os.close(writing)
        os.set_blocking(reading, False)
        worker.process, worker.pipe = process, reading

    def hear(self, worker: _Worker) -> None:
        """What a worker says of how it starts: a byte, or why it cannot."""
        data = os.read(worker.pipe, _MOST_BYTES)
        if not data:
            self.bury(worker)
            return
        worker.said += data
        if worker.said == _READY:
            worker.ready, worker.said = True, b""
            if not self.told and all(one.ready for one in self.workers):
                self.told = True
                self.ready()

    def bury(self, worker: _Worker) -> None:
        os.close(worker.pipe)
        _, status = os.waitpid(worker.process, 0)
        worker.pipe = worker.process = -1
        if self.ending:
            return
        if not self.told or (worker.said and not worker.ready):
            self.end(signal.SIGTERM)
            raise _reason(worker)
        if time.monotonic() - worker.begun > _STEADY_SECONDS:
            worker.falls = 0
        pause = _PAUSES[min(worker.falls, len(_PAUSES) - 1)]
        worker.falls += 1
        worker.again = time.monotonic() + pause
        how = _reason(worker).message if worker.said else os.waitstatus_to_exitcode(status)
        self.say(f"worker {worker.number} ended ({how}); another one starts in {pause} s")

    def end(self, number: int) -> None:
        self.ending = True
        for worker in self.workers:
            if worker.process > 0:
                os.kill(worker.process, number)

    def watch(self) -> None:
        """Until everybody has ended."""
        deadline: float | None = None
        while any(one.process > 0 or one.again is not None for one in self.workers):
            now = time.monotonic()
            if self.ending:
                deadline = deadline or now + _PATIENCE_SECONDS
                if now > deadline:
                    self.end(signal.SIGKILL)
            for worker in self.workers:
                if worker.again is not None and self.ending:
                    worker.again = None
                elif worker.again is not None and now >= worker.again:
                    self.start(worker)
            pipes = {one.pipe: one for one in self.workers if one.pipe >= 0}
            readable, _, _ = select.select([*pipes, self.waker[0]], [], [], 0.1)
            for pipe in readable:
                if pipe == self.waker[0]:
                    os.read(pipe, _MOST_BYTES)
                else:
                    self.hear(pipes[pipe])


def run_workers(
    work: Work, count: int, *, say: Callable[[str], None], ready: Callable[[], None]
) -> None:
    """Run `work(number, ready)` in `count` processes until SIGTERM or SIGINT.

    Raises what a worker raised before it was ready.
    """
    crew = _Crew(work, [_Worker(number) for number in range(count)], say, ready)

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        crew.end(signal.SIGTERM)
        os.write(crew.waker[1], b".")

    before: dict[int, Any] = {
        number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        for worker in crew.workers:
            crew.start(worker)
        crew.watch()
    finally:
        crew.end(signal.SIGTERM)
        for number, handler in before.items():
            signal.signal(number, handler)
        for end in (*crew.waker, *crew.life):
            os.close(end)


def _in_worker(work: Work, number: int, writing: int, life: int) -> int:
    """The life of a worker; its exit code."""
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, _leave)  # through every `finally`: leases go back
    threading.Thread(target=_follow, args=(life,), name="parent", daemon=True).start()
    try:
        work(number, lambda: _tell(writing, _READY))
    except SystemExit:
        return 0
    except CountersealError as error:
        kind = type(error).__name__
        _tell(writing, msgspec.json.encode((kind, error.message, error.hint)))
        return error.exit_code
    except BaseException as error:  # noqa: BLE001 - the edge of a process
        said = (type(error).__name__, f"{type(error).__name__}: {error}", None)
        _tell(writing, msgspec.json.encode(said))
        return 1
    return 0


def _follow(life: int) -> None:
    """End when the parent is gone: nobody would end us otherwise, and the address is taken."""
    os.read(life, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _leave(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise SystemExit(0)


def _tell(pipe: int, data: bytes) -> None:
    try:
        os.write(pipe, data[:_MOST_BYTES])
    except OSError:  # the parent is gone; so will we be
        return


def _reason(worker: _Worker) -> CountersealError:
    """Why a worker could not start, as it said."""
    try:
        name, message, hint = msgspec.json.decode(
            worker.said.removeprefix(_READY), type=tuple[str, str, str | None]
        )
    except (msgspec.DecodeError, UnicodeError):
        return CountersealError(f"worker {worker.number} ended before it was ready")
    kind: type[CountersealError] = getattr(errors, name, CountersealError)
    if kind.__init__ is not CountersealError.__init__:  # it wants to know more than was said
        kind = CountersealError
    return kind(message, hint=hint)
