"""Heavy libraries arrive when they are needed, with one clear error when they are not there."""

from __future__ import annotations

import importlib
from typing import Any

from counterseal.errors import MissingExtraError


def require(module: str, *, extra: str) -> Any:
    """Import `module`, which the extra `extra` provides.

    Raises MissingExtraError with the pip line if it is not installed. An ImportError from
    *inside* an installed module is a broken installation and is passed on unchanged.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise MissingExtraError(
            f"{module.partition('.')[0]} is not installed",
            hint=f"pip install 'counterseal[{extra}]'",
        ) from error
