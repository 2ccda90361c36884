"""The state folder: private, one cloud's, and never overwritten when something is wrong."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from exotide.cloud.errors import StateDamaged, StateInUse, StateTooNew, StateUnusable
from exotide.cloud.state.identity import Identity, load, save
from exotide.cloud.state.store import FILE, VERSION, Changes, Store

WHO = Identity(
    cloud_id="abc123",
    driver="none",
    port=8480,
    key="EXOkey",
    secret="hush",
    zone="at-vie-1",
    run_dir="/run/exotide",
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_rows_come_back_in_the_order_in_which_they_were_first_written(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.write(Changes(put={("pool", "b"): b"1", ("pool", "a"): b"2"}))
        store.write(Changes(put={("pool", "c"): b"3", ("pool", "b"): b"4"}))
        store.write(Changes(gone=[("pool", "a"), ("pool", "unknown")]))
    with Store(tmp_path / "s") as store:
        assert store.read() == [("pool", "b", b"4"), ("pool", "c", b"3")]


def test_only_the_owner_may_read_what_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    with Store(folder) as store:
        save(store, WHO)
        assert mode(folder) == 0o700
        assert {entry.name: mode(entry) for entry in folder.iterdir()} == dict.fromkeys(
            (FILE, f"{FILE}-wal", f"{FILE}-shm", "lock"), 0o600
        )
    assert "hush" not in repr(WHO)


def test_a_cloud_is_recognised(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        assert load(store) is None
        save(store, WHO)
    with Store(tmp_path) as store:
        assert load(store) == WHO
        store.destroy()
    assert not tmp_path.exists()


def test_one_folder_serves_one_cloud(tmp_path: Path) -> None:
    with Store(tmp_path), pytest.raises(StateInUse, match="in use by a running cloud"):
        Store(tmp_path)
    Store(tmp_path).close()


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(StateUnusable, match=r"holds other files \(thesis.txt, ...\)"):
        Store(tmp_path)
    assert mode(tmp_path) == 0o755
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def refused_unchanged(folder: Path, kind: type[StateUnusable], match: str) -> None:
    before = (folder / FILE).read_bytes()
    with pytest.raises(kind, match=match):
        Store(folder)
    assert (folder / FILE).read_bytes() == before


def test_a_damaged_file_is_named_and_not_changed(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.write(Changes(put={("pool", str(n)): b"x" * 1000 for n in range(100)}))
    file = tmp_path / FILE
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + os.urandom(8192) + whole[12288:])
    refused_unchanged(tmp_path, StateDamaged, f"{file} is damaged: .* put a copy of it back")
    file.write_bytes(b"no database at all" * 100)
    refused_unchanged(tmp_path, StateDamaged, "file is not a database")


def test_another_programs_or_a_newer_file_is_not_touched(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("CREATE TABLE bookmarks (url)")
    connection.execute("PRAGMA user_version = 3")
    connection.close()
    refused_unchanged(tmp_path, StateDamaged, "another program's database")
    (tmp_path / FILE).unlink()
    with Store(tmp_path):
        pass
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    refused_unchanged(tmp_path, StateTooNew, f"format {VERSION + 1}, written by a newer version")


WRITER = """
import sys
from pathlib import Path
from exotide.cloud.state.store import Changes, Store
store = Store(Path(sys.argv[1]))
for n in range(10**9):
    store.write(Changes(put={("pool", str(n)): b"x" * 100}))
    print(n, flush=True)
"""


def test_what_was_written_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    for answers in (1, 40):
        folder = tmp_path / str(answers)
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(answers):
                writer.stdout.readline()
            writer.kill()
            said = [*range(answers), *map(int, writer.stdout.read().splitlines())]
        with Store(folder) as store:
            kept = {int(key) for _, key, _ in store.read()}
        assert kept >= set(said)
        assert len(kept) <= len(said) + 1


def test_a_folder_that_cannot_be_made_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnusable, match="choose another with --state"):
        Store(tmp_path / "file" / "s")
