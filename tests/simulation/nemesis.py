"""What befalls processes and the network at moments that the seed draws: kills, stops, take-overs, partitions."""

from typing import TYPE_CHECKING

from ostrakon.common.identity import Identity
from tests.simulation.loop import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

STRIKES = (
    "server killed",
    "server stopped and taken over",
    "server stopped and taken over",
    "server stopped for a while",
    "server taken over while it serves",
    "worker killed",
    "worker stopped for a while",
    "partition",
    "partition, one way up",
    "partition, one way down",
    "server cut off",
    "connections broken",
    "liar revoked",
    "slow network",
)


class Nemesis:
    """Strikes a given number of times, at random steps; everything that it does heals by itself."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._left = world.scenario.strikes
        self._next = self._draw()

    def step(self) -> None:
        """Called after every step."""
        if self._left and self._world.loop.steps >= self._next:
            self._left -= 1
            self._next = self._world.loop.steps + self._draw()
            self._strike(self._world.rng.choice(STRIKES))

    def heal(self) -> None:
        """End everything that was done: nobody is cut off, and one server of all that live goes on."""
        world = self._world
        self._left = 0
        world.network.unheard.clear()
        world.network.deaf.clear()
        world.network.pace = 1.0
        for process in world.processes:
            if process.stopped:
                process.wake()
        for name in world.network.routes:
            world.reroute(name)

    def stop(self, server: Process, *, take_over: bool, seconds: float | None = None) -> None:
        """Stop a server; another may take over, and some time it is woken and goes on where it was."""
        world, rng = self._world, self._world.rng
        server.stop()
        if take_over:
            world.at(rng.choice((0.01, 1.0)) * rng.random(), self._take_over, server)
        world.at(rng.random() * 5.0 if seconds is None else seconds, self._wake, server, take_over)

    def _draw(self) -> int:
        return 1 + int(self._world.rng.expovariate(1 / self._world.scenario.every))

    def _strike(self, what: str) -> None:
        world, rng = self._world, self._world.rng
        server = world.current
        worker = rng.choice(world.scenario.roster)
        process = world.workers.get(worker)
        while_ = rng.choice((0.05, 1.0, 20.0)) * rng.random()
        if what.startswith("server"):
            if server is None or not server.alive or server.stopped:
                return
            if what == "server cut off":
                self._cut({*world.scenario.roster}, True, True, while_)
            elif what == "server killed":
                world.history.note(f"STRIKE {what}")
                world.kill(server)
                return
            elif what == "server taken over while it serves":
                world.start_server(f"takes over from {server.name}, which serves")
            else:
                self.stop(server, take_over="taken over" in what, seconds=while_)
            world.history.note(f"STRIKE {what}: {server.name}, {while_:.3f} s", what)
        elif what.startswith("worker"):
            if process is None or not process.alive or process.stopped:
                return
            world.history.note(f"STRIKE {what}: {worker}", "worker stopped" if "stopped" in what else "")
            if what == "worker killed":
                world.kill(process)
            else:
                process.stop()
                world.at(while_, self._wake, process, False)
        elif what.startswith("partition"):
            world.history.note(f"STRIKE {what}: {worker}, {while_:.3f} s", what)
            self._cut({worker}, "down" not in what, "up" not in what, while_)
        elif what == "liar revoked":
            if worker in world.scenario.liars:
                world.history.note(f"STRIKE {what}: {worker}", what)
                world.revoked |= {Identity("worker", worker)}
        elif what == "connections broken":
            world.history.note(f"STRIKE {what}", what)
            for served in world.servers:
                world.network.break_calls(served)
        else:
            world.history.note(f"STRIKE {what}, {while_:.3f} s", what)
            world.network.pace = 50.0
            world.at(while_, self._quicken)

    def _cut(self, who: set[str], up: bool, down: bool, seconds: float) -> None:
        network = self._world.network
        if up:
            network.unheard |= who
        if down:
            network.deaf |= who
        self._world.at(seconds, self._join, who)

    def _join(self, who: set[str]) -> None:
        self._world.network.unheard -= who
        self._world.network.deaf -= who

    def _quicken(self) -> None:
        self._world.network.pace = 1.0

    def _take_over(self, stopped: Process) -> None:
        world = self._world
        if world.current is stopped or world.current is None:
            world.start_server(f"takes over from {stopped.name}, which is stopped")

    def _wake(self, process: Process, taken_over: bool) -> None:
        world = self._world
        if process.stopped and process.alive:
            world.history.note(f"{process.name} wakes up", "old server woke" if taken_over else "woke")
            process.wake()
