"""The page about the root module is true and up to date."""

from __future__ import annotations

from .reference import PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "stale; run `make reference` and commit the page"
