"""
The acceptance contract as a command against any endpoint, local or real.

`contract` holds the checks as data; `runner` makes them over the ports of `ports`; what they look
at is in `pool`, `monitoring`, `grafana`, `scaling` and `agents`.
"""
