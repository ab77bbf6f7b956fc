"""What a server is, for who measures it: the terms that it is governed by, and how it is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from counterseal.bench.agreements import PLENTY
from counterseal.bench.callers import Target
from counterseal.bench.processes import tree_cpu

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from counterseal.bench.processes import Running
    from counterseal.charter.document import Quota

__all__ = ["PEER", "Server", "Terms"]

PEER: Final = "mlserver"
_HEAD: Final = (
    "POST /v2/models/{model}/infer HTTP/1.1\r\nhost: localhost\r\n"
    "content-type: application/json\r\n{more}content-length: {{length}}\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Terms:
    """Of one governed server. `files`: what it serves, by model."""

    strict: bool = False
    detectors: bool = False
    quotas: Sequence[Quota] = PLENTY
    workers: int = 1
    files: tuple[tuple[str, str], ...] = (("scan", "scan.onnx"), ("heavy", "heavy.onnx"))


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs. `target`: how its models are called. `home`, `charter`: if it is governed."""

    name: str
    running: Running
    port: int
    more: str = ""  # headers of a session
    authority: str | None = None
    certificate: str | None = None
    home: Path | None = None
    charter: str = ""

    @property
    def cpu(self) -> float:
        return tree_cpu(self.running.pid)

    def target(self, model: str, texts: tuple[str, ...]) -> Target:
        head = _HEAD.format(model=model, more=self.more)
        return Target(self.port, head, texts, self.authority, self.certificate)
