"""scikit-learn estimators as skops files: a zip with a description (schema.json) of objects.

Unlike a pickle it names types but brings no code. Types that skops does not know are
built only if the caller names them in `trusted`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models import archives
from counterseal.models.files import read
from counterseal.models.formats.numpy import MAX_HEADER_BYTES, parse_header

if TYPE_CHECKING:
    from counterseal.models.files import Files
    from counterseal.models.formats.seam import LoadOptions

__all__ = ["Skops"]

MAX_SCHEMA_BYTES: Final = 64 << 20
# What skops 0.16 was seen to raise on altered files; it has no common error class.
_BROKEN: Final = (
    *archives.BROKEN,
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    TypeError,
)


class Skops:
    """`.skops`."""

    name = "skops"
    media_type = "application/x-skops"

    def claims(self, name: str, head: bytes) -> bool:
        del head
        return name.endswith(".skops")

    def check(self, files: Files, name: str) -> None:
        with archives.open_archive(files, name) as archive:
            if archive.NameToInfo.get("schema.json") is None:
                raise FormatError(f'"{name}" has no schema.json: it is not a skops file')
            if archive.getinfo("schema.json").file_size > MAX_SCHEMA_BYTES:
                raise UnsafeFormat(f'"{name}" has a schema of more than {MAX_SCHEMA_BYTES} bytes')
            text = archives.read_member(archive, "schema.json")
            for member in archive.namelist():
                if member.endswith(".npy"):
                    head = archives.read_member(archive, member, limit=MAX_HEADER_BYTES + 12)
                    parse_header(f"{name}: {member}", head)
        try:
            schema = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FormatError(f'the schema of "{name}" is not valid JSON') from error
        if not isinstance(schema, dict) or not {"__class__", "__loader__"} <= schema.keys():
            raise FormatError(f'the schema of "{name}" describes no object')

    def load(self, files: Files, name: str, options: LoadOptions) -> Any:
        """Build the estimator. Raises UnsafeFormat that lists every type nobody vouched for."""
        self.check(files, name)
        skops = require("skops.io", extra="sklearn")
        data = bytes(read(files, name))
        try:
            unknown = set(skops.get_untrusted_types(data=data)) - {*options.trusted}
            if not unknown:
                return skops.loads(data, trusted=list(options.trusted))
        except _BROKEN as error:
            raise FormatError(
                f'skops cannot load "{name}": {type(error).__name__}: {error}'
            ) from error
        types = sorted(unknown)
        raise UnsafeFormat(
            f'"{name}" needs types that are not known to be safe: {", ".join(types)}',
            hint=f"if you know them all: trusted={types!r}",
        )
