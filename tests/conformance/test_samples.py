"""The requests that other tests start from are valid."""

from __future__ import annotations

from .probing import NOT_OFFERED
from .samples import Furnished


def test_every_resource_can_be_made_from_the_document_except_those_not_offered() -> None:
    furnished = Furnished()
    said = {
        operation: why for operation, why in furnished.refused.items() if NOT_OFFERED not in why
    }
    furnished.close()
    assert set(said) == {"update-reverse-dns-elastic-ip"}
