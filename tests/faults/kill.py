"""Kills runs at random moments, takes them up again, and compares what they leave with a run that nobody killed.

    python tests/faults/kill.py --kills=200 --folder=kills

Prints a table of the kills by where they struck, and every difference there is. A kill costs about a second of one
core. A run is killed a few times on its way to its end; then its last parameters, optimiser state, history and metrics
must be those of the undisturbed run to the bit, the figures of the clock aside.

The runs are made by a server, this same file: a process that has imported everything, has not started jax yet, and
forks for each run, so that a start costs a fraction of a second. It keeps to one core. What strikes a run is
put into the forked process; the program has no hooks for it.
"""

import argparse
import collections
import contextlib
import ctypes
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
# What the clock decides, in the history and in metrics.json.
CLOCK = ("images_per_second", "seconds", "seconds_per_case")
# The files of a run that are compared, besides the newest checkpoint's arrays.
METRICS = "evaluation/test/metrics.json"


class Server:
    """Runs trainings in forked processes, one at a time, on one core."""

    def __init__(self, cache: Path):
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "PYTHONPATH": str(PROJECT),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false",
            "PYTHONWARNINGS": "ignore",
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve"], env=environment, text=True, cwd=PROJECT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_) -> None:
        self._process.stdin.close()
        self._process.wait()

    def train(self, workdir: Path, settings: dict, fault: dict | None = None) -> dict:
        """Trains until it ends or is struck.

        Returns:
            code: the exit code; -9 is a kill.
            output: what it printed.
            struck: where it was struck.
            left: its processes that outlive it by ten seconds, and what it leaves in shared memory.
        """
        request = {"workdir": str(workdir), "settings": settings, "fault": fault or {}}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def serve() -> None:
    """Forks for each request that comes in as a line of JSON, and answers with one."""
    import matplotlib.pyplot  # noqa: F401
    import tensorboardX  # noqa: F401
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # for grain's workers
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for line in sys.stdin:
        request = json.loads(line)
        workdir = Path(request["workdir"])
        output, struck = workdir.with_suffix(".output"), workdir.with_suffix(".struck")
        struck.unlink(missing_ok=True)
        shared = _shared_memory()
        child = os.fork()
        if child == 0:
            _train(request, output, struck)
        _, status = os.waitpid(child, 0)
        deadline = time.monotonic() + 10
        while (left := _alive(child)) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in left:
            os.kill(process, signal.SIGKILL)
        answer = {
            "left": [*left, *(_shared_memory() - shared)],
            "code": os.waitstatus_to_exitcode(status),
            "output": output.read_text(),
            "struck": struck.read_text() if struck.exists() else "",
        }
        print(json.dumps(answer), flush=True)


def _shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("psm_*")}


