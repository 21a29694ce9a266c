"""Kill a sweep at random moments, and compare what it leaves with an undisturbed one, byte for byte; time both engines.

    python -m benchmarks.sweep_kills kills --engine local        # 210 cells, 20 SIGKILLs: workers, then the driver
    python -m benchmarks.sweep_kills kills --engine ray
    python -m benchmarks.sweep_kills node                        # a node of a Ray cluster vanishes
    python -m benchmarks.sweep_kills disk                        # a file system of 2 MB fills up (needs to mount one)
    python -m benchmarks.sweep_kills throughput                  # Ray beside local processes, two workers
    python -m benchmarks.sweep_kills memory --cells 1000,10000   # the driver's, on Ray

Linux only: processes are found in /proc. Every part prints lines of a table of docs/sweeps.md.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer

from snn_policy import Actor, convert
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear

application = typer.Typer(add_completion=False)
KILLS, WORKERS = 20, 2
EPISODES, BATCH = 20, 5
TOLERANCES = [0.02, 0.05, 0.1, 0.2]
MARKS = {"local": ("multiprocessing.spawn import spawn_main",), "ray": ("ray::_perform", "ray::IDLE")}
"""Of the command lines of workers; Ray has other processes, without which a machine is gone."""
EngineOption = Annotated[str, typer.Option(help="local or ray")]


def small_actor(folder: Path) -> None:
    """Write a bundle of a small actor for Pendulum, so that cells are quick."""
    rng = np.random.default_rng(0)
    hidden = Linear(rng.normal(size=(16, 3)).astype(np.float32), np.zeros(16, np.float32), RELU)
    last = Linear((rng.normal(size=(1, 16)) / 4).astype(np.float32), np.zeros(1, np.float32))
    actor = Actor((hidden, last), Head.bounded([-2.0], [2.0]), (3,), env_id="Pendulum-v1", name="small")
    convert(actor, rng.normal(size=(200, 3)).astype(np.float32)).save(folder / "small")


def write_file(
    folder: Path, ranges: int, episodes: int, batch: int, tolerances: list[float], steps: int | None = None
) -> Path:
    """Write a sweep of (1 + tolerances) × ranges cells, whose episodes are cut after so many steps."""
    small_actor(folder)
    seeds = [1000 + number * episodes for number in range(ranges)]
    place = folder / "kills.toml"
    options = "{}" if steps is None else f"{{max_episode_steps = {steps}}}"
    place.write_text(
        f"episodes = {episodes}\nbatch = {batch}\nseeds = {seeds}\n"
        f'actors = [{{source = "small", environment = {{id = "Pendulum-v1", options = {options}}}}}]\n'
        f"recording = {{steps = 500}}\nsettings = [{{tolerance = {tolerances}}}]\n"
    )
    return place


def start(file: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """Start a sweep as a user would."""
    command = [sys.executable, "-m", "snn_policy.cli", "sweep", str(file), "--out", str(out), *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Wait for its end; return its exit code, and what it said on stderr."""
    _, said = process.communicate()
    return process.returncode, said.strip()


def descendants(of: int) -> dict[int, str]:
    """Return the processes below one, with their command lines."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    found = {}
    for pid in parents:
        above = pid
        while above in parents and above != of:
            above = parents[above]
        if above == of and pid != of:
            try:
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
    return found


def workers_of(driver: int, engine: str) -> list[int]:
    """Return a sweep's worker processes."""
    return [pid for pid, command in descendants(driver).items() if any(mark in command for mark in MARKS[engine])]


def kept(out: Path) -> dict[tuple[str, int], float]:
    """Return every finished episode on disk: (cell, seed) → return. One that stands there twice is an error."""
    found: dict[tuple[str, int], float] = {}
    cells = {file.stem: json.loads(file.read_bytes()) for file in (out / "cells").glob("*.json")}
    for key, document in cells.items():
        evaluation = document["evaluation"]
        seeds = evaluation["seeds"]
        assert len(set(seeds)) == len(seeds) == document["cell"]["episodes"], f"{key}: episodes twice, or missing"
        found |= {(key, seed): value for seed, value in zip(seeds, evaluation["returns"], strict=True)}
    for file in (out / "batches").glob("*/*.json"):
        key, first = file.parent.name, int(file.stem.partition("-")[0])
        try:
            episodes = json.loads(file.read_bytes())["batch"]["episodes"]
        except FileNotFoundError:  # its cell has just been finished
            continue
        if key not in cells:
            found |= {(key, first + number): value for number, value, _ in episodes}
    return found


