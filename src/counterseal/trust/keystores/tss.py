"""A visit to a TPM 2.0: connect, prove the way, do one thing, leave nothing behind.

Nothing between here and the chip is trusted:
- the storage key is made anew from the TPM's seed at each visit, and must be the one that our
  keys were made under (`serial` is its name): another TPM, or somebody on the bus, has another;
- the session is salted with it, so that the PIN is proved by an HMAC of which a listener lacks
  the key, and what comes back of a kept secret is encrypted.

A TPM without a resource manager has room for three keys and serves one process at a time. So
a visit lasts for one operation, and everything loaded is flushed.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from counterseal._extras import require
from counterseal.errors import CountersealError, TrustError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from counterseal.trust.keystores.uri import TpmUri

__all__ = ["Tpm", "Visit"]

# TPM 2.0 part 2, 6.6.3: without the number of the handle, parameter or session
_WRONG_AUTH: Final = (0x8E, 0xA2)  # TPM_RC_AUTH_FAIL, TPM_RC_BAD_AUTH
_NOT_OURS: Final = (0x9F,)  # TPM_RC_INTEGRITY
_LOCKOUT: Final = 0x921
_OF_THE_CHIP: Final = (0, 11, 12)  # layers: the TPM itself, and resource managers for it
_LOCKOUT_PROPERTIES: Final = 0x20E  # TPM_PT_LOCKOUT_COUNTER, _MAX_AUTH_FAIL, _LOCKOUT_INTERVAL

_lock: Final = RLock()


class Tpm:
    """One TPM, not connected."""

    def __init__(self, uri: TpmUri, serial: str = "") -> None:
        """`serial`: the name of its storage key, if keys were made under it before."""
        self.uri = uri
        self.serial = serial
        self.api = _library()

    @property
    def name(self) -> str:
        return f"the TPM at {self.uri.tcti}"

    @contextmanager
    def visit(self, what: str) -> Iterator[Visit]:
        """Raise TrustError if it is not there, is another one, or refuses."""
        with _lock, self._speaking(what), self._connected() as chip:
            parent, name = self._storage_key(chip)
            try:
                self._check_serial(name)
                session = self._session(chip, parent)
                try:
                    yield Visit(self, chip, parent, session)
                finally:
                    self.flush(chip, session)
            finally:
                self.flush(chip, parent)

    def flush(self, chip: Any, handle: Any) -> None:
        with suppress(self.api.TSS2_Exception):  # of a TPM that is gone there is nothing to flush
            chip.flush_context(handle)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        name, _, conf = self.uri.tcti.partition(":")
        tcti = self.api.TCTILdr(name, conf or None)
        try:
            chip = self.api.ESAPI(tcti)
            try:
                yield chip
            finally:
                chip.close()
        finally:
            tcti.close()

    def _storage_key(self, chip: Any) -> tuple[Any, str]:
        """The same key each time (TCG provisioning guidance, 7.5.1), and its name."""
        api, can = self.api, self.api.TPMA_OBJECT
        use = can.RESTRICTED | can.DECRYPT | can.FIXEDTPM | can.FIXEDPARENT
        template = api.TPM2B_PUBLIC.parse(
            "ecc256:aes128cfb",
            objectAttributes=use | can.SENSITIVEDATAORIGIN | can.USERWITHAUTH | can.NODA,
        )
        try:
            handle, public, *_ = chip.create_primary(api.TPM2B_SENSITIVE_CREATE(), template)
        except api.TSS2_Exception as error:
            if error.error not in _WRONG_AUTH:
                raise
            raise TrustError(
                f"the owner of {self.name} has set a password, which counterseal does not ask for",
                hint="tpm2_changeauth -c owner, or a PKCS#11 token",
            ) from error
        return handle, bytes(public.get_name()).hex()

    def _check_serial(self, name: str) -> None:
        """Before anything that involves the PIN."""
        if self.serial and name != self.serial:
            raise TrustError(
                f"{self.name} is another one, or was cleared: our keys are not in it",
                hint="if it was cleared: counterseal id recover with recovery keys",
            )
        self.serial = name

    def _session(self, chip: Any, parent: Any) -> Any:
        api = self.api
        session = chip.start_auth_session(
            tpm_key=parent,
            bind=api.ESYS_TR.NONE,
            session_type=api.TPM2_SE.HMAC,
            symmetric=api.TPMT_SYM_DEF(
                algorithm=api.TPM2_ALG.AES,
                keyBits=api.TPMU_SYM_KEY_BITS(aes=128),
                mode=api.TPMU_SYM_MODE(aes=api.TPM2_ALG.CFB),
            ),
            auth_hash=api.TPM2_ALG.SHA256,
        )
        encrypted = api.TPMA_SESSION.DECRYPT | api.TPMA_SESSION.ENCRYPT
        chip.trsess_set_attributes(session, api.TPMA_SESSION.CONTINUESESSION | encrypted)
        return session

    @contextmanager
    def _speaking(self, what: str) -> Iterator[None]:
        try:
            yield
        except self.api.TSS2_Exception as error:
            raise self._explained(error, what) from error

    def _explained(self, error: Any, what: str) -> CountersealError:
        if error.rc >> 16 not in _OF_THE_CHIP:
            return TrustError(
                f"{self.name} could not {what}: it is not there, or not any more (0x{error.rc:x})",
                hint="is it switched on, and may you use it? (group tss, or its daemon)",
            )
        code = error.error & 0xFFFF
        if code == _LOCKOUT:
            return TrustError(f"{self.name} is locked after wrong PINs", hint=self._tries())
        if code in _WRONG_AUTH:
            return TrustError(f"wrong PIN for {self.name}", hint=self._tries())
        if code in _NOT_OURS:
            return TrustError(
                f"{self.name} does not know this key",
                hint="counterseal id restore BACKUP, or counterseal id recover with recovery keys",
            )
        return TrustError(f"{self.name} refused to {what} (0x{error.rc:x})")

    def _tries(self) -> str | None:
        """How many wrong PINs it still takes: everybody's count together."""
        try:
            with self._connected() as chip:
                kind = self.api.TPM2_CAP.TPM_PROPERTIES
                _, found = chip.get_capability(kind, _LOCKOUT_PROPERTIES, 3)
                counter, most, interval = (one.value for one in found.data.tpmProperties)
        except self.api.TSS2_Exception:
            return None
        if counter < most:
            return f"tries left before the TPM locks itself: {most - counter}"
        return (
            f"one more try every {interval} seconds; its owner can end this with "
            "tpm2_dictionarylockout --clear-lockout"
        )


class Visit:
    """A connection with a session. Handles are blobs: public | private, as the TPM wrote them."""

    def __init__(self, tpm: Tpm, chip: Any, parent: Any, session: Any) -> None:
        self.chip = chip
        self.parent = parent
        self.session = session
        self._tpm = tpm

    @contextmanager
    def loaded(self, public: Any, private: Any, auth: bytes) -> Iterator[Any]:
        """The key in the TPM, for as long as the block lasts."""
        key = self.chip.load(self.parent, private, public, session1=self.session)
        try:
            self.chip.tr_set_auth(key, auth)
            yield key
        finally:
            self._tpm.flush(self.chip, key)


def _library() -> Any:
    # The library tells its errors to stderr by itself; ours say the same in words.
    os.environ.setdefault("TSS2_LOG", "all+NONE")
    try:
        return require("tpm2_pytss", extra="tpm")
    except ImportError as error:  # it is there, and what it is built on is not
        raise CountersealError(
            f"tpm2-pytss does not start: {error}",
            hint="apt-get install libtss2-esys-3.0.2-0 libtss2-rc0 libtss2-tctildr0",
        ) from error
