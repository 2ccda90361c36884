from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from exotide_autoscaler.clock import SystemClock
from exotide_autoscaler.domain import Decision, Instant, Intent, Policy, Reason
from exotide_autoscaler.errors import JournalError, SettingsError
from exotide_autoscaler.journal import Journal
from exotide_autoscaler.journalfile import open_journal
from exotide_autoscaler.webhook import Message, Outcome
from exotide_autoscaler.writer import Writer

from .worlds import HandClock, memory_journal

NOW = Instant(wall_s=1_800_000_000.0, monotonic_s=5000.0, boot="boot")
POLICY = Policy()
UP = Message(intent=Intent.UP)


def opened(chosen: Path | None, default: Path | None = None) -> tuple[sqlite3.Connection, Path]:
    return open_journal(chosen, default or Path("/nowhere"), now=NOW)


def test_what_was_stored_is_there_after_opening_again(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "journal.sqlite"
    connection, used = opened(file)
    with closing(connection):
        assert used == file
        assert Journal(connection).store(UP, now=NOW, policy=POLICY) is Outcome.ACCEPTED
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
        assert Journal(connection).ages(NOW).attempted_s == 0


def test_a_journal_with_a_damaged_page_is_kept_aside(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    connection, _ = opened(file)
    with closing(connection):
        for _ in range(300):
            Journal(connection).store(Message(intent=Intent.UP), now=NOW, policy=POLICY)
    content = bytearray(file.read_bytes())
    content[4096 * 4 : 4096 * 12] = b"\x55" * (4096 * 8)
    file.write_bytes(content)
    connection, _ = opened(file)
    with closing(connection):
        assert list(tmp_path.glob("journal.sqlite.corrupt-*"))
        assert Journal(connection).owed(NOW) == ()


def test_a_journal_of_another_version_is_kept_aside(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA user_version = 99")
        other.commit()
    connection, _ = opened(file)
    connection.close()
    assert list(tmp_path.glob("journal.sqlite.corrupt-*"))


def test_of_two_programs_the_second_writes_beside(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    first, _ = opened(file)
    second, used = opened(file)
    with closing(first), closing(second):
        assert used == tmp_path / "journal-2.sqlite"
        assert Journal(second).ages(NOW).attempted_s == 0
        assert Journal(first).ages(NOW).attempted_s is None


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
    connection.close()
    assert used == tmp_path / f"temporary/exotide-autoscaler-{os.getuid()}/journal.sqlite"


def test_old_records_are_pruned_and_owed_intents_are_not() -> None:
    with closing(memory_journal()) as connection:
        journal, clock = Journal(connection), HandClock()
        journal.store(Message(intent=Intent.DOWN), now=clock.now(), policy=POLICY)
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
            writer.run(lambda journal: journal.store(UP, now=clock.now(), policy=POLICY))
            for _ in range(1000)
        ]
        outcomes = await asyncio.gather(*work)
        writer.close(5)
        assert commits.count("COMMIT") < 20
        return outcomes

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
            await writer.run(lambda journal: journal.store(long, now=NOW, policy=POLICY))
        assert not writer.healthy
        assert await writer.run(lambda journal: journal.owed(NOW)) == ()
        connection.execute("PRAGMA max_page_count = 1000000")
        await writer.run(lambda journal: journal.store(long, now=NOW, policy=POLICY))
        assert writer.healthy
        writer.close(5)

    asyncio.run(fill())
