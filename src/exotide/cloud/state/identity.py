"""Who a kept cloud is: what must be the same after a restart for its servers and its users."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from exotide.cloud.errors import StateDamaged
from exotide.cloud.service import Access
from exotide.cloud.state.codec import decode, encode
from exotide.cloud.state.store import Changes, Store

KEY: Final = ("identity", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One cloud, from its first start to `exotide cloud down`."""

    cloud_id: str
    driver: str
    port: int
    """Of the API; programs on its servers know it."""
    key: str
    secret: str = field(repr=False)
    zone: str
    run_dir: str
    network_number: int | None = None
    """N of 198.18.N.0/24, for drivers that have a network."""

    def access(self, port: int) -> Access:
        """Return how the cloud is reached on this port."""
        return Access(port=port, key=self.key, secret=self.secret, zone=self.zone)


def load(store: Store) -> Identity | None:
    """
    Give the cloud that a folder holds; None if it is new.

    Raises:
        StateDamaged: It cannot be read.
    """
    for kind, key, value in store.read():
        if (kind, key) == KEY:
            try:
                identity: Identity = decode(Identity, value)
            except ValueError as error:
                raise StateDamaged(store.file, f"identity: {error}") from error
            return identity
    return None


def save(store: Store, identity: Identity) -> None:
    """Keep it."""
    store.write(Changes(put={KEY: encode(identity)}))
