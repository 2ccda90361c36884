"""From a request to a size. Pure functions: time is an argument."""

from exotide_autoscaler.policy.step import (
    back_off_s,
    decide,
    hold_limits,
    is_stuck,
    settle_age_s,
)
from exotide_autoscaler.policy.victims import rank_victims

__all__ = ["back_off_s", "decide", "hold_limits", "is_stuck", "rank_victims", "settle_age_s"]
