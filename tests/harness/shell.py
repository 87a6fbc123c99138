"""Commands as a shell starts them whose terminal has gone.

Not by `preexec_fn`: the fork of a process in which gRPC has started threads may die before it comes to that.
"""

import signal
from collections.abc import Iterable


def without(ignored: Iterable[signal.Signals], command: list[str], *, streams: bool = False) -> list[str]:
    """A command that starts with these signals ignored, and where asked without standard input, output and error."""
    traps = "".join(f"trap '' {number.name.removeprefix('SIG')}; " for number in ignored)
    return ["sh", "-c", f'{traps}exec "$@"' + (" <&- >&- 2>&-" if streams else ""), "sh", *command]
