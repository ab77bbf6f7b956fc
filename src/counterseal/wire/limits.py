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

CHARTER_BYTES: Final = 256 * KIB
CHARTER_CHAIN_BYTES: Final = 32 * MIB
LETTER_BYTES: Final = 4 * MIB  # the notice of a shipment of 32,768 blocks is about 2 MiB
LETTER_ROOM: Final = 32 * KIB  # shares, salts and padding around the message

# The partner directory (SPEC 2.8)
DIRECTORY_BYTES: Final = 8 * MIB  # 2000 prekeys come to 6 MiB
DIRECTORY_FILES: Final = 80
DIRECTORY_ROOTS: Final = 64  # about one a year; then partners that stayed away must meet again
ROOT_BYTES: Final = 256 * KIB  # 17 keys and as many signatures
TIMESTAMP_BYTES: Final = 16 * KIB
SNAPSHOT_BYTES: Final = 16 * KIB
TARGETS_BYTES: Final = 64 * KIB
CONTACT_BYTES: Final = 16 * KIB
CONTACT_URLS: Final = 8

# Meeting a partner (SPEC 2.9, 2.10)
PAIRING_MESSAGE_BYTES: Final = LETTER_BYTES  # about 20 KiB; a card after 256 rotations is 3 MiB
PAIRING_CONTACT_BYTES: Final = 64 * KIB  # a relay's address and card
INVITATION_BYTES: Final = KIB
CERTIFIED_BYTES: Final = CARD_DOCUMENT_BYTES + 256 * KIB  # with the chain
CERTIFICATE_BYTES: Final = 32 * KIB  # ML-DSA-87 comes to 8 KiB
CERTIFICATES: Final = 8
PEM_BYTES: Final = MIB

# The ledger (SPEC 17)
LEDGER_ENTRY_BYTES: Final = 65_535  # c2sp.org/tlog-tiles: a length of 16 bits
LEDGER_NOTE_BYTES: Final = 160 * KIB  # 32 signatures of 3.3 KiB (ML-DSA-44 in base64)
LEDGER_SIGNATURES: Final = 32
LEDGER_PROOF_BYTES: Final = LEDGER_NOTE_BYTES + 96 * KIB  # with the entry and 63 hashes
LEDGER_KEY_BYTES: Final = 32 * KIB  # the owner's statement comes to about 10 KiB
LEDGER_WITNESS_BYTES: Final = 64 * MIB
LEDGER_CALLS: Final = 100_000  # of ours that a witness waits for; about 300 bytes each
LEDGER_PENDING: Final = 65_536  # entries in memory that no transaction has taken yet

# The gateway (SPEC 18)
GATEWAY_STATEMENT_BYTES: Final = 32 * KIB  # two signatures and a certificate come to about 7 KiB
SESSION_REQUEST_BYTES: Final = 32 * KIB
GATEWAY_HEADERS: Final = 64
GATEWAY_HEADER_BYTES: Final = 16 * KIB
GATEWAY_ANSWER_BYTES: Final = 64 * MIB
