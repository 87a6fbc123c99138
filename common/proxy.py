"""Which calls go over an HTTP proxy: none to this machine, others as gRPC finds it in the environment."""

import ipaddress
import os
import re
import socket
from collections.abc import Mapping

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")  # the first one that is set is gRPC's proxy
EXCEPTIONS = ("no_grpc_proxy", "no_proxy")  # the first one that is set names hosts that are called without it

_CREDENTIALS = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)?.*@", re.DOTALL)


def channel_options(address: str) -> tuple[tuple[str, int], ...]:
    """What a channel to HOST:PORT needs, so that no proxy stands between two processes of one machine."""
    return (("grpc.enable_http_proxy", 0),) if _on_loopback(_host(address)) else ()


def proxy_of(address: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The proxy over which gRPC calls HOST:PORT, as `variable=value` without a password in it; None without one."""
    host = _host(address)
    name = next((name for name in VARIABLES if environment.get(name)), None)
    if name is None or _on_loopback(host) or _excepted(host, environment):
        return None
    return f"{name}=" + _CREDENTIALS.sub(r"\1***@", environment[name])


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]").rstrip(".").lower()


def _on_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        try:
            found = ipaddress.ip_address(socket.inet_aton(host))  # 127.1, which the system knows too
        except OSError:
            return False
    found = getattr(found, "ipv4_mapped", None) or found
    return found.is_loopback or found.is_unspecified


def _excepted(host: str, environment: Mapping[str, str]) -> bool:
    """Whether an entry of the list is an end of the host's name, or a network that it lies in."""
    listed = next((environment[name] for name in EXCEPTIONS if environment.get(name)), "")
    entries = [entry.strip().lower() for entry in listed.split(",")]
    return any(host.endswith(entry) or _within(host, entry) for entry in entries if entry)


def _within(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
