"""One run from nothing to nothing: start all, drive the load, record, take all down."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import httpx2

from exotide.demo.errors import DemoError, ProgramDied
from exotide.demo.generator import Generator
from exotide.demo.localcloud import READY_LIMIT_S, STOP_GRACE_S, Access, find_access, start_cloud
from exotide.demo.plan import Plan, Stage, advance, rate_rps
from exotide.demo.programs import Program, last_lines
from exotide.demo.recorder import Recorder, Watches
from exotide.demo.screen import Screen, View
from exotide.demo.watches import Decisions, average_cpu, healthy_backends, pool_size
from exotide.report.run import Run
from exotide.stack.api import connect
from exotide.stack.create import create
from exotide.stack.destroy import destroy
from exotide.stack.errors import StackError
from exotide.stack.model import Stack
from exotide.stack.probes import wait_healthy, wait_prometheus
from exotide.stack.settings import StackSettings
from exotide.stack.waiting import Patience
from exotide.stack.watch import Watch
from exotide.stopping import Stopped

MAX_SIZE: Final = 4
PATIENCE: Final = Patience(longest_s=0.5, limit_s=90.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything that runs once the curtain rises."""

    cloud: Program
    settings: StackSettings
    stack: Stack
    generator: Generator
    watches: Watches
    logs: str
    servers: str
    """What the cloud's servers are, and why."""


def perform(plan: Plan, screen: Screen) -> Run:
    """
    Run the whole demo; gives what was seen, also when it broke on the way.

    Raises:
        Stopped: someone asked to; all is cleaned up.
        DemoError, StackError: before there was anything to see; all is cleaned up.
    """
    began_s = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="exotide-demo-"))
    try:
        run = _perform(plan, screen, folder)
    except Stopped:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if run.passed:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        screen.say(f"all logs of this run are kept: {folder}")
    return replace(run, wall_s=round(time.monotonic() - began_s, 1))


def _perform(plan: Plan, screen: Screen, folder: Path) -> Run:
    run: Run | None = None
    try:
        with _everything(plan, screen, folder) as scene:
            run = _drive(scene, plan, screen)
            if run.failure is None:
                screen.say("removing the stack")
                destroy(scene.settings, patience=PATIENCE)
    except (DemoError, StackError) as error:
        if run is None:
            raise
        run = replace(run, failure=run.failure or f"taking down: {error}")
    return run


@contextmanager
def _everything(plan: Plan, screen: Screen, folder: Path) -> Iterator[Scene]:
    """Start what the run needs, in order; on any way out it is ended in the reverse order."""
    with ExitStack() as cleanup:
        cloud, access = _start_cloud(cleanup, plan, screen, folder)
        settings = settings_for(access, plan)
        stack = create(settings, patience=PATIENCE, progress=lambda step: screen.say(f"  {step}"))
        _await_stack(settings, stack, screen)
        client = cleanup.enter_context(httpx2.Client(trust_env=False))
        watches = _watch(client, settings, stack)
        for watch in watches.all():
            cleanup.callback(watch.stop)
        path = f"/work?cpu_s={plan.cpu_s:g}"
        generator = Generator(stack.url, path=path, folder=folder, rate_rps=0.0)
        cleanup.callback(generator.stop)
        cleanup.callback(screen.close)
        generator.program.await_ready(lambda: bool(generator.news()), limit_s=READY_LIMIT_S)
        yield Scene(
            cloud=cloud,
            settings=settings,
            stack=stack,
            generator=generator,
            watches=watches,
            logs=f"{folder} and, of the servers, {access.folder}",
            servers=access.servers,
        )


def _start_cloud(
    cleanup: ExitStack, plan: Plan, screen: Screen, folder: Path
) -> tuple[Program, Access]:
    log = folder / "cloud.log"
    screen.say(f"starting the local cloud; its log: {log}")
    cloud, port = start_cloud(speed=plan.speed, member_cores=plan.member_cores, log=log)
    cleanup.callback(lambda: cloud.stop(grace_s=STOP_GRACE_S))
    cloud.await_ready(lambda: find_access(port) is not None, limit_s=READY_LIMIT_S)
    access = find_access(port)
    if access is None:
        raise ProgramDied(f"exotide cloud was ready and is gone; {last_lines(log)}")
    cleanup.callback(keep_logs, access.folder, folder)
    screen.say(f"  its servers: {access.servers}")
    for limit in access.limits:
        screen.say(f"  limit: {limit}")
    screen.say(f"creating the stack on it; the servers' logs: {access.folder}")
    return cloud, access


def _await_stack(settings: StackSettings, stack: Stack, screen: Screen) -> None:
    wait_healthy(settings, stack, patience=PATIENCE)
    screen.say(f"  all backends are healthy behind {stack.url}")
    wait_prometheus(settings, stack, patience=PATIENCE)
    screen.say(f"  Prometheus sees every member, on {stack.prometheus_url}")


