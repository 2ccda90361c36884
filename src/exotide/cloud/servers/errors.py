"""
What the machine below the emulated API can report, as one tree:

* CloudFault (exotide.cloud.ports)
  x HostUnsuitable        this host cannot run servers as it is
    + MissingProgram      a system program is missing; names the Debian package
    + NoPermission        the process may not make namespaces; says what it needs
  x CloudIdTaken          a living cloud has this id
  x CommandFailed         a system command refused; carries its own words
  x UnknownServer         no server has this id
  x UnknownBalancer       no load balancer, or no service of it, has this id
  x UnsupportedService    a service that the balancer cannot do (UDP)
  x BalancerFailed        HAProxy did not start or refused a command
  x ServerFailed (exotide.cloud.ports)
    + BadUserData         user-data that cannot be honoured; names the field
"""

from __future__ import annotations

from exotide.cloud.ports import CloudFault, ServerFailed


class HostUnsuitable(CloudFault):
    """This host cannot run servers as it is; the message says what to change."""


class MissingProgram(HostUnsuitable):
    """A system program is missing; the message names the package that has it."""


class NoPermission(HostUnsuitable):
    """The process may not make namespaces or control groups."""


class CloudIdTaken(CloudFault):
    """Another living cloud has this id; nothing of it was touched."""


class CommandFailed(CloudFault):
    """A system command refused; the message carries what it printed."""


class UnknownServer(CloudFault):
    """No server has this id."""


class UnknownBalancer(CloudFault):
    """No load balancer, or no service of it, has this id."""


class UnsupportedService(CloudFault):
    """The local balancer cannot do this service."""


class BalancerFailed(CloudFault):
    """HAProxy did not start or refused a command; the message says where its log is."""


class BadUserData(ServerFailed):
    """User-data that cannot be honoured; the message names the field and its value."""
