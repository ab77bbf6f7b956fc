"""The owner's statement about a model, in the form of OpenSSF model signing 1.0 (SPEC 3.7).

A Sigstore bundle with an in-toto statement: `model_signing verify key` accepts it after the
package is opened, and it survives re-sealing to the next partner. It is signed three times:
first with P-256, which is what other people's tools check, then with the owner's hybrid key,
which is what counterseal checks. The predicate also names our model digest, so the leaf
digests prove the statement without reading the files again.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import rfc8785

from counterseal.crypto.digest import sha256
from counterseal.errors import BadSignature, FormatError
from counterseal.wire import limits
from counterseal.wire.dsse import Envelope, EnvelopeSignature, pae

if TYPE_CHECKING:
    from collections.abc import Sequence

    from counterseal.models.manifest import FileEntry

__all__ = ["PAYLOAD_TYPE", "SIGNATURE_NAME", "Statement", "bundle", "parse", "payload"]

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
SIGNATURE_NAME: Final = "model.sig"
P256_SIGNATURE_BYTES: Final = 72  # the longest DER form; a shorter one leaves padding
_STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
_BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
# What `model_signing` leaves out unless told otherwise; these files are still sealed and
# covered by the leaf digests, they are only not part of the statement.
IGNORED: Final = (".git", ".gitattributes", ".github", ".gitignore")


@dataclass(frozen=True, slots=True)
class Statement:
    """A parsed bundle. `content` is our model digest, None in a bundle of another tool."""

    payload: bytes
    p256: bytes
    envelope: Envelope
    digests: dict[str, str]
    content: str | None

    def check(self, files: Sequence[FileEntry], *, layout: str, content: str) -> None:
        """Raise BadSignature unless this statement is about exactly these files.

        With `content` in the statement the leaf digests are proved. Without it only the
        SHA-256 values *in the manifest* are: the caller must hash the files themselves.
        """
        listed = {name: entry.sha256 for name, entry in _resources(files, layout)}
        if self.digests != listed:
            raise BadSignature("the owner's statement is about other files")
        if self.content is not None and self.content != content:
            raise BadSignature("the owner's statement is about other contents")


def payload(files: Sequence[FileEntry], *, model: str, layout: str, content: str) -> bytes:
    """The in-toto statement to sign. Every file needs its SHA-256."""
    listed = _resources(files, layout)
    digests = [entry.sha256 or "" for _, entry in listed]
    subject = sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hex()
    statement: dict[str, Any] = {
        "_type": _STATEMENT_TYPE,
        "subject": [{"name": model, "digest": {"sha256": subject}}],
        "predicateType": _PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [*IGNORED, SIGNATURE_NAME],
            },
            "resources": [
                {"name": name, "algorithm": "sha256", "digest": digest}
                for (name, _), digest in zip(listed, digests, strict=True)
            ],
            "counterseal": {"format": 1, "content": content},
        },
    }
    return rfc8785.dumps(statement)


def bundle(
    signed_payload: bytes, *, p256: bytes, public_pem: bytes, hybrid: Sequence[EnvelopeSignature]
) -> str:
    """The Sigstore bundle as JSON text. The P-256 signature stands first: tools look only there."""
    signatures = [{"sig": _b64(p256), "keyid": ""}]
    signatures += [{"sig": _b64(one.sig), "keyid": one.keyid} for one in hybrid]
    document: dict[str, Any] = {
        "mediaType": _BUNDLE_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": sha256(public_pem).hex()},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": _b64(signed_payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": signatures,
        },
    }
    return rfc8785.dumps(document).decode()


class _Resource(msgspec.Struct, frozen=True):
    name: str
    algorithm: str
    digest: str


class _Ours(msgspec.Struct, frozen=True):
    format: Literal[1]
    content: str


class _Predicate(msgspec.Struct, frozen=True):
    resources: list[_Resource]
    counterseal: _Ours | None = None


class _Statement(msgspec.Struct, frozen=True):
    type: str = msgspec.field(name="_type")
    predicateType: str  # noqa: N815 - the standard's spelling
    predicate: _Predicate


class _Signature(msgspec.Struct, frozen=True):
    sig: str
    keyid: str = ""


class _Dsse(msgspec.Struct, frozen=True):
    payload: str
    payloadType: str  # noqa: N815
    signatures: list[_Signature]


class _Bundle(msgspec.Struct, frozen=True):
    dsseEnvelope: _Dsse  # noqa: N815


def parse(text: str) -> Statement:
    """Read a bundle of ours or of model_signing; nothing in it is believed yet."""
    if len(text) > limits.STATEMENT_BYTES:
        raise FormatError("the model statement is too long")
    try:
        dsse = msgspec.json.decode(text, type=_Bundle).dsseEnvelope
        signed_payload = base64.b64decode(dsse.payload, validate=True)
        statement = msgspec.json.decode(signed_payload, type=_Statement)
        signatures = [(s.keyid, base64.b64decode(s.sig, validate=True)) for s in dsse.signatures]
    except (msgspec.DecodeError, binascii.Error, ValueError, RecursionError) as error:
        raise FormatError(f"the model statement cannot be read ({error})") from None
    resources = statement.predicate.resources
    if (
        dsse.payloadType != PAYLOAD_TYPE
        or statement.type != _STATEMENT_TYPE
        or statement.predicateType != _PREDICATE_TYPE
        or not signatures
        or any(resource.algorithm != "sha256" for resource in resources)
    ):
        raise FormatError(
            "the model statement is not one of OpenSSF model signing 1.0 with SHA-256"
        )
    ours = statement.predicate.counterseal
    hybrid = [EnvelopeSignature(keyid=keyid, sig=sig) for keyid, sig in signatures[1:]]
    return Statement(
        payload=signed_payload,
        p256=signatures[0][1],
        envelope=Envelope(
            payload=signed_payload, payloadType=PAYLOAD_TYPE, signatures=tuple(hybrid)
        ),
        digests={resource.name: resource.digest for resource in resources},
        content=None if ours is None else ours.content,
    )


def message(signed_payload: bytes) -> bytes:
    """What the P-256 key signs."""
    return pae(PAYLOAD_TYPE, signed_payload)


def _resources(files: Sequence[FileEntry], layout: str) -> list[tuple[str, FileEntry]]:
    if layout == "file":  # model_signing calls the one file of a model "."
        return [(".", files[0])]
    return [
        (entry.name, entry)
        for entry in files
        if entry.name.split("/", 1)[0] not in IGNORED and entry.name != SIGNATURE_NAME
    ]


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