def files_of(out: Path) -> dict[str, bytes]:
    """Return all files of a sweep; cells without what they say of time."""
    found = {}
    for file in sorted(file for file in out.rglob("*") if file.is_file()):
        content = file.read_bytes()
        if file.parent.name == "cells":
            document = json.loads(content)
            document.pop("timing")
            content = json.dumps(document).encode()
        found[str(file.relative_to(out))] = content
    return found


def undisturbed(file: Path, out: Path) -> float:
    """Run a sweep with nobody near, and return its seconds."""
    begin = time.perf_counter()
    code, said = finish(start(file, out, "--workers", str(WORKERS)))
    assert code == 0, said
    return time.perf_counter() - begin


def moments(rng: random.Random, mean: float) -> Iterator[float]:
    while True:
        yield min(rng.expovariate(1 / mean), 4 * mean)


@application.command()
def kills(engine: EngineOption = "local", ranges: int = 42, kill: int = KILLS, seed: int = 0) -> None:
    """Kill workers, then the driver, at random moments; compare the end with an undisturbed run."""
    rng = random.Random(seed)
    with TemporaryDirectory() as folder:
        file = write_file(Path(folder), ranges, EPISODES, BATCH, TOLERANCES)
        calm, out = Path(folder) / "calm", Path(folder) / "killed"
        seconds = undisturbed(file, calm)
        waits, on_workers, on_driver, before = moments(rng, seconds / (2 * kill)), 0, 0, {}
        driver = start(file, out, "--workers", str(WORKERS), "--engine", engine, "--retries", str(kill))
        while on_workers + on_driver < kill:
            have = len(kept(out)) if out.exists() else 0
            while driver.poll() is None and (len(kept(out)) if out.exists() else 0) <= have:
                time.sleep(0.05)  # until it works
            time.sleep(next(waits))
            if driver.poll() is not None:
                code, said = finish(driver)
                if code == 0 or "no Ray cluster" not in said:
                    break
                driver = start(file, out, "--workers", str(WORKERS), "--engine", engine, "--retries", str(kill))
                continue  # Ray gives a busy machine half a minute to start its processes
            if on_workers < kill // 2:
                found = workers_of(driver.pid, engine)
                if found:
                    os.kill(rng.choice(found), signal.SIGKILL)
                    on_workers += 1
                    print(f"killed a worker, {len(kept(out))} episodes kept", file=sys.stderr, flush=True)
                continue
            driver.kill()
            driver.communicate()
            on_driver += 1
            now = kept(out)
            assert all(now.get(episode) == value for episode, value in before.items()), "an episode was lost"
            before = now
            print(f"killed the driver, {len(now)} episodes kept", file=sys.stderr, flush=True)
            driver = start(file, out, "--workers", str(WORKERS), "--engine", engine, "--retries", str(kill))
        if driver.returncode is None:
            code, said = finish(driver)
            assert code == 0, said
        now = kept(out)
        assert all(now[episode] == value for episode, value in before.items()), "an episode was lost"
        equal = files_of(calm) == files_of(out)
        cells = len(list((out / "cells").iterdir()))
        print(f"| {engine} | {cells} | {on_workers} · {on_driver} | {len(now)} of {cells * EPISODES} | {equal} |")
        if not equal:
            raise typer.Exit(1)


@application.command()
def throughput(ranges: int = 200) -> None:
    """Run the same small cells by both engines, and compare cells per second once both are running."""
    with TemporaryDirectory() as folder:
        file = write_file(Path(folder), ranges, 10, 10, TOLERANCES)
        rates = {}
        for engine in ("local", "ray", "local", "ray"):
            out = Path(folder) / f"{engine}-{len(rates.get(engine, []))}"
            code, said = finish(start(file, out, "--workers", str(WORKERS), "--engine", engine))
            assert code == 0, said
            times = sorted(place.stat().st_mtime for place in (out / "cells").iterdir())
            first, last = len(times) // 10, len(times) - 1
            rates.setdefault(engine, []).append((last - first) / (times[last] - times[first]))
            load = os.getloadavg()[0]
            print(f"{engine}: {rates[engine][-1]:.1f} cells/s, load average {load:.1f}", file=sys.stderr, flush=True)
        best = {engine: max(found) for engine, found in rates.items()}
        listed = " · ".join(f"{engine} {rate:.1f} cells/s" for engine, rate in best.items())
        print(f"{listed} · Ray / local {best['ray'] / best['local']:.2f}")


