"""May they? The agreement that both sides signed, as a document and as a decision.

| module | |
|---|---|
| `document` | what a charter says |
| `source` | as people write it: TOML or YAML with comments |
| `signing` | both parties' signatures, the chain of versions |
| `states` | from draft to closed: who may take which step |
| `policy` | a charter as Cedar policies |
| `decision` | a request, the usage so far, the time: allowed, or why not |
| `diff` | what a version newly allows and newly refuses, proved |
| `odrl` | for other people's tools |

No network, no clock, no ledger here: the gateway, a secret computation and a training round ask
the same `decide`.
"""
