"""The contract's two programs, each run with the contract's environment alone."""

from __future__ import annotations

import secrets
from typing import Any, Final

import msgspec

from exotide.stack.userdata import EXPORTER_PORT

from .errors import ProgramFault, WebFault
from .model import Seen
from .pool import OWN_POOL
from .ports import Agent, Program
from .scene import Scene

START_S: Final = 60.0
APART_S: Final = 6.0
TARGET_PORT: Final = EXPORTER_PORT


def start_discovery(scene: Scene) -> None:
    """Start the service discovery on the stack's pool, which it only reads."""
    scene.discovery = scene.programs.start(Program.DISCOVERY, pool_id=scene.pool_id)
    scene.cleanup.callback(scene.discovery.end)


def file_follows(scene: Scene) -> Seen:
    """Compare the file with the pool's members."""
    agent = _running(scene.discovery)
    wanted, size = scene.exporters(), scene.pool().size
    listed = _targets(agent.targets())
    if listed is None:
        return Seen(fine=False, text="no file yet, or not the contract's JSON")
    fine = len(listed) == size and set(listed) == wanted
    return Seen(fine=fine, text=f"{len(set(listed) & wanted)} of {size} members in the file")


def advise_discovery(scene: Scene) -> str:
    """Show how its log ends."""
    return _log(scene.discovery)


def end_discovery(scene: Scene) -> None:
    """Send TERM."""
    _running(scene.discovery).ask_to_end()


def discovery_ended(scene: Scene) -> Seen:
    """Read its exit code."""
    return _ended(scene.discovery)


def start_autoscaler(scene: Scene) -> None:
    """Make a pool of its own for the autoscaler, start it, and send it one GET /up."""
    name = f"{OWN_POOL}{secrets.token_hex(3)}"
    # Before it is made: an answer may get lost, or the user end the check, while it is being made.
    scene.remove_at_end(name)
    scene.own_pool_id = scene.account.make_pool(name, like=scene.pool())
    scene.autoscaler = scene.programs.start(Program.AUTOSCALER, pool_id=scene.own_pool_id)
    scene.own_pool.callback(scene.autoscaler.end)
    _await_answer(scene, scene.autoscaler)
    _send(scene, "/up")


def send_down(scene: Scene) -> None:
    """Send one GET /down."""
    _send(scene, "/down")


def send_down_again(scene: Scene) -> None:
    """Send one GET /down, so long after the change that it is no repeat of what asked for it."""
    scene.clock.sleep(APART_S)
    _send(scene, "/down")


def has_two(scene: Scene) -> Seen:
    """See whether the answer was 200 and its pool has two members."""
    return _answered(scene, size=2)


def has_one(scene: Scene) -> Seen:
    """See whether the answer was 200 and its pool has one member."""
    return _answered(scene, size=1)


def advise_autoscaler(scene: Scene) -> str:
    """Show how its log ends, and before it which quota may have been in its way."""
    return "; ".join(filter(None, (scene.account.full(), _log(scene.autoscaler))))


def end_autoscaler(scene: Scene) -> None:
    """Send TERM."""
    _running(scene.autoscaler).ask_to_end()


def leave_own_pool(scene: Scene) -> None:
    """Remove the pool as soon as it is of no more use; nothing to do if there is none."""
    scene.own_pool.close()


def autoscaler_ended(scene: Scene) -> Seen:
    """Read its exit code."""
    return _ended(scene.autoscaler)


def _answered(scene: Scene, *, size: int) -> Seen:
    _running(scene.autoscaler)
    if scene.status != 200:
        return Seen(fine=False, final=True, text=f"the answer was {scene.status}")
    pool = scene.account.pool(scene.own_pool_id)
    fine = pool.size == size == len(pool.member_ids)
    text = f"answered 200; its pool is asked for {pool.size} and has {len(pool.member_ids)}"
    return Seen(fine=fine, text=text)


def _send(scene: Scene, path: str) -> None:
    scene.status = scene.web.get(f"{_running(scene.autoscaler).url}{path}").status


def _await_answer(scene: Scene, agent: Agent) -> None:
    """Wait until it answers at all: the webhook that follows is sent once only."""
    end_s = scene.clock.now() + START_S
    while True:
        try:
            scene.web.get(_running(agent).url)
        except WebFault as fault:
            if scene.clock.now() > end_s:
                raise ProgramFault(f"no answer within {START_S:g} s; {fault}") from fault
            scene.clock.sleep(0.2)
        else:
            return


def _running(agent: Agent | None) -> Agent:
    assert agent, "checks of a program need the one that starts it"
    if agent.exit_code is not None:
        raise ProgramFault(f"it ended by itself with {agent.exit_code}")
    return agent


def _ended(agent: Agent | None) -> Seen:
    assert agent, "checks of a program need the one that starts it"
    code = agent.exit_code
    if code is None:
        return Seen(fine=False, text="it still runs")
    return Seen(fine=code == 0, final=True, text=f"it exited with {code}")


def _log(agent: Agent | None) -> str:
    return agent.last_words() if agent else "it was not started"


def _targets(text: str) -> list[str] | None:
    """Read the contract's JSON; None if it is not that."""
    try:
        groups: list[dict[str, Any]] = msgspec.json.decode(text, type=list[dict[str, Any]])
        return [str(target) for group in groups for target in group["targets"]]
    except (msgspec.MsgspecError, KeyError, TypeError):
        return None
