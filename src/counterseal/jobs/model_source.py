"""Where the models of a gateway come from: a file, a folder, a bucket, or a server behind it.

The digest is of the bytes that were loaded: from a bucket they are fetched once, and files on a
disk that change while they are loaded are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.errors import Dropped, FormatError, TamperError
from counterseal.exchange.transports.bucket import SCHEMES
from counterseal.models.files import MemoryFiles
from counterseal.models.inspection import inspect
from counterseal.models.manifest import content_of
from counterseal.models.names import check_names, walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from counterseal.models.files import Files

__all__ = ["FIRST", "ModelSource"]

FIRST: Final = "1.0.0"
MOST_BYTES: Final = 64 << 30  # fetched from a bucket, into memory


@dataclass(frozen=True, slots=True)
class ModelSource:
    """`where`: a path, s3://bucket/folder (gs, az), or an upstream server's address."""

    name: str
    number: str
    where: str

    @classmethod
    def parse(cls, text: str) -> ModelSource:
        """NAME=MODEL, or NAME@1.4.0=MODEL. Raises FormatError."""
        left, equals, where = text.partition("=")
        name, _, number = left.partition("@")
        if not equals or not name or not where:
            raise FormatError(
                f"{text!a} does not say what is served", hint="write NAME=MODEL or NAME@1.4.0=MODEL"
            )
        return cls(name, number or FIRST, where)

    @property
    def scheme(self) -> str:
        head, colon, _ = self.where.partition("://")
        return head if colon else ""

    def check(self) -> None:
        """Raises FormatError for a path where nothing is."""
        if not self.scheme and not Path(self.where).exists():
            raise FormatError(f"there is no model {self.where}")

    def load(self, *, trusted: Sequence[str] = (), key_file: Path | None = None) -> tuple[str, Any]:
        """The digest of the model and what answers for it (`gateway.backends.seam`)."""
        from counterseal.gateway.backends.loading import load

        if self.scheme and self.scheme not in SCHEMES:
            from counterseal.gateway.backends import upstream

            # Nobody here has its weights: this names the place; the version is its owner's word.
            digest = sha256(bind("upstream model", self.where.encode())).hex()
            return digest, upstream.connect(self.where, key_file=key_file)
        files = fetch(self.where) if self.scheme else walk(Path(self.where))[0]
        inspect(files)  # the digest is of what was looked at
        digest = content_of(files)
        backend = load(files, trusted=trusted)
        if content_of(files) != digest:
            raise TamperError(f"{self.where} changed while it was loaded", hint="start again")
        return digest, backend


def fetch(url: str, store: Any = None) -> Files:
    """All objects under a bucket's prefix, or the one of that name, in memory.

    `store`: of obstore, if it is not to be found by `url`.
    """
    stores = require("obstore.store", extra="bucket")
    failed = require("obstore.exceptions", extra="bucket").BaseError
    try:
        opened = stores.from_url(url) if store is None else store
        contents: dict[str, bytes] = {}
        total = 0
        for found in opened.list():
            for one in found:
                total += one["size"]
                if total > MOST_BYTES:
                    raise FormatError(f"more than {MOST_BYTES >> 30} GiB under {url}")
                contents[str(one["path"])] = bytes(opened.get(one["path"]).bytes())
        if not contents:  # the address names an object and no folder
            parent, _, name = url.rpartition("/")
            single = stores.from_url(parent) if store is None else store
            contents[name] = bytes(single.get(name).bytes())
    except FileNotFoundError:
        raise FormatError(f"there is no model {url}") from None
    except (failed, OSError, ValueError) as error:
        text = str(error).partition("\n")[0]
        raise Dropped(f"cannot fetch {url}: {text}") from None
    check_names(contents)
    return MemoryFiles(contents)
