from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from exotide_autoscaler.clock import SystemClock
from exotide_autoscaler.domain import (
    Decision,
    Instant,
    Intent,
    Phase,
    Policy,
    Reason,
    Source,
)
from exotide_autoscaler.errors import JournalError, SettingsError
from exotide_autoscaler.journal import Answer, Journal
from exotide_autoscaler.journalfile import open_journal
from exotide_autoscaler.reception import Stored, store
from exotide_autoscaler.webhook import Message, Outcome
from exotide_autoscaler.writer import Writer

from .worlds import HandClock, memory_journal

NOW = Instant(wall_s=1_800_000_000.0, monotonic_s=5000.0, boot="boot")
POLICY = Policy()
UP = Message(intent=Intent.UP)


POOL_ID = "6e1a1ac6-9d93-43ae-a250-43392d8a90d4"
OTHER_ID = "70e5f8b1-0b2c-4457-a5e0-88bcf1f3db68"
V1 = Path(__file__).parent / "fixtures/journal-v1.sql"


def opened(
    chosen: Path | None, default: Path | None = None, pool_id: str = POOL_ID
) -> tuple[sqlite3.Connection, Path]:
    return open_journal(chosen, default or Path("/nowhere"), pool_id=pool_id, now=NOW)


def doubts(journal: Journal) -> bool:
    return journal.recall(NOW).attempted_at == NOW.monotonic_s


