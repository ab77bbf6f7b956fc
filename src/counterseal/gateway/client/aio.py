"""The same nouns for asyncio: every call in a thread of its own, which waits for the network."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from counterseal.gateway.client.calling import Answered, Model, Session, Usage
    from counterseal.gateway.oip_client import Metadata

__all__ = ["AsyncModel", "AsyncSession"]


class AsyncSession:
    """`async with AsyncSession(session) as session:`"""

    def __init__(self, session: Session) -> None:
        self.sync = session

    def model(self, name: str, version: str | None = None) -> AsyncModel:
        return AsyncModel(self.sync.model(name, version))

    async def embed(self, model: str, texts: Sequence[str], *, purpose: str | None = None) -> Any:
        return await asyncio.to_thread(self.sync.embed, model, texts, purpose=purpose)

    async def usage(self) -> Usage:
        return await asyncio.to_thread(lambda: self.sync.usage)

    async def end(self) -> None:
        await asyncio.to_thread(self.sync.end)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sync.close()


class AsyncModel:
    def __init__(self, model: Model) -> None:
        self._model = model

    async def metadata(self) -> Metadata:
        return await asyncio.to_thread(self._model.metadata)

    async def predict(self, inputs: Any, *, purpose: str | None = None) -> Any:
        return await asyncio.to_thread(self._model.predict, inputs, purpose=purpose)

    async def ask(self, inputs: Any, *, purpose: str | None = None) -> Answered:
        return await asyncio.to_thread(self._model.ask, inputs, purpose=purpose)
