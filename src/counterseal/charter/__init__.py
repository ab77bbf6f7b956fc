"""May they? The agreement that both sides signed, as a document and as a decision.

| module | |
|---|---|
| `document` | what a charter says |
| `source` | as people write it: TOML or YAML with comments |
| `signing` | both parties' signatures, the chain of versions |
| `states` | from draft to closed: who may take which step |
| `conditions` | the closed fragment, and its three readings: Cedar, Python, SMT-LIB |
| `clauses` | what must be so for a request to be allowed |
| `policy` | a charter as Cedar policies |
| `request` | a request and the usage so far, as facts |
| `decision` | a request, the usage so far, the time: allowed, or why not |
| `diff` | what a version newly allows and newly refuses, proved |
| `terms` | the terms that no request is judged on: do they loosen? |
| `odrl` | for other people's tools |

No network, no clock, no ledger here: the gateway, a secret computation and a training round ask
the same `decide`.
"""
