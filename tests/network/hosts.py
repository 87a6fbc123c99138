"""Hosts: network namespaces of this process, each with one TUN device; gone when this process is, however it ends."""

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

# <linux/sched.h>, <linux/if_tun.h>, <linux/sockios.h>, <linux/if.h>
CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK, SIOCSIFMTU = 0x8913, 0x8914, 0x8916, 0x891C, 0x8922
IFF_UP = 0x1

MTU = 1500
DEVICE = b"tun0"

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


def why_not() -> str | None:
    """Why this machine can have no such hosts; None if it can."""
    if os.geteuid():
        return "needs root"
    try:
        Host("10.77.0.1").close()
    except OSError as error:
        return f"needs network namespaces and /dev/net/tun: {error}"
    return None


def enter(namespace: Path) -> None:
    """Move the calling thread, and what it starts, into a host."""
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        _check(_libc.setns(descriptor, CLONE_NEWNET))
    finally:
        os.close(descriptor)


class Host:
    """A namespace that lives as long as this object, or a process inside; `device` reads and writes its packets."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.device, self._namespace = _apart(self._make)

    @property
    def namespace(self) -> Path:
        """What other processes open to enter."""
        return Path(f"/proc/{os.getpid()}/fd/{self._namespace}")

    def inside(self, work: Callable[[], T]) -> T:
        """Do something in a thread inside; a socket made there stays there."""

        def entered() -> T:
            enter(self.namespace)
            return work()

        return _apart(entered)

    def link(self, *, up: bool) -> None:
        """Set its one link up or down, as `ip link set` does."""
        self.inside(lambda: _flag_up(DEVICE, up=up))

    def close(self) -> None:
        os.close(self.device)
        os.close(self._namespace)

    def _make(self) -> tuple[int, int]:
        _check(_libc.unshare(CLONE_NEWNET))
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE, IFF_TUN | IFF_NO_PI))
        _configure(DEVICE, SIOCSIFMTU, struct.pack("i", MTU))
        _configure(DEVICE, SIOCSIFADDR, _address(self.address))
        _configure(DEVICE, SIOCSIFNETMASK, _address("255.255.255.0"))
        for name in (b"lo", DEVICE):
            _flag_up(name, up=True)
        return device, os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _apart(work: Callable[[], T]) -> T:
    """Do it in a thread of its own: namespaces belong to threads."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def _flag_up(name: bytes, *, up: bool) -> None:
    flags = struct.unpack_from("H", _configure(name, SIOCGIFFLAGS, b""), 16)[0]
    _configure(name, SIOCSIFFLAGS, struct.pack("H", flags | IFF_UP if up else flags & ~IFF_UP))


def _configure(name: bytes, request: int, value: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return fcntl.ioctl(control, request, struct.pack("16s24s", name, value))


def _address(address: str) -> bytes:
    return struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(address))


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