def settings_for(access: Access, plan: Plan) -> StackSettings:
    """The assignment's stack on a local cloud, at the plan's speed."""
    return StackSettings(
        key=access.key,
        secret=access.secret,
        endpoint=access.endpoint,
        agent_endpoint=access.agent_endpoint,
        http_port=access.http_port,
        speed=plan.speed,
        max_size=MAX_SIZE,
    )


def keep_logs(servers: Path, folder: Path) -> None:
    """Copy the servers' logs before the cloud removes them, one folder per server."""
    for log in servers.glob("**/log/*.log"):
        kept = folder / log.parent.parent.name / log.name
        with suppress(OSError):  # a log that vanishes is no reason to fail
            kept.parent.mkdir(exist_ok=True)
            shutil.copyfile(log, kept)


def _watch(client: httpx2.Client, settings: StackSettings, stack: Stack) -> Watches:
    return Watches(
        size=Watch("pool size", pool_size(connect(settings), stack)),
        healthy=Watch("healthy backends", healthy_backends(connect(settings), stack)),
        cpu=Watch("average CPU", average_cpu(client, stack)),
        decisions=Watch("decisions", Decisions(client, stack)),
    )


def _drive(scene: Scene, plan: Plan, screen: Screen) -> Run:
    """The load from its first request to the last, one round per second."""
    _sleep_to_mid_second()
    started_at, started_s = time.time(), time.monotonic()
    recorder, stage = Recorder(scene.watches, started_at=started_at), Stage()
    failure: str | None = None
    scene.generator.news()
    while not stage.ended:
        now_s = time.monotonic() - started_s
        stage = advance(stage, recorder.samples, plan, now_s=now_s)
        scene.generator.offer(rate_rps(stage, plan, now_s=now_s))
        recorder.record(stage, scene.generator.news(), now_s=now_s)
        screen.show(_view(scene, plan, recorder, stage, now_s))
        try:
            scene.cloud.check()
            scene.generator.program.check()
        except ProgramDied as error:
            failure = str(error)
            break
        _sleep_to_mid_second()
    screen.close()
    return _run(scene, plan, recorder, started_at=started_at, failure=failure)


def _sleep_to_mid_second() -> None:
    """The generator reports when a second ends; half a second later its report is there."""
    time.sleep(1.0 - (time.time() - 0.5) % 1.0)


def _view(scene: Scene, plan: Plan, recorder: Recorder, stage: Stage, now_s: float) -> View:
    return View(
        now_s=now_s,
        stage=stage,
        plan=plan,
        samples=recorder.samples,
        decisions=recorder.decisions(),
        troubles=recorder.troubles(),
        logs=scene.logs,
    )


def _run(
    scene: Scene, plan: Plan, recorder: Recorder, *, started_at: float, failure: str | None
) -> Run:
    settings = scene.settings
    return Run(
        started_at=started_at,
        wall_s=time.time() - started_at,
        speed=plan.speed,
        member_rps=plan.member_rps,
        member_type=settings.member_type,
        monitoring_type=settings.monitoring_type,
        disk_gib=settings.disk_gib,
        goals=plan.goals,
        samples=tuple(recorder.samples),
        decisions=tuple(recorder.decisions()),
        settings=described(plan, settings, servers=scene.servers),
        failure=failure,
    )


def described(plan: Plan, settings: StackSettings, *, servers: str) -> dict[str, str]:
    """The settings that a reader needs to repeat the run; no secret is among them."""
    speed = settings.speed
    return {
        "pace": f"{speed:g} times the assignment's",
        "autoscaler": f"one change per {settings.interval_s / speed:g} s, "
        f"size {settings.min_size} to {settings.max_size}",
        "alerts": f"average over {plan.interval_s:g} s above 80 % or below 20 %, "
        f"for {plan.interval_s:g} s, repeated after {5 * plan.interval_s:g} s",
        "service discovery": f"every {settings.refresh_s / speed:.2g} s",
        "member": f"{settings.member_type}, here {plan.member_cores:g} core",
        "request": f"GET /work?cpu_s={plan.cpu_s:g}: "
        f"a member can answer {plan.member_rps:g} per second",
        "load": f"Poisson arrivals that wait for no answer: {plan.calm_load * plan.member_rps:g} "
        f"to {plan.peak_load * plan.member_rps:g} per second in {plan.ramp_s:g} s",
        "goals": f"size {plan.goals.size}, CPU below {plan.goals.cpu_ratio * 100:g} % and p95 "
        f"within {plan.goals.p95_s:g} s for {plan.goals.hold_s:g} s under load, then size 1",
        "cloud": "exotide cloud on one machine: real processes, HAProxy, Prometheus, Alertmanager",
        "servers": servers,
    }
