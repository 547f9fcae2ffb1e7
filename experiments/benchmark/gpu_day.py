"""Nine minutes of one GPU: a plan of parts in order of worth, each a process with a limit of seconds.

A crash, or a part that takes too long, ends that part alone; what it has written stays. Parts that are timed
have the device to themselves, the others run side by side. The same command resumes: parts that are done, by
the same source, versions and device, are not run again. `gpu_parts` is what runs in a part's process.
"""

import contextlib
import hashlib
import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath

from experiments import cli, report, splits
from experiments.benchmark import peers, tables

ROOT = Path(__file__).resolve().parents[2]
PROTEIN = "protein-tertiary-structure"
BUDGET, QUICK_BUDGET = 540.0, 900.0
# A process takes about so long to import JAX and find the GPU.
LEAST = 10.0
# Status of a part that ran to its end, in which a contest, an experiment or a test failed.
FAULTS = "done with faults"
_POLL = 0.05
_TAIL = 30


class Part(NamedTuple):
    """Part of the plan.

    Attributes:
      name: Name of its files.
      seconds: Longest time that it may take.
      alone: Whether it has the device to itself, because it is timed.
    """

    name: str
    seconds: float
    alone: bool = True


class Job(NamedTuple):
    """What the process of a part is told.

    Attributes:
      part: Name of the part.
      folder: Folder to write to.
      seconds: Time until the process is killed.
      data_dir: Folder of the data sets, or None.
      quick: Whether to run the small form.
      gpu: Whether the device is a GPU.
      same: The results that a resumed part keeps; see `identity`.
    """

    part: str
    folder: str
    seconds: float
    data_dir: str | None
    quick: bool
    gpu: bool
    same: dict[str, Any]


PLAN = (
    Part("ops", 70),
    Part("attention", 110),
    Part("step", 90),
    Part("samples", 70),
    Part("sweep", 50),
    Part("gathers", 20),
    Part("kernel", 120, alone=False),
    Part("protein", 360, alone=False),
    Part("tests", 360, alone=False),
    Part("experiments", 360, alone=False),
    Part("family", 90),
)


def run(out: epath.Path, budget: float | None, data_dir: epath.Path | None, quick: bool) -> None:
    """Runs the plan and writes OUT/benchmark/gpu-day (benchmark-quick with `quick`): PART.json and table.md.

    Raises:
      BadInputError: If there is no GPU and `quick` is false, or the data are invalid.
      FileNotFoundError: If `data_dir` is given and has no data of the protein set.
    """
    begin = time.monotonic()
    # Before JAX starts: this process must leave the memory to the parts, and JAX to torch.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    device = report.device()
    gpu = device.platform == "gpu"
    if not gpu and not quick:
        raise cli.BadInputError(
            f"the device must be a GPU with --suite gpu-day, except with --quick, got {device.device_kind}."
        )
    left_out = lacking(data_dir, quick)
    folder = out / ("benchmark-quick" if quick else "benchmark") / "gpu-day"
    same = identity(quick)
    where, target = None if data_dir is None else _absolute(data_dir), _absolute(folder)
    # Ends the parts too, where a supervisor ends this process.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))

    def command(part: Part, seconds: float) -> list[str]:
        job = Job(part.name, target, seconds, where, quick, gpu, same)
        return [sys.executable, "-m", "experiments.benchmark.gpu_parts", json.dumps(job._asdict())]

    total = budget or (QUICK_BUDGET if quick else BUDGET)
    # The limits are those of a card's machine; the quick form runs on any.
    plan = tuple(part._replace(seconds=total) for part in PLAN) if quick else PLAN
    day(plan, folder, total, same, command, left_out, begin=begin)


def _absolute(path: epath.Path) -> str:
    return str(path) if cli.in_bucket(path) else os.path.abspath(path)


def lacking(data_dir: epath.Path | None, quick: bool) -> dict[str, str]:
    """Parts that cannot run here, with what they lack."""
    found = {}
    absent = [name for name in ("pytest", "xdist") if importlib.util.find_spec(name) is None]
    if absent:
        found |= dict.fromkeys(("kernel", "tests"), f"{' and '.join(absent)} not installed")
    if quick:
        return found
    if data_dir is None and "JAXDROP_DATA" not in os.environ:
        return found | {"protein": "no --data-dir"}
    try:
        splits.load(PROTEIN, data_dir)
    except FileNotFoundError as error:
        if data_dir is not None:
            raise
        found["protein"] = str(error)
    return found


