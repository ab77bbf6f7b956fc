"""counterseal call"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from counterseal._extras import require
from counterseal.cli.output import emit
from counterseal.cli.session import session_option
from counterseal.cli.settings import Command, settings
from counterseal.errors import FormatError


@click.command("call", cls=Command)
@click.argument("model", metavar="MODEL[@VERSION]")
@click.option(
    "--input",
    "source",
    metavar="FILE",
    help="Rows: .npy, .csv without a heading, or .json (a list, or a dict of inputs); - is stdin.",
)
@click.option("--text", "texts", multiple=True, metavar="TEXT", help="Texts, for embeddings.")
@click.option("--purpose", metavar="WORD", help="If it is not the session's.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE.npz", help="Keep the answer."
)
@session_option
def command(
    model: str,
    source: str | None,
    texts: tuple[str, ...],
    purpose: str | None,
    output: Path | None,
    folder: Path,
) -> None:
    """Call a partner's model within a session; the ledger of the charter has every call.

    \b
      counterseal call scan --input rows.npy
      counterseal call minilm --text "a scan" --text "another one"
    """
    from counterseal.gateway.client.calling import Session
    from counterseal.jobs.session import CallBook, read_session

    if (source is None) == (not texts):
        raise click.UsageError("say --input FILE, or --text TEXT")
    opened = read_session(folder)
    name, _, version = model.partition("@")
    memory = CallBook(settings().home.store, opened.us, opened.charter or "")
    with Session(opened, memory=memory) as session:
        if texts:
            outputs = {"embedding": session.embed(model, texts, purpose=purpose)}
            facts: dict[str, Any] = {"model": name}
        else:
            answer = session.model(name, version or None).ask(_rows(str(source)), purpose=purpose)
            outputs = dict(answer.outputs)
            facts = {"model": answer.model, "version": answer.version, "record": answer.record}
    if output is not None:
        _keep(output, outputs)
        emit({**facts, "path": str(output)}, str(output))
        return
    shown = {key: _plain(value) for key, value in outputs.items()}
    emit({**facts, "outputs": shown}, _text(shown))


def _rows(source: str) -> Any:
    np = require("numpy", extra="serve")
    try:
        if source.endswith(".npy"):
            return np.load(source, allow_pickle=False)
        if source.endswith(".csv"):
            return np.loadtxt(source, delimiter=",", ndmin=2)
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
        said = json.loads(text)
        if isinstance(said, dict):
            return {key: np.asarray(value) for key, value in said.items()}
        return np.asarray(said)
    except (ValueError, EOFError) as error:
        raise FormatError(
            f"{source} does not hold rows ({error})", hint=".npy, .csv without a heading, or .json"
        ) from None


def _keep(path: Path, outputs: dict[str, Any]) -> None:
    import io

    from counterseal.trust import atomic

    buffer = io.BytesIO()
    require("numpy", extra="serve").savez(buffer, **outputs)
    atomic.write_whole(path, buffer.getvalue())


def _plain(array: Any) -> Any:
    if array.dtype.kind in "OS":
        return [one.decode("utf-8", "replace") for one in array.ravel().tolist()]
    if array.dtype.kind == "f" and array.dtype.itemsize < 8:
        array = array.astype("U32").astype("f8")  # 0.034, and not the digits behind it
    return array.tolist()


def _text(shown: dict[str, Any]) -> str:
    return "\n".join(f"{name}: {json.dumps(value)}" for name, value in shown.items())
