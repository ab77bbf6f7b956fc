"""Which file names a package may carry, and which files a folder holds.

A name is written by one party and becomes a path on the disk of another, perhaps under
another operating system. So a name is accepted only if it means the same file everywhere:
no way out of the folder, no two names that one file system would take for the same, and
nothing that a person reading the list would see differently from what it is.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from counterseal.errors import FormatError, UnsafeFormat
from counterseal.models.files import FolderFiles

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

__all__ = ["MAX_COMPONENT_BYTES", "MAX_NAMES", "MAX_NAME_BYTES", "check_names", "walk"]

MAX_NAMES: Final = 65_536
MAX_NAME_BYTES: Final = 1024
MAX_COMPONENT_BYTES: Final = 255  # ext4, XFS, APFS and NTFS all stop here

# "con.txt" is the console too: Windows looks only at what stands before the first dot.
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?")
# Control, format (bidi overrides: "exe.txt" shown for "txt.exe"), surrogate, unassigned
# (their normal form may change), line and paragraph separators.
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"})
_JUNK_FOLDERS: Final = frozenset({".git", "__pycache__"})
_JUNK_FILES: Final = frozenset({".DS_Store"})
_HINT: Final = "rename the file; names are relative, with / between plain components"


def check_names(names: Iterable[str]) -> None:
    """Raise UnsafeFormat unless every name is safe and all of them can stand side by side.

    "Side by side" holds on file systems that ignore case or normalize Unicode as well:
    "A" and "a" are refused together, and so are "a" and "a/b".
    """
    keys: list[tuple[str, str]] = []
    for name in names:
        if len(keys) == MAX_NAMES:
            raise UnsafeFormat(f"more than {MAX_NAMES} files", hint="pack small files together")
        problem = _problem(name)
        if problem:
            raise UnsafeFormat(f"the name {_shown(name)} {problem}", hint=_HINT)
        keys.append((_folded(name), name))
    keys.sort()
    # "/" became NUL, which sorts before everything a name may hold: so a folder's own name
    # stands directly before the names inside it, and looking at neighbors is enough.
    for (key, name), (other_key, other) in pairwise(keys):
        if name == other:
            raise UnsafeFormat(f"the name {_shown(name)} is there twice", hint=_HINT)
        if key == other_key:
            raise UnsafeFormat(
                f"the names {_shown(name)} and {_shown(other)} are one file where case or "
                "Unicode form do not count",
                hint=_HINT,
            )
        if other_key.startswith(key + "\0"):
            raise UnsafeFormat(f"{_shown(name)} is both a file and a folder", hint=_HINT)


def walk(path: Path, *, skip: Collection[str] = ()) -> tuple[FolderFiles, tuple[str, ...]]:
    """Return the file, or all files under the folder, and the names left out as junk.

    Left out and reported: `.git` and `__pycache__` folders, `.DS_Store`. The names in
    `skip` are left out silently; empty folders have no name and vanish. Links are refused,
    because following one would seal something that the user did not point at.
    """
    mode = _mode(path)
    skipped: list[str] = []
    if stat.S_ISREG(mode):
        files, root = {path.name: path}, path.parent
    else:
        _require(path, mode, folder=True)
        files, root = {}, path
        for name, entry in _listed(path, skipped):
            files[name] = entry
            if len(files) - len(skip) > MAX_NAMES:
                raise UnsafeFormat(f"more than {MAX_NAMES} files", hint="pack small files together")
    for name in skip:
        files.pop(name, None)
    if not files:
        raise FormatError(f'there are no files in "{path}"', hint="name a file or a model's folder")
    check_names(files)
    return FolderFiles(root, files), tuple(sorted(skipped))


def _listed(root: Path, skipped: list[str]) -> Iterator[tuple[str, Path]]:
    folders = [("", root)]
    while folders:
        prefix, folder = folders.pop()
        for entry in sorted(folder.iterdir()):
            name = prefix + entry.name
            mode = _mode(entry)
            junk = _JUNK_FOLDERS if stat.S_ISDIR(mode) else _JUNK_FILES
            if entry.name in junk and not stat.S_ISLNK(mode):
                skipped.append(name)
            elif stat.S_ISDIR(mode):
                folders.append((f"{name}/", entry))
            else:
                _require(entry, mode)
                yield name, entry


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except FileNotFoundError as error:
        raise FormatError(f'there is no file or folder "{path}"') from error


def _require(path: Path, mode: int, *, folder: bool = False) -> None:
    if stat.S_ISLNK(mode):
        raise UnsafeFormat(
            f"{_shown(str(path))} is a symbolic link: following it would seal something that "
            "was not pointed at",
            hint="copy what it points to (cp -rL), or name the target itself",
        )
    if not (stat.S_ISDIR(mode) if folder else stat.S_ISREG(mode)):
        kind = "file or folder" if folder else "regular file"
        raise UnsafeFormat(
            f"{_shown(str(path))} is not a {kind} (a socket, pipe or device?)",
            hint="move it out of the model's folder",
        )


def _problem(name: str) -> str | None:
    """Say what is wrong with one name, most telling reason first."""
    size = len(name.encode("utf-8", "surrogatepass"))
    categories = {unicodedata.category(letter) for letter in name[:MAX_NAME_BYTES]}
    problem = None
    if size > MAX_NAME_BYTES:
        problem = f"has {size} bytes, more than {MAX_NAME_BYTES}"
    elif name.startswith("/"):
        problem = "is absolute"
    elif "\\" in name or ":" in name:
        # ":" begins a drive ("C:x") or an alternate data stream ("a:b") on Windows.
        problem = "contains a backslash or colon"
    elif categories & _HIDDEN:
        problem = "contains an invisible, invalid or unassigned character"
    elif not unicodedata.is_normalized("NFC", name):
        problem = "is not in Unicode normal form NFC"
    return problem or next(filter(None, map(_component_problem, name.split("/"))), None)


def _component_problem(part: str) -> str | None:
    if part in {"", os.curdir, os.pardir}:
        return 'has an empty, "." or ".." component'
    if part[-1] in ". ":
        return "has a component that ends in a dot or space (Windows drops it)"  # "a." is "a"
    if len(part.encode()) > MAX_COMPONENT_BYTES:
        return f"has a component of more than {MAX_COMPONENT_BYTES} bytes"
    if _DEVICE.fullmatch(part.casefold()):
        return "is a device on Windows"
    return None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold()).replace("/", "\0")


def _shown(name: str) -> str:
    # ASCII only: the name may hold terminal escapes or bidi overrides.
    return ascii(name if len(name) <= 200 else name[:200] + "...")