def test_what_was_stored_is_there_after_opening_again(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "journal.sqlite"
    connection, used = opened(file)
    with closing(connection):
        assert used == file
        assert store(Journal(connection), UP, now=NOW, policy=POLICY).outcome is Outcome.ACCEPTED
        assert file.stat().st_mode & 0o777 == 0o600
    connection, _ = opened(file)
    with closing(connection):
        assert [item.intent for item in Journal(connection).owed(NOW)] == [Intent.UP]


@pytest.mark.parametrize("content", [b"this is no database" * 400, b"SQLite format 3\0" * 300])
def test_a_corrupt_journal_is_kept_aside_and_a_new_one_begun(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "journal.sqlite"
    file.write_bytes(content)
    connection, used = opened(file)
    with closing(connection):
        assert used == file
        assert (tmp_path / "journal.sqlite.corrupt-1800000000").read_bytes() == content
        assert doubts(Journal(connection))


def test_a_journal_with_a_damaged_page_is_kept_aside(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    connection, _ = opened(file)
    with closing(connection):
        for _ in range(300):
            store(Journal(connection), Message(intent=Intent.UP), now=NOW, policy=POLICY)
    content = bytearray(file.read_bytes())
    content[4096 * 4 : 4096 * 12] = b"\x55" * (4096 * 8)
    file.write_bytes(content)
    connection, _ = opened(file)
    with closing(connection):
        assert list(tmp_path.glob("journal.sqlite.corrupt-*"))
        assert Journal(connection).owed(NOW) == ()


def test_a_journal_of_the_first_version_is_brought_to_this_one_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    file = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(file)) as earlier:
        earlier.executescript(V1.read_text())
    connection, _ = opened(file)
    with closing(connection):
        journal, later = Journal(connection), replace(NOW, monotonic_s=5300.0)
        down, up = journal.owed(later)
        assert (down.intent, down.asked_from, down.target) == (Intent.DOWN, 2, 1)
        assert down.victims == (POOL_ID,)
        assert (up.intent, up.repeats, up.age_s, up.lasting) == (Intent.UP, 1, 40.0, True)
        assert {down.phase, up.phase} == {Phase.WAITING}
        assert journal.recall(later).changed_at == 5211.0
        assert [item.decision.reason for item in journal.decisions(after=0, limit=9)] == [
            *(Reason.ALERT, Reason.SERVED, Reason.OUTRANKED, Reason.SETTLING)
        ]
        assert len(journal.webhooks(9)) == 6
    assert list(tmp_path.iterdir()) == [file]


def test_a_journal_of_a_later_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA user_version = 99")
        other.commit()
    content = file.read_bytes()
    with pytest.raises(SettingsError, match="later version"):
        opened(file)
    assert file.read_bytes() == content


def test_a_database_of_another_program_is_kept_aside(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE notes (text)")
        other.commit()
    connection, _ = opened(file)
    connection.close()
    assert list(tmp_path.glob("journal.sqlite.corrupt-*"))


def test_a_second_program_does_not_start_and_says_who_holds_the_journal(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SettingsError, match=f"held by process {holder.pid} "):
            opened(file)
        default = tmp_path / "journal.sqlite"
        default.rename(tmp_path / f"journal-{POOL_ID}.sqlite")
        with pytest.raises(JournalError, match="two autoscalers must not scale one pool"):
            opened(None, default)
    finally:
        holder.kill()
        holder.communicate()
    assert not list(tmp_path.glob("journal-2*"))


HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA locking_mode = EXCLUSIVE")
db.execute("PRAGMA journal_mode = WAL")
db.execute("BEGIN IMMEDIATE"); db.execute("PRAGMA user_version = 2"); db.execute("COMMIT")
print("held", flush=True)
sys.stdin.read()
"""


def test_each_pool_has_a_default_journal_of_its_own(tmp_path: Path) -> None:
    default = tmp_path / "journal.sqlite"
    first, used = opened(None, default)
    second, other = opened(None, default, OTHER_ID)
    with closing(first), closing(second):
        assert used.name == f"journal-{POOL_ID}.sqlite"
        assert other.name == f"journal-{OTHER_ID}.sqlite"
        assert Journal(first).recall(NOW).attempted_at is None


def test_a_default_journal_from_before_it_had_the_pools_name_goes_on(tmp_path: Path) -> None:
    default = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(default)) as earlier:
        earlier.executescript(V1.read_text())
    connection, used = opened(None, default)
    with closing(connection):
        assert used == tmp_path / f"journal-{POOL_ID}.sqlite"
        assert len(Journal(connection).owed(NOW)) == 2
    assert not default.exists()


def test_the_journal_of_another_pool_is_kept_aside(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    connection, _ = opened(file)
    with closing(connection):
        store(Journal(connection), UP, now=NOW, policy=POLICY)
    connection, _ = opened(file, pool_id=OTHER_ID)
    with closing(connection):
        assert Journal(connection).owed(NOW) == ()
        assert doubts(Journal(connection))
    aside = tmp_path / f"journal.sqlite.pool-{POOL_ID}"
    with closing(sqlite3.connect(aside)) as kept:
        assert kept.execute("SELECT count(*) FROM requests").fetchone() == (1,)


def test_a_folder_that_cannot_be_written_is_an_error_only_if_somebody_chose_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "temporary").mkdir()
    closed = tmp_path / "file" / "journal.sqlite"
    with pytest.raises(SettingsError, match="EXOTIDE_JOURNAL"):
        opened(closed)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    connection, used = opened(None, closed)
    with closing(connection):
        assert doubts(Journal(connection))
    folder = tmp_path / f"temporary/exotide-autoscaler-{os.getuid()}"
    assert used == folder / f"journal-{POOL_ID}.sqlite"


def test_a_hundred_refusals_do_not_hide_the_last_change() -> None:
    with closing(memory_journal()) as connection:
        journal, clock = Journal(connection), HandClock()
        request = journal.add(Intent.UP, Source.WEBHOOK, now=clock.now())
        for number in range(150):
            now = clock.now()
            attempt = journal.ask(request, size=1, target=2, victims=(), now=now)
            answer = Answer.REFUSED if number else Answer.ACCEPTED
            journal.answer(attempt, request, answer, now=now)
            clock.advance(1)
        memory = journal.recall(clock.now())
        assert (memory.attempted_at, memory.changed_at) == (5149.0, 5000.0)


def test_old_records_are_pruned_and_owed_intents_are_not() -> None:
    with closing(memory_journal()) as connection:
        journal, clock = Journal(connection), HandClock()
        store(journal, Message(intent=Intent.DOWN), now=clock.now(), policy=POLICY)
        for number in range(11_000):
            decision = Decision(size=number, wanted=number, reason=Reason.NO_ALERT)
            journal.record(decision, "calm", now=clock.now())
        (kept,) = connection.execute("SELECT count(*) FROM decisions").fetchone()
        assert 10_000 <= kept < 10_600
        assert [item.intent for item in journal.owed(clock.now())] == [Intent.DOWN]


def test_decisions_are_read_in_pages_and_a_repeated_one_is_kept_once() -> None:
    with closing(memory_journal()) as connection:
        journal = Journal(connection)
        for size in (1, 1, 2, 2, 3):
            decision = Decision(size=size, wanted=size, reason=Reason.NO_ALERT)
            journal.record(decision, "calm", now=NOW)
        found = journal.decisions(after=1, limit=1)
        assert [(item.id, item.decision.size) for item in found] == [(2, 2)]
        assert [item.decision.size for item in journal.latest(2)] == [3, 2]


def test_many_waiting_webhooks_share_commits_and_are_one_intent(tmp_path: Path) -> None:
    async def flood() -> list[Outcome]:
        connection, _ = opened(tmp_path / "journal.sqlite")
        commits: list[str] = []
        connection.set_trace_callback(commits.append)
        writer, clock = Writer(connection), SystemClock()
        work = [
            writer.run(lambda journal: store(journal, UP, now=clock.now(), policy=POLICY))
            for _ in range(1000)
        ]
        stored = await asyncio.gather(*work)
        writer.close(5)
        assert commits.count("COMMIT") < 20
        return [each.outcome for each in stored]

    outcomes = asyncio.run(flood())
    assert outcomes.count(Outcome.ACCEPTED) == 1
    assert outcomes.count(Outcome.REPEATED) == 999


def test_a_full_disk_fails_everything_that_was_not_stored_and_recovers(tmp_path: Path) -> None:
    async def fill() -> None:
        connection, _ = opened(tmp_path / "journal.sqlite")
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        writer = Writer(connection)
        long = Message(intent=Intent.UP, alert="x" * 20_000)
        with pytest.raises(JournalError, match="full"):
            await writer.run(lambda journal: store(journal, long, now=NOW, policy=POLICY))
        assert not writer.healthy
        assert await writer.run(lambda journal: journal.owed(NOW)) == ()
        connection.execute("PRAGMA max_page_count = 1000000")
        await writer.run(lambda journal: store(journal, long, now=NOW, policy=POLICY))
        assert writer.healthy
        writer.close(5)

    asyncio.run(fill())


def test_a_piece_of_work_that_fails_takes_no_other_with_it(tmp_path: Path) -> None:
    async def batch() -> None:
        connection, _ = opened(tmp_path / "journal.sqlite")
        writer = Writer(connection)

        def poison(journal: Journal) -> None:
            journal.add(Intent.DOWN, Source.WEBHOOK, now=NOW)
            raise ZeroDivisionError

        work = [
            writer.run(lambda journal: store(journal, UP, now=NOW, policy=POLICY)),
            writer.run(poison),
            writer.run(lambda journal: store(journal, UP, now=NOW, policy=POLICY)),
        ]
        first, failed, last = await asyncio.gather(*work, return_exceptions=True)
        assert isinstance(failed, ZeroDivisionError)
        assert isinstance(first, Stored)
        assert isinstance(last, Stored)
        assert writer.healthy
        owed = await writer.run(lambda journal: journal.owed(NOW))
        assert [each.intent for each in owed] == [Intent.UP]
        writer.close(5)

    asyncio.run(batch())
