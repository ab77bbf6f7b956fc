"""The partner directory: news of an organization for one partner, signed, dated and bounded.

A card file is handed over once; a directory follows. It carries the newest card (so rotation
and revocation arrive with the next contact), prekeys, and where mail is received. It ends
after a week: then whoever stands on the line can no longer pass off old news as the latest.

The rules are those of The Update Framework (TUF 1.0.31), with the metadata, thresholds and
signature checks of python-tuf. What differs from a repository that many clients poll:

- one directory for one partner, all of it in one document (`bundle`), carried by anything;
- signers are hybrid keys (`keys`), so each TUF signature is a classical and a post-quantum one;
- the trusted root is the partner's pinned card history, not a file shipped with a program.

| module | | imports tuf |
|---|---|---|
| `bundle` | the document, and what may stand in it | no |
| `known` | what a reader remembers of the last one | no |
| `keys` | our hybrid keys as TUF keys | yes |
| `metadata` | one metadata file in its strict form | yes |
| `reader` | the rules by which a directory is believed | yes |
| `publisher` | how one is made and kept fresh | yes |
| `roots` | which keys may say what, at the publisher | yes |
| `online` | the key that may only keep it fresh | no |
| `supply` | the prekeys in it | no |

Importing tuf takes some tens of milliseconds: only who reads or makes a directory does.
"""
