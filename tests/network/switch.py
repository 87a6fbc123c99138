"""The network between hosts: a thread that passes their packets on, or does not.

Every host has two wires, one out and one in; a packet passes the sender's wire out and the receiver's wire in.
"""

import contextlib
import heapq
import itertools
import os
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.network.hosts import Host

QUEUE = 256 << 10  # bytes that wait at a slow wire, as in a small router; what comes beyond is dropped
LONGEST_PACKET = 65535
TCP, RST, ACK = 6, 0x04, 0x10


@dataclass
class Wire:
    """One direction of one host's link. A test sets these at any time."""

    dice: random.Random
    open: bool = True
    loss: float = 0.0
    """Share of packets that are lost."""
    rate: float | None = None
    """Bytes per second; None: as fast as the machine."""
    left: int | None = None
    """Bytes of TCP payload until it closes; None: any number."""
    resets: bool = False
    """Whether TCP connections are reset, as by a firewall that has forgotten them."""
    passed: int = field(default=0, init=False)  # bytes of TCP payload
    free_at: float = field(default=0.0, init=False)  # when a slow wire has sent what waits

    def passes(self, payload: int) -> bool:
        """Whether a packet gets through."""
        if self.left is not None and self.open:
            self.left -= payload
            self.open = self.left > 0
        if not self.open or (self.loss and self.dice.random() < self.loss):
            return False
        self.passed += payload
        return True

    def departure(self, size: int, now: float) -> float | None:
        """When a packet comes out at the other end; None: the queue is full."""
        if self.rate is None:
            return now
        start = max(now, self.free_at)
        if (start - now) * self.rate > QUEUE:
            return None
        self.free_at = start + size / self.rate
        return self.free_at


@dataclass(frozen=True)
class Port:
    """A host's two wires."""

    host: Host
    out: Wire
    into: Wire

    def set(self, **values: object) -> None:
        """Set both wires."""
        for wire in (self.out, self.into):
            for name, value in values.items():
                setattr(wire, name, value)


class Switch:
    """Forwards the packets of these hosts until it is closed."""

    def __init__(self, hosts: Iterable[Host], seed: int = 1) -> None:
        dice = (random.Random(f"{seed} {i}") for i in itertools.count())
        self.ports = {host.address: Port(host, Wire(next(dice)), Wire(next(dice))) for host in hosts}
        self._by_address = {socket.inet_aton(address): port for address, port in self.ports.items()}
        self._waiting: list[tuple[float, int, int, bytes]] = []  # when, order, device, packet
        self._order = itertools.count()
        self._start()

    def __getitem__(self, address: str) -> Port:
        return self.ports[address]

    def close(self) -> None:
        self._end()

    def plug(self, host: Host) -> None:
        """A host in the place of one with the same address that is gone."""
        self._end()
        port = Port(host, self.ports[host.address].out, self.ports[host.address].into)
        self.ports[host.address] = self._by_address[socket.inet_aton(host.address)] = port
        self._start()

    def _start(self) -> None:
        self._wake, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._forward, name="switch", daemon=True)
        self._thread.start()

    def _end(self) -> None:
        os.close(self._stop)
        self._thread.join()
        os.close(self._wake)

    def _forward(self) -> None:
        ready = select.poll()
        ready.register(self._wake, select.POLLIN)
        senders = {port.host.device: port for port in self.ports.values()}
        for device in senders:
            ready.register(device, select.POLLIN)
        while True:
            pause = None if not self._waiting else max(0.0, self._waiting[0][0] - time.monotonic())
            for descriptor, _ in ready.poll(None if pause is None else 1000 * pause):
                if descriptor == self._wake:
                    return
                for _ in range(32):  # then the others have their turn
                    try:
                        packet = os.read(descriptor, LONGEST_PACKET)
                    except OSError:  # nothing more, or the link is down
                        break
                    self._pass_on(packet, senders[descriptor])
            now = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now:
                _, _, device, packet = heapq.heappop(self._waiting)
                _deliver(device, packet)

    def _pass_on(self, packet: bytes, sender: Port) -> None:
        receiver = self._by_address.get(packet[16:20])
        if receiver is None or packet[0] >> 4 != 4:  # IPv6 looks for routers
            return
        payload = _payload(packet)
        for wire in (sender.out, receiver.into):
            if wire.resets and packet[9] == TCP:
                for to, reset in ((receiver, _reset(packet)), (sender, _reset(packet, back=True))):
                    _deliver(to.host.device, reset)
                return
            if not wire.passes(payload):
                return
        when = now = time.monotonic()
        for wire in (sender.out, receiver.into):
            departure = wire.departure(len(packet), when)
            if departure is None:
                return
            when = departure
        if when > now:
            heapq.heappush(self._waiting, (when, next(self._order), receiver.host.device, packet))
        else:
            _deliver(receiver.host.device, packet)


def _deliver(device: int, packet: bytes) -> None:
    with contextlib.suppress(OSError):  # the link is down: the packet is lost
        os.write(device, packet)


def _payload(packet: bytes) -> int:
    """Bytes of TCP payload in an IPv4 packet."""
    if packet[9] != TCP:
        return 0
    header = 4 * (packet[0] & 0xF)
    return len(packet) - header - 4 * (packet[header + 12] >> 4)


def _reset(packet: bytes, *, back: bool = False) -> bytes:
    """The TCP reset that both ends believe: its number is the one the receiver expects next (RFC 5961)."""
    header = 4 * (packet[0] & 0xF)
    source, target = packet[12:16], packet[16:20]
    ports, sequence, acknowledged = (
        packet[header : header + 4],
        packet[header + 4 : header + 8],
        packet[header + 8 :][:4],
    )
    if back:
        source, target = target, source
        ports = ports[2:] + ports[:2]
        if not packet[header + 13] & ACK:  # a SYN
            acknowledged = struct.pack(">I", (struct.unpack(">I", sequence)[0] + 1) % 2**32)
            sequence = bytes(4)
        else:
            sequence = acknowledged
    tcp = ports + sequence + acknowledged + struct.pack(">BBHHH", 5 << 4, RST | ACK, 0, 0, 0)
    pseudo = source + target + struct.pack(">BBH", 0, TCP, len(tcp))
    tcp = tcp[:16] + _checksum(pseudo + tcp) + tcp[18:]
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, TCP, 0) + source + target
    return ip[:10] + _checksum(ip) + ip[12:] + tcp


def _checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)
