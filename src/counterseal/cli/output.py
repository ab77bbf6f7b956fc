"""How commands speak: data on stdout, talk and progress on stderr, errors with a hint."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from counterseal.cli.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from counterseal.errors import CountersealError

__all__ = [
    "bytes_text",
    "count_text",
    "emit",
    "fail",
    "progress",
    "say",
    "table",
    "warn_of_directory",
    "watched",
]


def emit(data: Any, text: str) -> None:
    """Print the result: `data` as JSON, or `text` for people."""
    if settings().json:
        click.echo(json.dumps(_plain(data), ensure_ascii=False))
    else:
        click.echo(text)


def say(text: str) -> None:
    """A remark on stderr."""
    current = settings()
    if not current.quiet and not current.json:
        click.echo(text, err=True)


def fail(error: CountersealError, *, as_json: bool) -> None:
    """Print one error and its hint."""
    if as_json:
        facts = {
            "error": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
            "exit": error.exit_code,
        }
        click.echo(json.dumps(facts, ensure_ascii=False), err=True)
        return
    click.echo(f"counterseal: error: {error.message}", err=True)
    if error.hint:
        click.echo(f"counterseal: hint: {error.hint}", err=True)


def warn_of_directory(partner: str, error: CountersealError) -> None:
    """A directory that was not believed, or could not be put up; the contact goes on."""
    say(f"directory of {partner}: {error.message}" + (f" ({error.hint})" if error.hint else ""))


def table(rows: Mapping[str, object]) -> str:
    """Facts as aligned lines."""
    width = max(len(name) for name in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def bytes_text(count: int) -> str:
    """A size as people read it: binary units, three digits."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"


def count_text(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def progress(verb: str) -> Callable[[int, int], None] | None:
    """A progress line on stderr, if that is a terminal and nobody asked for silence."""
    current = settings()
    if current.quiet or current.json or not current.progress or not sys.stderr.isatty():
        return None
    started = time.monotonic()

    def show(done: int, total: int) -> None:
        elapsed = max(time.monotonic() - started, 1e-6)
        if elapsed < 0.3 and done < total:
            return  # short work needs no bar
        speed = bytes_text(int(done / elapsed))
        share = f"{done * 100 // total:3d} %" if total else bytes_text(done)
        eta = f", {(total - done) * elapsed / done:.0f} s left" if 0 < done < total else ""
        ending = "\n" if total and done >= total else ""
        click.echo(f"\r\033[K{verb} {share}  {speed}/s{eta}{ending}", nl=False, err=True)

    return show


def watched(verb: str) -> Callable[[int, int], None]:
    """`progress` for what sends and receives: with --json an event a second, never nothing."""
    shown = progress(verb)
    if shown is not None:
        return shown
    if not settings().json or not settings().progress:
        return lambda _done, _total: None
    last = time.monotonic()

    def event(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 1 and done < total:
            last = now
            emit({"event": "progress", "verb": verb, "done": done, "total": total}, "")

    return event


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
