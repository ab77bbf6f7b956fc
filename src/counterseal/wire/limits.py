"""How much of anything is read before it is known to be good (SPEC 1.3)."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

CARD_DOCUMENT_BYTES: Final = 4 * MIB  # a card is about 12 KiB; 256 rotations fit
CARDS: Final = 256
REVOCATIONS: Final = 256
RECOVERY_KEYS: Final = 16
PREKEY_BUNDLE_BYTES: Final = 4 * MIB  # a prekey is about 1.7 KiB
PREKEYS: Final = 2000
KEYSTORE_BYTES: Final = 4 * MIB
BACKUP_BYTES: Final = 256 * MIB  # with all partners' cards and prekey bundles
PASSPHRASE_FILE_BYTES: Final = 4 * KIB

HEADER_BYTES: Final = 32 * KIB  # two signatures and a dozen fields come to about 7 KiB
STANZAS_BYTES: Final = 64 * MIB
RECIPIENTS: Final = 16_384
MANIFEST_JSON_BYTES: Final = 64 * MIB
LEAVES: Final = 4 * MIB  # 4 TiB of model
STATEMENT_BYTES: Final = 32 * MIB
