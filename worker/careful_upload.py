"""An upload whose refusal cannot be lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from ostrakon.common.wire import ADMITTED_KEY

LOST = "Internal error from Core"
"""What gRPC says of a stream that the server ended while a part was being written: how it ended is lost."""


async def send_when_asked(call: Any, parts: AsyncIterator[Any]) -> Any:
    """Write the first part, and the others once the server asks for them, in its initial metadata.

    Until then nothing is being written, and a refusal of the first part comes through.

    Args:
        call: of a client's stream, begun without parts.
        parts: at least one.

    Returns:
        The server's answer.

    Raises:
        grpc.aio.AioRpcError: the call failed.
    """
    await call.write(await anext(parts))
    if ADMITTED_KEY in dict(await call.initial_metadata() or ()):
        with suppress(asyncio.InvalidStateError):  # it is over: its status says why
            async for part in parts:
                await call.write(part)
            await call.done_writing()
    return await call