@application.command()
def memory(cells: str = "1000,10000", engine: EngineOption = "ray") -> None:
    """Print the most memory that the driver had, by the number of cells (two episodes each, of ten steps)."""
    for count in (int(number) for number in cells.split(",")):
        with TemporaryDirectory() as folder:
            file = write_file(Path(folder), count // 5, 2, 2, TOLERANCES, steps=10)
            begin = time.perf_counter()
            driver = start(file, Path(folder) / "out", "--workers", str(WORKERS), "--engine", engine)
            most = 0
            while driver.poll() is None:
                most = max(most, resident(driver.pid))
                time.sleep(0.2)
            code, said = finish(driver)
            assert code == 0, said
            seconds = time.perf_counter() - begin
            print(f"| {engine} | {count:,} | {most / 1024:.0f} MB | {seconds:.0f} s |", flush=True)


def resident(pid: int) -> int:
    """Return a process's resident memory in kB, 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


@application.command()
def node(ranges: int = 20) -> None:
    """Take a node away from a Ray cluster of two, in the middle of a sweep."""
    from snn_policy.sweeps.on_ray import SETTINGS

    os.environ.update(SETTINGS)  # before Ray's processes start, or its workers are nicer than the driver
    import ray
    from ray.cluster_utils import Cluster

    from snn_policy.sweeps.plan import read_plan
    from snn_policy.sweeps.sweep import sweep

    with TemporaryDirectory() as folder:
        file = write_file(Path(folder), ranges, EPISODES, BATCH, TOLERANCES)
        calm, out = Path(folder) / "calm", Path(folder) / "node"
        undisturbed(file, calm)
        cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        second = cluster.add_node(num_cpus=1)
        killer = threading.Thread(target=take_away, args=(second, out, ranges), daemon=True)
        killer.start()
        try:
            found = sweep(read_plan(file), out, engine="ray", address=cluster.address)
            killer.join()
            equal = files_of(calm) == files_of(out)
            print(f"a node vanished: {found.computed} cells, {found.lost} batches were run again, equal: {equal}")
        finally:
            ray.shutdown()
            cluster.shutdown()
        if not equal:
            raise typer.Exit(1)


def take_away(node: Any, out: Path, cells: int) -> None:
    """Kill all processes of a Ray node at once, when that many cells are done and one of its workers is at work."""
    raylets = [info.process.pid for infos in node.all_processes.values() for info in infos]
    while True:
        found = {pid: command for raylet in raylets for pid, command in descendants(raylet).items()}
        busy = sum("ray::_perform" in command for command in found.values())
        if busy and len(list((out / "cells").glob("*.json"))) >= cells:
            break
        time.sleep(0.01)
    for pid in (*raylets, *found):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    print(f"killed a node's {len(raylets) + len(found)} processes, {busy} at work", file=sys.stderr, flush=True)


@application.command()
def disk(megabytes: int = 2) -> None:
    """Run a sweep into a file system that fills up, make room, and go on."""
    with TemporaryDirectory() as folder:
        file, small = write_file(Path(folder), 42, 10, 5, TOLERANCES), Path(folder) / "mounted"
        calm = Path(folder) / "calm"
        undisturbed(file, calm)
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(small)], check=True)
        try:
            ballast = small / "ballast"
            ballast.write_bytes(bytes((megabytes * 1024 - 400) * 1024))
            code, said = finish(start(file, small / "out", "--workers", str(WORKERS)))
            print(f"exit code {code}: {said}")
            ballast.unlink()
            code, said = finish(start(file, small / "out", "--workers", str(WORKERS)))
            print(f"with room: exit code {code}, equal: {files_of(calm) == files_of(small / 'out')}")
        finally:
            subprocess.run(["umount", str(small)], check=True)


if __name__ == "__main__":
    application()