def identity(quick: bool) -> dict[str, Any]:
    """What must be the same for a result to be kept: source (there may be no Git), versions and device."""
    digest = hashlib.sha256()
    for name in ("jaxdrop", "experiments", "tests"):
        for path in sorted((ROOT / name).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return {
        "source": digest.hexdigest(),
        "versions": report.versions(peers.PACKAGES),
        "device": report.device().device_kind,
        "quick": quick,
    }


def read(folder: epath.Path, name: str, same: dict[str, Any]) -> dict[str, Any] | None:
    """Record of a part, or None if there is none of the same source, versions and device."""
    try:
        record = json.loads((epath.Path(folder) / f"{name}.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return record if record.get("same") == same else None


class _Running(NamedTuple):
    part: Part
    process: subprocess.Popen
    log: Any
    started: float
    limit: float

    def has_exited(self) -> bool:
        """Whether the process has ended by itself; it keeps its number until `stop`."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.process.pid, options) is not None

    def stop(self) -> int:
        """Kills what is left of the process and those that it started; returns its exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()


def _start(part: Part, limit: float, command: list[str]) -> _Running:
    log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    return _Running(part, process, log, time.monotonic(), limit)


def _waves(plan: Iterable[Part]) -> Iterable[list[Part]]:
    for alone, parts in itertools.groupby(plan, key=lambda part: part.alone):
        if alone:
            yield from ([part] for part in parts)
        else:
            yield list(parts)


def day(
    plan: Sequence[Part],
    folder: epath.Path,
    budget: float,
    same: dict[str, Any],
    command: Callable[[Part, float], list[str]],
    left_out: dict[str, str],
    *,
    begin: float | None = None,
    least: float = LEAST,
) -> None:
    """Runs the parts that are not done, within `budget` seconds from `begin`, and says how each ended.

    Args:
      plan: The parts, in order of worth.
      folder: Folder of PART.json, which a part's process writes and this function completes, and of table.md.
      budget: Seconds in all.
      same: Identity of the results; records of another one are replaced.
      command: From a part and its seconds to the command line of its process.
      left_out: Parts that cannot run, with the reason.
      begin: `time.monotonic()` at the start; by default now.
      least: Fewest seconds with which a part is started.
    """
    begin = time.monotonic() if begin is None else begin

    def left() -> float:
        return budget - (time.monotonic() - begin)

    for wave in _waves(plan):
        running = []
        try:
            for part in wave:
                record = read(folder, part.name, same)
                if part.name in left_out:
                    cli.say(f"{part.name}: left out, {left_out[part.name]}.")
                elif record and record.get("status") in ("done", FAULTS):
                    cli.say(f"{part.name}: done before, {left():.0f} s left.")
                elif left() < least:
                    cli.say(f"{part.name}: not started, {max(left(), 0):.0f} s left.")
                else:
                    limit = min(part.seconds, left())
                    running.append(_start(part, limit, command(part, limit)))
            while running:
                ended = [one for one in running if _has_ended(one)]
                for one in ended:
                    running.remove(one)
                    _complete(one, folder, same)
                    write_table(folder, plan, same, left_out)
                    record = read(folder, one.part.name, same) or {}
                    for table in result_tables(record):
                        table.print()
                    for note in _notes(record):
                        cli.say(note)
                    used = f"{record.get('seconds', 0):.0f} s used, {max(left(), 0):.0f} s left"
                    cli.say(f"{one.part.name}: {record.get('status')}, {used}.")
                time.sleep(0 if ended else _POLL)
        finally:
            for one in running:
                one.stop()
    write_table(folder, plan, same, left_out)
    cli.say(f"Written to {folder}/")


def _has_ended(one: _Running) -> bool:
    return one.has_exited() or time.monotonic() - one.started > one.limit


def _complete(one: _Running, folder: epath.Path, same: dict[str, Any]) -> None:
    """Completes the record of a part by how it ended."""
    exited, code = one.has_exited(), one.stop()
    code = code if exited else None
    record = read(folder, one.part.name, same) or {"part": one.part.name, "same": same, "results": []}
    ended = {None: "cut off", 0: "done"}.get(code, "failed")
    if ended == "done" and any(is_faulty(result) for result in record["results"]):
        stopped = any(result.get("exit_code", 0) is None for result in record["results"])
        ended = "cut off" if stopped else FAULTS
    one.log.seek(0)
    lines = one.log.read().decode(errors="replace").splitlines()
    one.log.close()
    seconds = time.monotonic() - one.started
    about = {"status": ended, "exit_code": code, "seconds": seconds, "log": lines[-_TAIL:]}
    report.write_json(folder / f"{one.part.name}.json", record | about)


def is_faulty(result: dict[str, Any]) -> bool:
    """Whether a contest or a command failed."""
    return "error" in result or result.get("exit_code", 0) != 0


def result_tables(record: dict[str, Any]) -> list[report.Table]:
    """Tables of a part: one per contest, one for all commands."""
    results = record.get("results", [])
    found = [tables.table(result) for result in results if "rows" in result]
    body = []
    for result in (result for result in results if "exit_code" in result):
        code = result["exit_code"]
        end = {None: "cut off", 0: "passed"}.get(code, f"exit code {code}")
        counts = ", ".join(f"{count} {word}" for word, count in result.get("counts", {}).items())
        body.append([result["title"], f"{result['seconds']:.0f}", end, counts])
    if body:
        found.append(report.Table(record["part"], ["command", "s", "end", "tests"], body))
    return found


def _notes(record: dict[str, Any]) -> list[str]:
    """What was left out of a part, what failed, and the last words of a part that ended early."""
    missing = ", ".join(record.get("missing", []))
    notes = [f"Not installed and left out: {missing}."] if missing else []
    for result in record.get("results", []):
        absent = result.get("left_out", {}).items()
        notes += [f"{result['title']}: {name} is left out: {why}" for name, why in absent]
        notes += [f"{result['title']}: {result['error']}"] if "error" in result else []
        notes += result.get("failures", [])
    return notes + (record["log"][-3:] if record.get("status") == "failed" else [])


def write_table(
    folder: epath.Path, plan: Sequence[Part], same: dict[str, Any], left_out: dict[str, str]
) -> None:
    """Writes table.md of all parts: what is done, what was left out and why, and what failed."""
    versions = ", ".join(f"{name} {version}" for name, version in same.get("versions", {}).items())
    text = [f"# GPU day\n\n{same.get('device')}; {versions}.\n"]
    for part in plan:
        record = read(folder, part.name, same)
        if record is None or "status" not in record:
            text.append(f"## {part.name}: {left_out.get(part.name, 'not run')}\n")
            continue
        text.append(f"## {part.name}: {record['status']}, {record['seconds']:.0f} s\n")
        text += [f"**{table.title}**\n\n{table.markdown()}" for table in result_tables(record)]
        notes = [f"- {note}" for note in _notes(record)]
        if notes:
            text.append("\n".join(notes) + "\n")
    report.write_text(folder / "table.md", "\n".join(text))
