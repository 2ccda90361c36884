"""What a stack has cost so far: PURE. EUR without VAT and traffic, by the price list."""

from __future__ import annotations

from dataclasses import dataclass, replace

from exotide.cost.prices import SECONDS_PER_HOUR, StackPrices


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """The cost until a moment. Between two looks the pool had the size of the first."""

    prices: StackPrices | None = None
    """None: a price is not known."""
    members: int = 0
    spent_eur: float = 0.0
    at_s: float
    """Until when `spent_eur` counts, in Unix seconds."""

    @property
    def per_hour(self) -> float | None:
        """EUR per hour at this size; None if a price is not known."""
        if self.prices is None:
            return None
        return self.prices.base + self.members * self.prices.member

    def until(self, now_s: float, *, members: int | None = None) -> Meter:
        """
        Count on.

        Args:
            members: The pool's size from now on. None: it is not known, so it stays.
        """
        hours = max(0.0, now_s - self.at_s) / SECONDS_PER_HOUR
        return replace(
            self,
            spent_eur=self.spent_eur + hours * (self.per_hour or 0.0),
            at_s=max(now_s, self.at_s),
            members=self.members if members is None else members,
        )
