"""Letters and blocks in an object store: S3, Google Cloud, Azure, through `obstore`.

Credentials come from where the store's own tools look for them: environment, profile, machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.errors import Dropped, FormatError
from counterseal.exchange.transports.objects import ObjectTransport

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SCHEMES", "BucketObjects", "BucketTransport"]

SCHEMES: Final = ("s3", "gs", "az")


class BucketObjects:
    """Named bytes in an obstore store. Satisfies `Objects`."""

    parallel = 8  # each object is a round trip

    def __init__(self, store: Any) -> None:
        """`store`: any store of obstore, prefix included."""
        self._store = store
        self._lost = require("obstore.exceptions", extra="bucket").BaseError

    def put(self, name: str, data: bytes) -> None:
        try:
            self._store.put(name, data)
        except self._lost as error:
            raise _dropped(error) from error

    def get(self, name: str, *, limit: int) -> bytes | None:
        try:
            result = self._store.get(name)
            if result.meta["size"] > limit:
                raise FormatError("a stored object is longer than it may be")
            data = bytes(result.bytes())
        except FileNotFoundError:  # obstore maps a missing object to Python's own error
            return None
        except (self._lost, OSError) as error:
            raise _dropped(error) from error
        return data

    def names(self, folder: str) -> Iterable[str]:
        try:
            found = self._store.list_with_delimiter(folder)["objects"]
        except FileNotFoundError:
            return []
        except self._lost as error:
            raise _dropped(error) from error
        return [str(one["path"]).rpartition("/")[2] for one in found]

    def delete(self, name: str) -> None:
        try:
            self._store.delete(name)
        except FileNotFoundError:
            pass
        except self._lost as error:
            raise _dropped(error) from error


class BucketTransport(ObjectTransport):
    """`url`: s3://bucket/prefix, gs://bucket/prefix or az://container/prefix."""

    def __init__(self, url: str) -> None:
        store = require("obstore.store", extra="bucket")
        try:
            opened = store.from_url(url)
        except (require("obstore.exceptions", extra="bucket").BaseError, ValueError) as error:
            text = str(error).partition("\n")[0]
            raise FormatError(f"cannot use {url}: {text}") from error
        super().__init__(BucketObjects(opened))


def _dropped(error: Exception) -> Dropped:
    text = str(error).partition("\n")[0]
    return Dropped(f"the object store does not answer: {text}", hint="check address and rights")
