"""What is only needed when it is asked for, and installed apart."""

import importlib
from typing import Any

from ostrakon.common.errors import OstrakonError


def extra(module: str, name: str, setting: str) -> Any:
    """A module of an optional extra.

    Args:
        name: of the extra.
        setting: what asks for it.

    Raises:
        OstrakonError: it is not installed.
    """
    why = "there is only a folder of this name"
    try:
        found = importlib.import_module(module)
        if found.__file__ is not None:
            return found
    except ImportError as error:
        why = str(error)
    raise OstrakonError(
        f"{setting} needs {module}, which cannot be imported ({why}): pip install 'ostrakon[{name}]', or leave it out"
    )
