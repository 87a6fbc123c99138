"""An event loop whose time is a number and whose choices are a seed's: no socket, no thread, no clock of the machine.

Every callback belongs to a process, by its context. Within a process callbacks run in asyncio's order; which process
runs next is drawn. A process that is killed runs nothing more, not even a `finally`; one that is stopped keeps what
it would have run until it is woken, while time goes on.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

STEP = 1e-6  # seconds that a callback takes


class Killed(BaseException):
    """Raised in the middle of what a process does when it is killed just there."""


class Process:
    """What is killed, stopped and woken together."""

    def __init__(self, loop: "Loop", name: str) -> None:
        self.loop = loop
        self.name = name
        self.alive = True
        self.stopped = False
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []  # kept: a dead process's tasks must not be cleaned up as if they lived
        self._context = Context()
        self._context.run(PROCESS.set, self)

    @property
    def context(self) -> Context:
        """A context whose callbacks are this process's."""
        return self._context.copy()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin to do something in this process."""
        return self.loop.create_task(work, context=self.context)

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more."""
        self.alive = False
        self.loop.forget(self)

    def stop(self) -> None:
        """SIGSTOP."""
        self.stopped = True
        self.loop.forget(self)

    def wake(self) -> None:
        """SIGCONT."""
        self.stopped = False
        if self.alive and self.ready:
            self.loop.runnable.append(self)


PROCESS: ContextVar[Process] = ContextVar("process")


class Loop(asyncio.BaseEventLoop):
    """Runs one callback a step; when nothing is ready, time jumps to the next timer."""

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self.set_debug(False)
        self.rng = rng
        self.steps = 0
        self.runnable: list[Process] = []  # alive, awake, with something to do
        self.after_step: Callable[[], None] = lambda: None
        self.crashed: Callable[[BaseException], None] = lambda error: None  # a callback raised
        self._now = 0.0
        self.world = Process(self, "world")

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer

    def create_task(self, coro: Coroutine[Any, Any, T], *, name: Any = None, context: Any = None) -> asyncio.Task[T]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        task._log_destroy_pending = False
        process = PROCESS.get(self.world) if context is None else context.get(PROCESS, self.world)
        process.tasks.append(task)
        if len(process.tasks) > 500:
            process.tasks = [one for one in process.tasks if not one.done()]
        return task

    def forget(self, process: Process) -> None:
        """The process does not run any more, for now or for ever."""
        if process in self.runnable:
            self.runnable.remove(process)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if isinstance(context.get("exception"), BaseException) and "never retrieved" not in context["message"]:
            self.crashed(context["exception"])

    def _enqueue(self, handle: asyncio.Handle) -> None:
        process = handle._context.get(PROCESS, self.world)
        if not process.ready and process.alive and not process.stopped:
            self.runnable.append(process)
        process.ready.append(handle)  # a dead one's too: what it refers to stays as it was

    def _run_once(self) -> None:
        while not self.runnable or (self._scheduled and self._scheduled[0]._when <= self._now):
            if not self._scheduled:
                raise RuntimeError("nothing will ever happen again")
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                self._now = max(self._now, timer._when)
                self._enqueue(timer)
        which = int(self.rng.random() * len(self.runnable))
        process = self.runnable[which]
        handle = process.ready.popleft()
        if not process.ready:
            self.runnable[which] = self.runnable[-1]
            self.runnable.pop()
        if not handle._cancelled:
            handle._run()
            self._now += STEP
            self.steps += 1
            self.after_step()

    def _write_to_self(self) -> None:
        pass

    def _process_events(self, event_list: Any) -> None:
        pass


class Clock:
    """The loop's time as the product's clock; the machine's whose processes it is handed to."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def now(self) -> float:
        return self._loop.time()

    async def wait(self, event: asyncio.Event, until: float | None) -> None:
        try:
            async with asyncio.timeout_at(until):
                await event.wait()
        except TimeoutError:
            pass


def offload(loop: Loop, seconds: Callable[[], float]) -> Callable[..., Awaitable[Any]]:
    """Blocking work, done all at once at some moment of its own, as a thread would: others run before and after it."""

    async def run(function: Callable[..., T], *arguments: Any) -> T:
        done: asyncio.Future[T] = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            if done.done():
                return  # nobody waits any more
            if error is None:
                done.set_result(value)
            else:
                done.set_exception(error)

        def work() -> None:
            try:
                value, error = function(*arguments), None
            except Killed:
                return
            except Exception as caught:
                value, error = None, caught
            loop.call_later(seconds(), settle, value, error)

        loop.call_later(seconds(), work)
        return await done

    return run
