"""One address on loopback that leads to whichever server it is told, as a virtual address does after a take-over."""

import contextlib
import socket
import threading


class Forwarder:
    """Passes TCP connections on to `target`, HOST:PORT; while nobody listens there, it closes them at once."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, target: str) -> None:
        """New connections go there; those that lead elsewhere are cut."""
        with self._lock:
            if target == self.target:
                return
            self.target = target
            cut, self._open = self._open, set()
        for each in cut:
            _end(each)

    def close(self) -> None:
        """End it, and every connection."""
        # Closing alone would leave accept() waiting.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.lead_to("")

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                target = self.target
            host, _, port = target.rpartition(":")
            try:
                server = socket.create_connection((host, int(port)), 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                if target != self.target:
                    client.close()
                    server.close()
                    continue
                self._open |= {client, server}
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        for each in (source, sink):
            _end(each)
        with self._lock:
            self._open.discard(source)
        source.close()


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
