import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from disks import make_read_only, small_disk

from unet_jax.errors import BusyError, InputError, StorageError
from unet_jax.runtime.lock import LOCK, hold

PROJECT = Path(__file__).parents[2]
# Holds a folder with a worker process as grain starts them, says so, and waits.
HOLDER = """
import multiprocessing, sys, time
from pathlib import Path
from unet_jax.runtime.lock import hold

if __name__ == "__main__":
    with hold(Path(sys.argv[1])):
        worker = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,), daemon=True)
        worker.start()
        print(worker.pid, flush=True)
        time.sleep(600)
"""


def test_a_second_process_is_told_who_holds_the_folder_and_a_killed_ones_is_taken_over(tmp_path):
    folder = tmp_path / "run"
    script = tmp_path / "holder.py"
    script.write_text(HOLDER)
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    holder = subprocess.Popen([sys.executable, script, folder], env=environment, stdout=subprocess.PIPE, text=True)
    worker = int(holder.stdout.readline())
    with pytest.raises(BusyError, match=f"{folder} is in use by process {holder.pid} on .*: wait .* another --workdir"):
        hold(folder).__enter__()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    try:
        os.kill(worker, 0)  # it lives on, and does not keep the folder
        assert (folder / LOCK).exists()
        with hold(folder):
            assert (folder / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    finally:
        os.kill(worker, signal.SIGKILL)


def test_whoever_waits_comes_next(tmp_path):
    order = []

    def follow():
        with hold(tmp_path, wait=True):
            order.append("second")

    with hold(tmp_path):
        second = threading.Thread(target=follow)
        second.start()
        second.join(0.3)
        assert second.is_alive()
        order.append("first")
    second.join()
    assert order == ["first", "second"]
    assert not (tmp_path / LOCK).exists()


def test_one_at_a_time_however_many_come_and_go(tmp_path):
    """The file is removed at each release: whoever waits at a removed one must not think that it holds the folder."""
    folder, inside, entered = tmp_path / "run", tmp_path / "inside", []
    end = time.monotonic() + 1.0

    def come_and_go():
        while time.monotonic() < end:
            try:
                with hold(folder):
                    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                    entered.append(1)
                    os.unlink(inside)
            except BusyError:
                pass
            except BaseException as error:
                entered.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(map(str, entered)) == {"1"}
    assert len(entered) > 20


def test_what_it_made_and_what_stayed_empty_is_taken_away_again(tmp_path):
    with hold(tmp_path / "runs" / "new"):
        assert [path.name for path in (tmp_path / "runs" / "new").iterdir()] == [LOCK]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with hold(tmp_path / "mine"):
        pass
    assert list((tmp_path / "mine").iterdir()) == []
    with hold(tmp_path / "runs" / "new"):
        (tmp_path / "runs" / "new" / "config.json").write_text("{}")
    assert [path.name for path in (tmp_path / "runs" / "new").iterdir()] == ["config.json"]


def test_what_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match=f"{folder} is no folder"):
            hold(folder).__enter__()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_planted_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="cannot be locked"):
        hold(tmp_path / "run").__enter__()
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_a_read_only_disk_is_named(tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        make_read_only(disk)
        with pytest.raises(StorageError, match=f"{disk}.*: Read-only file system"):
            hold(disk / "run").__enter__()
