"""From an intent to a size. Pure functions: time is an argument."""

from exotide_autoscaler.policy.step import decide
from exotide_autoscaler.policy.victims import choose_victims

__all__ = ["choose_victims", "decide"]
