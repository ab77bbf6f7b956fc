"""Our hybrid keys as keys of TUF: one TUF signature is two signatures, and both must verify.

    keyid = hex(SHA256(bind("directory key", public signing key as canonical JSON)))
    sig   = hex(classical half | ML-DSA-65 half) over bind("directory", signed part)

`bind` keeps directories apart from everything else that an identity signs: those are DSSE
envelopes, whose signed bytes begin with another word (SPEC 1.1, 1.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import KEY_FOR_TYPE_AND_SCHEME, Key, SecretsHandler, Signature
from securesystemslib.signer import Signer as TufSigner

from counterseal.crypto.derive import bind
from counterseal.crypto.digest import sha256
from counterseal.crypto.signing import MLDSA65_SIGNATURE_BYTES, SigningSuite
from counterseal.crypto.signing import Signature as Halves
from counterseal.errors import BadSignature
from counterseal.trust.card import SigningPublic
from counterseal.wire import canonical

if TYPE_CHECKING:
    from counterseal.crypto.signing import Signer, VerifyKey

__all__ = ["HybridKey", "HybridSigner", "key_of", "keyid_of"]

KEY_TYPE: Final = "counterseal"
SIGNATURE_BYTES: Final = 64 + MLDSA65_SIGNATURE_BYTES  # in both suites


def keyid_of(public: VerifyKey) -> str:
    return sha256(bind("directory key", canonical.encode(SigningPublic.of(public)))).hex()


def key_of(public: VerifyKey) -> HybridKey:
    form = SigningPublic.of(public)
    return HybridKey(keyid_of(public), form)


class HybridKey(Key):
    """A public signing key in root metadata. Its id is computed: two ids never are one key,
    which would count twice towards a threshold.
    """

    def __init__(self, keyid: str, form: SigningPublic) -> None:
        public = form.key()
        if keyid != keyid_of(public):
            raise ValueError("a key under another's id")
        keyval = msgspec.to_builtins(form)
        scheme = keyval.pop("suite")
        super().__init__(keyid, KEY_TYPE, scheme, keyval)
        self._public = public

    @classmethod
    def from_dict(cls, keyid: str, key_dict: dict[str, Any]) -> Self:
        _, scheme, keyval = cls._from_dict(key_dict)
        return cls(keyid, msgspec.convert({"suite": scheme, **keyval}, SigningPublic))

    def to_dict(self) -> dict[str, Any]:
        return self._to_dict()

    def verify_signature(self, signature: Signature, data: bytes) -> None:
        try:
            raw = bytes.fromhex(signature.signature)
            halves = Halves(raw[:-MLDSA65_SIGNATURE_BYTES], raw[-MLDSA65_SIGNATURE_BYTES:])
            self._public.verify(bind("directory", data), halves)
        except (BadSignature, ValueError) as error:
            raise UnverifiedSignatureError("the signature does not match") from error


class HybridSigner(TufSigner):
    """Lets python-tuf sign with any of our signers, a token's too."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._key = key_of(signer.public)

    @property
    def public_key(self) -> HybridKey:
        return self._key

    def sign(self, payload: bytes) -> Signature:
        made = self._signer.sign(bind("directory", payload))
        return Signature(self._key.keyid, (made.classical + made.pq).hex())

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> Self:
        raise NotImplementedError("private keys come from a key ring, not from an address")


KEY_FOR_TYPE_AND_SCHEME.update({(KEY_TYPE, suite.value): HybridKey for suite in SigningSuite})
