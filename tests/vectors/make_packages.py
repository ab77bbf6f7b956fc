"""Make the package vectors: `python tests/vectors/make_packages.py`.

Run once for a format version. The files in data/packages stay as they are for ever, so that a
later counterseal that cannot open them any more, or opens them to something else, is noticed.
The private keys in them are for these tests and were never used for anything else.
"""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from workshop import CHEAP, Cast

import counterseal
from counterseal.jobs.recipients import add_recipient
from counterseal.jobs.seal import seal
from counterseal.trust.keystores import keyring

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
FOLDER = Path(__file__).parent / "data" / "packages"
PASSPHRASE = "correct horse battery staple"
WARNING = "PRIVATE KEYS FOR TESTS ONLY. They are published: whatever is sealed to them is open."


def contents(number):
    """Files that need no randomness to be checked: a counter, hashed."""
    digest = hashlib.sha256(bytes([number])).digest()
    return {
        "config.json": json.dumps({"vector": number}).encode(),
        "empty.bin": b"",
        "weights/chunk.bin": (digest * 513)[: 16 * 1024 + number],
        "weights/small.bin": digest,
    }


def identity(person):
    return {
        "warning": WARNING,
        "card": person.card().encode().decode(),
        "keyring": keyring.pack(person._ring).decode(),
        "key_id": person.key_id,
    }


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    soft, hard = Cast(at=AT), Cast(at=AT, hardware=("lab", "clinic"))
    vectors = []

    def add(name, cast, *, files, recipients, prekey=None, passphrase=None, more=(), extra=None):
        source = FOLDER / "source"
        for file, data in files.items():
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            (source / file).write_bytes(data)
        output = FOLDER / f"{name}.sealed"
        to = [prekey] if prekey else [cast.partner(one) for one in recipients]
        receipt = seal(
            source, by=cast.lab, to=() if passphrase else to, output=output, at=AT, model=name,
            passphrase=passphrase, cost=CHEAP, replace=True, **dict(more),
        )  # fmt: skip
        if extra:
            add_recipient(output, by=cast.lab, to=cast.partner(extra), at=AT)
        for file in sorted(source.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        source.rmdir()
        vectors.append(
            {
                "name": name,
                "file": output.name,
                "sha256": hashlib.sha256(output.read_bytes()).hexdigest(),
                "sender": "hard-lab" if cast is hard else "lab",
                "recipients": [
                    ("hard-" if cast is hard else "") + one.name
                    for one in [*recipients, *([extra] if extra else [])]
                ],
                "passphrase": passphrase.decode() if passphrase else None,
                "forward_secret": prekey is not None,
                "package": receipt.package,
                "model": name,
                "version": receipt.version,
                "digest": receipt.digest,
                "owner": "lab" if dict(more).get("statement", True) else None,
                "expires": receipt.expires.isoformat() if receipt.expires else None,
                "charter": dict(more).get("charter"),
                "files": {
                    file: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                    for file, data in files.items()
                },
            }
        )

    prekeyed = soft.with_prekeys(soft.clinic, soft.lab, 1)
    hard_prekeyed = hard.with_prekeys(hard.clinic, hard.lab, 1)
    prekeys = {
        name: dict_of(person)
        for name, person in (("clinic", soft.clinic), ("hard-clinic", hard.clinic))
    }
    plain = {"statement": False}
    add("keys", soft, files=contents(1), recipients=[soft.clinic])
    add("prekey", soft, files=contents(2), recipients=[soft.clinic], prekey=prekeyed, more=plain)
    add(
        "passphrase", soft, files=contents(3), recipients=[], passphrase=PASSPHRASE.encode(),
        more=plain,
    )  # fmt: skip
    add(
        "two-recipients", soft, files=contents(4), recipients=[soft.clinic, soft.bank],
        more=plain | {"charter": "charter-1", "expires": datetime(2999, 1, 1, tzinfo=UTC)},
    )  # fmt: skip
    add(
        "recipient-added", soft, files=contents(5), recipients=[soft.clinic], extra=soft.bank,
        more=plain,
    )  # fmt: skip
    add("p256", hard, files=contents(6), recipients=[hard.clinic])
    add(
        "p256-prekey",
        hard,
        files=contents(7),
        recipients=[hard.clinic],
        prekey=hard_prekeyed,
        more=plain,
    )
    document = {
        "warning": WARNING,
        "provenance": f"made by tests/vectors/make_packages.py with counterseal "
        f"{counterseal.__version__}, package format 1",
        "at": AT.isoformat(),
        "identities": {
            "lab": identity(soft.lab),
            "clinic": identity(soft.clinic),
            "bank": identity(soft.bank),
            "hard-lab": identity(hard.lab),
            "hard-clinic": identity(hard.clinic),
        },
        "prekeys": prekeys,
        "packages": vectors,
    }
    (FOLDER / "packages.json").write_text(json.dumps(document, indent=1) + "\n")


def dict_of(person):
    """The private prekeys, still protected under the store key in the key ring."""
    return {
        key.rpartition("/")[2]: protected.hex() for key, protected in person.store.items("prekey")
    }


if __name__ == "__main__":
    main()
