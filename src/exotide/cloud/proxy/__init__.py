"""
Proxy mode: tools that only know `https://api-<zone>.exoscale.com` reach the local cloud unmodified.

A client sends CONNECT to the cloud's own port; for `*.exoscale.com:443` the tunnel ends right here,
in TLS with a certificate of the user's own authority. No connection is ever opened to elsewhere.
"""
