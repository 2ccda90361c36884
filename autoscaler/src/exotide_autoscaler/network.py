"""
The way to the API: its names, its certificates, and what the environment says about proxies.

The same file stands in both agents, since the image of each is built from its folder alone.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import httpcore2

CUT: Final = (httpcore2.ReadError, httpcore2.WriteError, httpcore2.RemoteProtocolError)
"""Errors of a connection that was there and ended before its time."""
_REST_S: Final = 30.0
"""How long a connection rests at most: 60 s is a common limit of servers, and one that ends just
when the next call begins costs that call."""
_MOST_LOOKUPS: Final = 4


class Lookups(ThreadPoolExecutor):
    """
    Threads that look names up, for asyncio's `set_default_executor`.

    A name server that is silent holds its thread for half a minute, whether or not somebody still
    waits. So the end of the program does not wait for them, and no more than a few are started.
    """

    def __init__(self) -> None:
        super().__init__(max_workers=_MOST_LOOKUPS)
        self._free = threading.Semaphore(_MOST_LOOKUPS)

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """Start the work. Raises RuntimeError if too many hang, or there is no thread to have."""
        if not self._free.acquire(blocking=False):
            raise RuntimeError(f"{_MOST_LOOKUPS} earlier look-ups of names still hang")
        future: Future[Any] = Future()
        try:
            threading.Thread(
                target=self._work, args=(future, work, arguments, named), daemon=True
            ).start()
        except BaseException:
            self._free.release()
            raise
        return future

    def _work(
        self, future: Future[Any], work: Callable[..., Any], arguments: Any, named: Any
    ) -> None:
        try:
            if future.set_running_or_notify_cancel():
                future.set_result(work(*arguments, **named))
        except BaseException as error:  # noqa: BLE001 - raised again where the result is read
            future.set_exception(error)
        finally:
            self._free.release()


def cause_of(error: BaseException) -> str:
    """What the system said, without the layers around it."""
    if isinstance(error, httpcore2.ProxyError):
        return f"the proxy answered {str(error).partition(' ')[0]}"
    while isinstance(inner := _inner(error), Exception):
        error = inner
    return f"{type(error).__name__}: {error}"


def _inner(error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]
    return error.__cause__ or error.__context__


def connections_to(url: SplitResult, environ: Mapping[str, str]) -> httpcore2.AsyncConnectionPool:
    """
    Make an empty pool for one host.

    Raises:
        ValueError: a variable of the environment is of no use; names it.
    """
    return httpcore2.AsyncConnectionPool(
        ssl_context=_trust(environ) if url.scheme == "https" else None,
        proxy=_proxy(url, environ),
        max_connections=1,
        keepalive_expiry=_REST_S,
    )


def _trust(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Whom to believe; OpenSSL itself knows SSL_CERT_FILE and the system's authorities."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        if path := environ.get(name):
            with contextlib.suppress(OSError):
                if os.path.isdir(path):  # noqa: PTH112
                    return ssl.create_default_context(capath=path)
                return ssl.create_default_context(cafile=path)
            raise ValueError(f"{name} names no certificates: {path}")
    return ssl.create_default_context()


def _proxy(url: SplitResult, environ: Mapping[str, str]) -> httpcore2.Proxy | None:
    names = [f"{url.scheme}_proxy", "all_proxy"]
    found = [environ.get(name) or environ.get(name.upper()) for name in names]
    proxy = next(filter(None, found), None)
    exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if proxy is None or _exempt(url, exempt):
        return None
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"{names[0].upper()} must be an http or https URL")
    bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if parts.username is None:
        return httpcore2.Proxy(bare)
    return httpcore2.Proxy(bare, auth=(unquote(parts.username), unquote(parts.password or "")))


def _exempt(url: SplitResult, no_proxy: str) -> bool:
    """Whether a host is named by itself, by its domain, by its network, or by `*`."""
    host = (url.hostname or "").lower()
    for entry in no_proxy.lower().replace(" ", "").split(","):
        name = entry.lstrip(".")
        if entry == "*" or name in {host, f"{host}:{url.port}"} or _is_below(host, name):
            return True
    return False


def _is_below(host: str, name: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bool(name) and host.endswith(f".{name}")
    try:
        return address in ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False
