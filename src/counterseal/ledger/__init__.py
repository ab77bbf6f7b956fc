"""What happened: an append-only log for each charter that a partner can verify alone.

tree        RFC 6962: hashes, proofs, checks      tiles       paths, widths, bundles
edge        what it takes to append               reader      tiles checked up to the root
checkpoint  origin, size, root                    note        signed notes and cosignatures
keys        of a log, of a witness; the owner's statement about them
entry       one event, payloads only committed to, by keys that can be destroyed
store, postgres, stored                           named blobs; what a log keeps in them
log         durable, one writer at a time, never two histories
ledger, pulse, mark                               a log of an identity, its thread, its mark
proof, verify, witness, cosign                    what everybody else can check, and attest

Formats are C2SP's (tlog-tiles, tlog-checkpoint, tlog-cosignature, tlog-proof, signed-note), so
that tools which know nothing of us read and verify a ledger.
"""
