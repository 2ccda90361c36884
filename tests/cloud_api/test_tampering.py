"""Whatever is changed in a signed request, by whomever and whenever: it is refused with 403."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .asgi import KEY, NOW, SECRET, Answer, LocalApi

METHODS: Final = st.sampled_from(["GET", "POST", "PUT", "DELETE"])
PATHS: Final = st.sampled_from(
    [
        "/v2/instance",
        "/v2/instance-pool",
        "/z/de-fra-1/v2/instance",
        "/v2/security-group",
        "/v2/a b",
    ]
)
WORDS: Final = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1)
NAMES: Final = st.from_regex(r"[a-z]+(-[a-z]+)?", fullmatch=True)
EXPIRY: Final = int(NOW) + 600


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A request on its way."""

    method: str
    path: str
    content: bytes
    query: tuple[tuple[str, str], ...]


REQUESTS: Final = st.builds(
    Sent,
    method=METHODS,
    path=PATHS,
    content=st.binary(max_size=40),
    query=st.dictionaries(NAMES, WORDS, max_size=3).map(lambda made: tuple(made.items())),
)


@pytest.fixture(scope="module")
def local() -> Iterator[LocalApi]:
    local = LocalApi()
    yield local
    world = local.world
    assert [*world.ssh_keys, *world.instances, *world.pools] == []
    local.close()


def header(local: LocalApi, sent: Sent, *, key: str = KEY, expires: int = EXPIRY) -> str:
    return local.authorization(
        sent.method, sent.path, sent.content, sent.query, key=key, expires=expires
    )


def deliver(local: LocalApi, sent: Sent, authorization: str) -> Answer:
    return local.deliver(sent.method, sent.path, sent.content, sent.query, authorization)


def changed(local: LocalApi, sent: Sent, other: Sent, field: str) -> int:
    """Sign a request, change one field of it on the way, and give the answer's status."""
    authorization = header(local, sent)
    return deliver(local, replace(sent, **{field: getattr(other, field)}), authorization).status


def signed(sent: Sent, field: str) -> object:
    """What the signature sees of a field: the values of a query joined, as the scheme has it."""
    if field == "query":
        return "".join(value for _, value in sorted(sent.query))
    return getattr(sent, field)


@given(sent=REQUESTS, other=REQUESTS, field=st.sampled_from(["method", "path", "content", "query"]))
def test_a_request_that_was_changed_on_the_way_is_refused(
    local: LocalApi, sent: Sent, other: Sent, field: str
) -> None:
    if signed(sent, field) != signed(other, field):
        assert changed(local, sent, other, field) == 403


@given(sent=REQUESTS, name=NAMES, value=WORDS)
def test_a_parameter_that_was_added_or_taken_away_is_noticed(
    local: LocalApi, sent: Sent, name: str, value: str
) -> None:
    longer = replace(sent, query=(*sent.query, (name, value)))
    if name not in dict(sent.query):
        assert deliver(local, longer, header(local, sent)).status == 403
        assert deliver(local, sent, header(local, longer)).status == 403


@given(sent=REQUESTS, later_s=st.integers(1, 10**9))
def test_a_request_is_refused_after_its_expiry_however_it_is_sent_again(
    local: LocalApi, sent: Sent, later_s: int
) -> None:
    """Also that of a client whose clock is behind by more than the ten minutes."""
    late = header(local, sent, expires=int(NOW) - later_s)
    answer = deliver(local, sent, late)
    assert (answer.status, "expired" in answer.body["message"]) == (403, True)
    prolonged = late.replace(f"expires={int(NOW) - later_s},", f"expires={EXPIRY},")
    assert deliver(local, sent, prolonged).body == {"message": "Invalid request signature"}


@given(sent=REQUESTS, place=st.integers(0, 10**6), letter=st.sampled_from("Ab9+/="))
def test_another_signature_is_refused(local: LocalApi, sent: Sent, place: int, letter: str) -> None:
    authorization = header(local, sent)
    start, signature = authorization.rsplit("signature=", 1)
    at = place % len(signature)
    forged = signature[:at] + letter + signature[at + 1 :]
    if forged != signature:
        assert deliver(local, sent, f"{start}signature={forged}").status == 403


@given(sent=REQUESTS)
def test_the_name_of_another_key_does_not_help(local: LocalApi, sent: Sent) -> None:
    for key in ("EXOother", "", KEY.lower()):
        answer = deliver(local, sent, header(local, sent, key=key))
        assert (answer.status, SECRET in str(answer.body)) == (403, False)


@given(sent=REQUESTS)
def test_a_request_that_nobody_touched_is_authentic(local: LocalApi, sent: Sent) -> None:
    """Otherwise the tests above would hold for an API that refuses everything."""
    reads = replace(sent, method="GET", content=b"", path=re.sub("a b", "zone", sent.path))
    assert deliver(local, reads, header(local, reads)).status != 403
