"""Our envelopes are read and verified by securesystemslib, both signatures at threshold 2."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import mldsa
from securesystemslib.dsse import Envelope as Reference
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key, SSlibKey
from securesystemslib.signer import Signature as ReferenceSignature

from counterseal.crypto.signing import SigningKey
from counterseal.trust import signed
from counterseal.wire import canonical

TYPE = "application/vnd.example+json"


class PureMLDSA(Key):
    """FIPS 204 over the PAE itself. securesystemslib's own "ml-dsa-65/1" is TUF's TAP 21,
    which signs "tuf" | 1 | SHA-512 instead, and so is for TUF metadata only.
    """

    @classmethod
    def from_dict(cls, keyid: str, key_dict: dict[str, Any]) -> PureMLDSA:
        return cls(keyid, "ml-dsa", "ml-dsa-65-pure", key_dict["keyval"])

    def to_dict(self) -> dict[str, Any]:
        return self._to_dict()

    def verify_signature(self, signature: ReferenceSignature, data: bytes) -> None:
        public = mldsa.MLDSA65PublicKey.from_public_bytes(bytes.fromhex(self.keyval["public"]))
        try:
            public.verify(bytes.fromhex(signature.signature), data)
        except InvalidSignature as error:
            raise UnverifiedSignatureError from error


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.generate()


def reference_keys(key: SigningKey) -> list[Key]:
    classical, pq = key.public.key_ids
    ed25519 = SSlibKey(classical, "ed25519", "ed25519", {"public": key.public.classical.hex()})
    return [ed25519, PureMLDSA(pq, "ml-dsa", "ml-dsa-65-pure", {"public": key.public.pq.hex()})]


def test_both_signatures_verify(key: SigningKey) -> None:
    envelope = signed.sign_bytes(b'{"a":1}', TYPE, by=[key])
    reference = Reference.from_dict(json.loads(canonical.encode(envelope)))
    accepted = reference.verify(reference_keys(key), threshold=2)
    assert set(accepted) == set(key.public.key_ids)


def test_the_reference_refuses_it_under_another_type(key: SigningKey) -> None:
    envelope = signed.sign_bytes(b'{"a":1}', TYPE, by=[key])
    wire = json.loads(canonical.encode(envelope)) | {"payloadType": "application/other"}
    with pytest.raises(VerificationError):
        Reference.from_dict(wire).verify(reference_keys(key), threshold=1)