def _alive(group: int) -> list[int]:
    """The processes of a group, apart from those that only wait for their parent to notice their end."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(int(path.parent.name))
    return found


def _train(request: dict, output: Path, struck: Path) -> None:
    """In a forked process: trains, and ends it."""
    os.setsid()
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (0, 1, 2):
        os.dup2(log if stream else os.open(os.devnull, os.O_RDONLY), stream)
    code = 1
    try:
        from configs import default
        from unet_jax.errors import RunError
        from unet_jax.run.resolve import resolve
        from unet_jax.training.train import train

        config = default.get_config()
        config.update_from_flattened_dict(request["settings"])
        config, _ = resolve(config, request["settings"])
        try:
            _install(request["fault"], struck)
            train(config, Path(request["workdir"]))
            code = 0
        except RunError as error:
            print(f"error: {error}", file=sys.stderr)
            code = error.exit_code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _install(fault: dict, struck: Path) -> None:
    """Makes this process kill itself, or meet what else `fault` says.

    at "time", seconds: so long after its start; "step", n: when step n of this process is under way; "slow step", n,
    after: so many seconds after the begin of step n, which takes ten seconds outside of Python; "case", n: when the nth
    case is validated;
    "history", n, after: before or after the nth line of the history;
    "save", n: in the nth save; then event: at that file operation, or match: at the first that contains this text,
    after: at the one after it; or seconds: so long after its start.

    What comes is `signal` (SIGKILL), so many `times` (1), `to` this process ("self"), all its "group" or a "worker".
    """
    if not fault:
        return
    from unet_jax.run import checkpoint, history
    from unet_jax.training import loop, train, validation

    count = collections.Counter()

    def strike(where: str) -> None:
        struck.write_text(where)
        for _ in range(fault.get("times", 1)):
            match fault.get("to", "self"):
                case "self":
                    os.kill(os.getpid(), fault.get("signal", signal.SIGKILL))
                case "group":
                    os.killpg(os.getpid(), fault["signal"])
                case "worker":
                    os.kill(multiprocessing.active_children()[0].pid, fault["signal"])

    def reached() -> bool:
        count["calls"] += 1
        return count["calls"] == fault["n"]

    match fault["at"]:
        case "time":
            threading.Timer(fault["seconds"], strike, ["by the clock"]).start()
        case "step":
            make = train.make_train_step

            def make_train_step(*arguments, **options):
                step = make(*arguments, **options)

                def stepped(*its):
                    result = step(*its)
                    if reached():
                        strike("step")
                    return result

                return stepped

            train.make_train_step = make_train_step
        case "slow step":
            loop.SLOW = 0.0
            check = loop.check_numbers

            def waited(run, step):
                if step.number == fault["n"] and not count["slow"]:
                    count["slow"] += 1
                    for seconds in fault["after"]:
                        threading.Timer(seconds, strike, ["slow step"]).start()
                    end = time.monotonic() + 10
                    while (left := end - time.monotonic()) > 0:
                        ctypes.CDLL(None).poll(None, 0, int(1000 * left))
                check(run, step)

            loop.check_numbers = waited
        case "case":
            segment_cases = validation.segment_cases

            def segmented(*arguments, **options):
                for one in segment_cases(*arguments, **options):
                    if reached():
                        strike("validation")
                    yield one

            validation.segment_cases = segmented
        case "history":
            append = history.append

            def appended(*arguments):
                here = reached()
                if here and not fault["after"]:
                    strike("before a line of the history")
                append(*arguments)
                if here:
                    strike("after a line of the history")

            history.append = appended
        case "save":
            save = checkpoint.save
            events = []

            def heard(event: str, arguments: tuple) -> None:
                if not count["saving"] or event not in EVENTS or (event == "open" and not _writes(arguments)):
                    return
                text = " ".join([event, *(str(one) for one in arguments)])
                # Within a folder that is being deleted, files go by their bare names.
                if "/checkpoints" not in text and not count["deleting"]:
                    return
                count["deleting"] += event == "shutil.rmtree"
                events.append(text)
                matched = fault.get("match", text) in text and fault.get("event", 0) <= len(events)
                if count["matched"] or (matched and not fault.get("after")):
                    count["saving"] = 0
                    strike(_place(events))
                count["matched"] += matched

            def saved(*arguments):
                if not reached():
                    return save(*arguments)
                if "seconds" in fault:
                    timer = threading.Timer(fault["seconds"], strike, ["in a save, by the clock"])
                    timer.start()
                    save(*arguments)
                    timer.cancel()
                    return None
                count["saving"] = 1
                save(*arguments)
                count["saving"] = 0
                return None

            sys.addaudithook(heard)
            checkpoint.save = saved


EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")


def _writes(arguments: tuple) -> bool:
    _, mode, flags = arguments
    return any(letter in (mode or "") for letter in "wax+") or bool(flags & (os.O_WRONLY | os.O_RDWR))


def _place(events: list[str]) -> str:
    """Where in a save the last of these file operations stands, which the kill comes before."""
    text = " ".join(events)
    if "deleting-" in text:
        return "in a save, while a checkpoint is deleted"
    if "manifest.json" not in text:
        return "in a save, while data are written"
    if "os.rename" in events[-1]:
        return "in a save, after the manifest and before the commit"
    return "in a save, at the manifest"


def left_by(workdir: Path) -> dict:
    """What a finished run leaves, but for the clock: its history, events, metrics and hashes of all arrays."""
    import event_files
    import orbax.checkpoint as ocp
    from jax.tree_util import keystr, tree_leaves_with_path

    from unet_jax.run import history

    arrays = {}
    for path in sorted((workdir / "checkpoints").glob("*/*")):
        if path.is_dir():
            for name, leaf in tree_leaves_with_path(ocp.PyTreeCheckpointer().restore(path.absolute())):
                where = f"{path.parent.name}/{path.name}{keystr(name)}"
                arrays[where] = hashlib.sha256(f"{leaf.dtype}{leaf.shape}".encode() + leaf.tobytes()).hexdigest()
    records = history.read(workdir)
    without_clock = [{key: value for key, value in one.items() if key not in CLOCK} for one in records]
    metrics = json.loads((workdir / METRICS).read_text())
    return {
        "checkpoints": arrays,
        "history": without_clock,
        "events": [
            (step, tag, value)
            for step, tag, value in event_files.values(workdir / "tensorboard")
            # The config may differ in what changes nothing.
            if tag.rpartition("/")[2] not in (*CLOCK, "text_summary")
        ],
        "metrics": {key: value for key, value in metrics.items() if key not in CLOCK},
    }


def random_fault(draw: random.Random) -> dict:
    """A kill at any moment of a run, half of them within a save."""
    match draw.randrange(8):
        case 0:
            return {"at": "step", "n": draw.randint(1, 12)}
        case 1:
            return {"at": "case", "n": draw.randint(1, 3)}
        case 2:
            return {"at": "history", "n": draw.randint(1, 12), "after": draw.random() < 0.5}
        case 3:
            return {"at": "time", "seconds": draw.uniform(0.5, 4)}
        case 4:
            return {"at": "save", "n": draw.randint(1, 5), "seconds": draw.uniform(0, 0.1)}
        case _:
            return {"at": "save", "n": draw.randint(1, 5), "event": draw.randint(1, 45)}


def main() -> int:
    """Kills, compares and prints; the exit code tells whether all was the same."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--folder", type=Path, default=Path("runs/kills"), help="made, and emptied first")
    options.add_argument("--workers", type=int, default=0, help="config.data.workers")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--per-run", type=int, default=10, help="kills after which a run may end")
    chosen = options.parse_args()
    folder = chosen.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    settings = tiny_settings(folder) | {"data.workers": chosen.workers}
    draw, places, differing, killed, runs = random.Random(chosen.seed), collections.Counter(), [], 0, 0
    with Server(folder / "compiled") as server:
        reference = folder / "reference"
        assert server.train(reference, settings)["code"] == 0
        expected = left_by(reference)
        while killed < chosen.kills:
            runs += 1
            workdir = folder / f"run{runs}"
            wanted = min(chosen.per_run, chosen.kills - killed)
            for _ in range(10 * wanted):
                answer = server.train(workdir, settings, random_fault(draw) if wanted else None)
                if answer["code"] != -signal.SIGKILL:
                    break
                killed, wanted = killed + 1, wanted - 1
                places[answer["struck"]] += 1
            found = left_by(workdir) if answer["code"] == 0 else {"failed": answer["output"]}
            if found != expected:
                differing.append((workdir, answer["output"]))
            else:
                shutil.rmtree(workdir)
            print(f"run {runs}: {killed} kills, {len(differing)} runs differ", flush=True)
    for place, count in places.most_common():
        print(f"{count:5}  {place}")
    print(f"{killed:5}  kills in {runs} runs; {len(differing)} runs differ from the one that nobody killed")
    for workdir, output in differing:
        print(f"{workdir}:\n{output}")
    return bool(differing)


def tiny_settings(folder: Path) -> dict:
    """Overrides of the default config for a run of 18 steps; its data are written to `folder`."""
    from unet_jax.data import phantom

    made = {"seed": 3, "patients": 8, "size": 32, "slices": (4, 6)}
    phantom.write(folder / "kaggle_3m", **made)
    return {
        "data.source": "phantom",
        "data.cache": str(folder / "cache"),
        "phantom.root": str(folder / "kaggle_3m"),
        **{f"phantom.{key}": value for key, value in made.items()},
        "data.image_size": 16,
        "data.tumour_share": 0.25,
        "model.width": 2,
        "model.depth": 2,
        "model.norm": "batch",
        "optim.learning_rate": 0.03,
        "optim.ema_decay": 0.8,
        "data.neighbours": 1,
        "train.batch_size": 4,
        "train.epochs": 3,
        "train.patience": 0,
        "train.checkpoint_every_steps": 2,
        "train.log_every_steps": 1,
    }


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve()
    else:
        sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]
        sys.exit(main())
