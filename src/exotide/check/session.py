"""One run: find the stack, say what will happen, make the checks, leave nothing behind."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from exotide.access.errors import NoAccess
from exotide.access.rights import LOOKING, try_rights
from exotide.stack.api import connect
from exotide.stack.errors import StackError
from exotide.stack.waiting import Patience
from exotide.stopping import Stopped

from .access import Access, grafana_password, read_access
from .account import ExoscaleAccount
from .contract import chosen
from .errors import CannotRun
from .model import Check, Result
from .plan import announcement
from .ports import Program, Screen
from .programs import LocalPrograms
from .report import Report
from .runner import in_order, perform
from .scene import Options, Scene
from .things import Pool
from .web import HttpLoad, HttpWeb, open_client

PATIENCE: Final = Patience(longest_s=3.0, limit_s=300.0)
SLOW_PATIENCE: Final = Patience(longest_s=3.0, limit_s=900.0)
SMALLEST: Final = "standard.micro"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked for on the command line."""

    parts: tuple[int, ...]
    zone: str = ""
    """Empty: as the environment says."""
    is_slow: bool | None = None
    """Whether servers are waited for as on the real cloud. None: as the endpoint is."""
    name: str = ""
    http_port: int = 80
    yes: bool = False
    look_only: bool = False
    password_file: Path | None = None
    speed: float = 1.0
    patience: float = 1.0
    engine: str = "podman"
    images: Mapping[Program, str] = field(default_factory=dict)


class RealClock:
    """Adapter of the port Clock."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, pause_s: float) -> None:
        time.sleep(pause_s)


def run(
    order: Order,
    environ: Mapping[str, str],
    screen: Screen,
    *,
    confirm: Callable[[], bool] | None,
) -> Report:
    """
    Make the checks that are asked for.

    Args:
        confirm: Asks whether to go on. None: there is nobody to ask.

    Raises:
        CannotRun: before anything was done.
        Stopped: someone asked to before the first check.
    """
    _decided(order, can_ask=confirm is not None)
    access = read_access(environ, zone=order.zone)
    is_slow = access.is_public if order.is_slow is None else order.is_slow
    for line in (access.cloud.line, access.remark):
        if line:
            screen.say(line)
    patience = SLOW_PATIENCE if is_slow else PATIENCE
    with connect(access.settings(), patience) as api, ExitStack() as closing:
        account = ExoscaleAccount(api=api)
        checks = chosen(order.parts)
        screen.say(_allowed(account, checks, order))
        pools = _first_look(account, access)
        scene = Scene(
            account=account,
            web=HttpWeb(client=closing.enter_context(open_client())),
            load=HttpLoad(),
            programs=_programs(order, access, closing),
            clock=RealClock(),
            options=_options(order, access, environ, pools, is_slow=is_slow),
        )
        member_type = _member_type(scene, pools)
        _agree(
            order, announcement(checks, member_type=member_type, is_slow=is_slow), screen, confirm
        )
        return _perform(checks, scene, screen, access)


def _perform(checks: tuple[Check, ...], scene: Scene, screen: Screen, access: Access) -> Report:
    began, results, stopped = scene.clock.now(), dict[str, Result](), None
    try:
        try:
            perform(checks, scene, screen, results)
        except Stopped:
            screen.say("stopped: ending what runs, and removing what was made")
            raise
        finally:
            took_s = scene.clock.now() - began
            scene.cleanup.close()
    except Stopped as stop:
        # Whoever is stopped while cleaning up cleans up all the same: later signals are ignored.
        scene.cleanup.close()
        stopped = stop.exit_code
    finally:
        screen.close()
    return Report(
        cloud=access.cloud.kind,
        endpoint=access.endpoint,
        zone=access.zone,
        took_s=round(took_s, 1),
        results=in_order(checks, results, otherwise="not made: stopped before its end"),
        left=tuple(scene.left.values()),
        stopped=stopped,
    )


def _allowed(account: ExoscaleAccount, checks: tuple[Check, ...], order: Order) -> str:
    """See that the key may do what the checks do; gives what is to be said of it."""
    wanted = [*LOOKING]
    if not order.look_only:
        wanted += [right for check in checks for right in check.rights]
    try:
        found = try_rights(account.api, wanted)
    except (NoAccess, StackError) as error:
        raise CannotRun(str(error)) from error
    if found.missing:
        raise CannotRun(
            f"the key may not do what these checks need; nothing was done\n{found.table}\n"
            "use a key whose role allows these; --look-only needs the lists alone"
        )
    return found.remark(right.service for right in wanted)


def _decided(order: Order, *, can_ask: bool) -> None:
    if order.yes and order.look_only:
        raise CannotRun("--yes and --look-only exclude each other; choose one")
    if not (order.yes or order.look_only or can_ask):
        raise CannotRun(
            "the checks delete members and make load, and there is no terminal to ask: "
            "allow it with --yes, or leave it out with --look-only"
        )


def _first_look(account: ExoscaleAccount, access: Access) -> list[Pool]:
    try:
        return account.pools()
    except StackError as error:
        raise CannotRun(f"{access.endpoint} cannot be used: {error}") from error


def _options(
    order: Order,
    access: Access,
    environ: Mapping[str, str],
    pools: list[Pool],
    *,
    is_slow: bool,
) -> Options:
    ids = frozenset(pool.id for pool in pools)
    return Options(
        zone=access.zone,
        name=order.name,
        http_port=order.http_port,
        look_only=order.look_only,
        speed=order.speed,
        patience=order.patience,
        is_slow=is_slow,
        grafana_password=grafana_password(
            environ, file=order.password_file, folder=Path.cwd(), pool_ids=ids
        ),
    )


def _programs(order: Order, access: Access, closing: ExitStack) -> LocalPrograms:
    folder = tempfile.TemporaryDirectory(prefix="exotide-check-", ignore_cleanup_errors=True)
    return LocalPrograms(
        access=access,
        folder=Path(closing.enter_context(folder)),
        engine=order.engine,
        images=order.images,
    )


def _agree(
    order: Order, lines: list[str], screen: Screen, confirm: Callable[[], bool] | None
) -> None:
    """Say what will happen, and ask unless it is decided."""
    if order.look_only:
        return
    for line in lines:
        screen.say(line)
    if not order.yes and confirm is not None and not confirm():
        raise CannotRun("nothing was done; --look-only leaves out what changes the stack")


def _member_type(scene: Scene, pools: list[Pool]) -> str:
    mine = scene.mine(pools, pools=pools)
    try:
        return scene.account.type_name(mine[0].type_id) if mine else SMALLEST
    except StackError:
        return SMALLEST
