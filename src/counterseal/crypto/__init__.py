"""Recipes over `cryptography`; the only package that imports it: an auditor's afternoon.

| module | one idea | source |
|---|---|---|
| `signing` | a signature is two signatures, classical and post-quantum | RFC 8032, FIPS 204 |
| `agreement` | seal a short secret to a hybrid public key | RFC 9180, draft-ietf-hpke-pq |
| `hpke` | the RFC 9180 key schedule, for the one KEM the engine lacks | RFC 9180 section 5.1 |
| `chunked` | encrypt and decrypt any leaf of a long message | c2sp.org/chunked-encryption |
| `derive` | one key, one purpose, one label | RFC 5869 |
| `passphrase` | from a passphrase to a committed key | RFC 9106 |
| `statement` | P-256 signatures that OpenSSF model-signing verifies | FIPS 186-5 |
| `p256` | halves that live in a token, each answer checked | FIPS 186-5, SP 800-56A |
| `cpace` | from a short code to a strong key | draft-irtf-cfrg-cpace-21 |
| `ephemeral` | a key for one conversation: X-Wing, used once | draft-connolly-cfrg-xwing-kem |
| `record` | frames of a channel, a key that only turns forwards | SP 800-38D |
| `notes` | signatures of checkpoints, as other tools read them | c2sp.org/signed-note, FIPS 204 |
| `x509`, `tls_identity` | certificates of a CA; certificates that carry no trust | RFC 5280 |
| `digest` | SHA-256 and the BLAKE3 leaf | FIPS 180-4, BLAKE3 |

There is nothing to choose here: every function has one algorithm, and a wrong key, a
changed byte and a short read all end in an exception from `counterseal.errors`.
Private keys have no useful `repr`, are never compared and never leave through `str`.
"""
