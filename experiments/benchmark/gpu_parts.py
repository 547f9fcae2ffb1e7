"""Process of one part of gpu-day: its contests or commands, each written when it is done.

`python -m experiments.benchmark.gpu_parts JOB`, where JOB is a `gpu_day.Job` in JSON.
"""

import contextlib
import dataclasses
import gc
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import chain
from typing import Any

from etils import epath

from experiments import catalog, cli, report, timing
from experiments.benchmark import attention, cards, family, gpu_day, models, ops, peers, sweeps, tables
from experiments.benchmark.gpu_day import Job

Results = Iterator[dict[str, Any]]
ROUNDS, SECONDS = 7, 0.04
# A command is stopped so long before its process would be killed, to write what it printed.
RESERVE = 3.0
# Experiments without `--quick`, or with a part for themselves.
NO_QUICK = ("benchmark", "quality", "uci")
# Lines of pytest-xdist, and of a file that cannot be imported.
TEST = re.compile(r"^\[gw\d+\] \[ *\d+%\] ([A-Z]+) (.+?) *$|^(ERROR) (\S+)", re.MULTILINE)
_LINES = 30


def chosen(contests: Iterable[Any], words: tuple[str, ...], quick: bool) -> list[timing.Contest]:
    """Contests whose titles end with the words, in the order of the words; with `quick` the first contest."""
    found: dict[str, timing.Contest] = {}
    for contest in contests:
        if quick:
            return [contest]
        if isinstance(contest, timing.Contest):
            found |= {word: contest for word in words if contest.title.endswith(word)}
        if len(found) == len(words):  # what follows need not be made
            break
    return [found[word] for word in words if word in found]


OPS = (
    "16384x16384 float32 rate 0.1",
    "16384x16384 bfloat16 rate 0.1",
    "64x12x197x197 float32 rate 0.1",
    "4096x4096 float32 rate 0.1",
    "128x1024 float32 rate 0.1",
    "2048x2048 float32 rate 0.5",
    "key from vmap over 16",
)
ATTENTION = (
    "2x4096x16x64 bfloat16 rate 0.1",
    "2x8192x16x64 bfloat16 rate 0.1",
    "1x4096x8x64 float32 rate 0.1",
    "1x1024x8x64 float32 rate 0.1",
)
CONTESTS: dict[str, Callable[[peers.Setting], Iterable[timing.Contest]]] = {
    "ops": lambda setting: chosen(ops.ops(setting), OPS, setting.quick),
    "attention": lambda setting: chosen(attention.attention(setting, fused=True), ATTENTION, setting.quick),
    "step": lambda setting: chain(cards.transformer(setting), () if setting.quick else models.step(setting)),
    "samples": lambda setting: chain(
        cards.samples(setting),
        () if setting.quick else chosen(models.samples(setting), ("next to nothing",), quick=False),
    ),
    "sweep": sweeps.sweeps,
    "gathers": cards.gathers,
    "family": lambda setting: [next(family.family(setting))] if setting.quick else family.family(setting),
}


def contests(job: Job, done: set[str], missing: list[str]) -> Results:
    """Results of the contests that are not done; programs that fail are left out by name."""
    setting, absent = peers.load(job.quick)
    missing += absent
    # The seconds to compile are figures of the sweep, so nothing else may compile.
    threads = None if job.part == "sweep" else len(os.sched_getaffinity(0))
    for contest in CONTESTS[job.part](setting):
        if contest.title not in done:
            yield measured(contest, threads, *((2, 0.0) if job.quick else (ROUNDS, SECONDS)))
            gc.collect()


def measured(contest: timing.Contest, threads: int | None, rounds: int, seconds: float) -> dict[str, Any]:
    """Result of a contest, or its error; all programs are compiled before the first is timed."""
    try:
        with timing.in_threads(threads) if threads else contextlib.nullcontext():
            programs, left_out = sound(contest.build())
        if contest.floor in left_out:
            return {"title": contest.title, "error": f"{contest.floor} failed: {left_out[contest.floor]}"}
        result = tables.measure(dataclasses.replace(contest, build=lambda: programs), rounds, seconds)
    except Exception as error:
        return {"title": contest.title, "error": line(error)}
    return result | {"left_out": left_out}


def sound(programs: timing.Programs) -> tuple[timing.Programs, dict[str, str]]:
    """Programs of the contenders that compile and run in every form, and the errors of the others."""
    left_out: dict[str, str] = {}
    for program in programs.values():
        if program.pending is not None:
            program.pending.exception()
    for (name, form), program in programs.items():
        if name in left_out:
            continue
        try:
            program.ready()
            program.wait(program.call())
        except Exception as error:
            left_out[name] = f"{form}: {line(error)}"
    return {key: program for key, program in programs.items() if key[0] not in left_out}, left_out


def line(error: BaseException) -> str:
    """Type and first line of an error."""
    text = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {text[:300]}"


def command(job: Job, arguments: list[str], stop: float, title: str) -> dict[str, Any]:
    """Result of `python ARGUMENTS`: seconds, exit code (None if stopped at `stop`), tests and last lines."""
    start = time.monotonic()
    # Several processes share the device; tests need the CPU beside it.
    env = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    env |= {"JAX_PLATFORMS": "cuda,cpu"} if job.gpu and "pytest" in arguments else {}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=gpu_day.ROOT, env=env, stdout=log, stderr=log
        )
        try:
            code = process.wait(timeout=max(stop - start, 0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
        seconds = time.monotonic() - start
        log.seek(0)
        text = log.read().decode(errors="replace")
    result = {
        "title": title,
        "seconds": seconds,
        "exit_code": code,
        "log": text.splitlines()[-_LINES:],
    }
    return result | (tests(text) if "pytest" in arguments else {})


def tests(text: str) -> dict[str, Any]:
    """Counts and failures of pytest's verbose output, also of a run that was stopped."""
    found = {test or file: word or error for word, test, error, file in TEST.findall(text)}
    counts = Counter(word.lower() for word in found.values())
    failures = [f"{word} {test}" for test, word in found.items() if word in ("FAILED", "ERROR")]
    return {"counts": dict(counts), "failures": failures}


def _pytest(job: Job, stop: float, target: list[str], workers: int) -> dict[str, Any]:
    # `-q` is among the project's own options, so that two make one `-v`.
    options = ["-vv", "-rfE", "--tb=short", "-p", "no:cacheprovider", "-m", "device", "-n", str(workers)]
    title = f"python -m pytest {shlex.join(target)} -m device"
    return command(job, ["-m", "pytest", *target, "--continue-on-collection-errors", *options], stop, title)


def _commands(job: Job, done: set[str], missing: list[str]) -> Results:
    """Results of a part's commands. They share the cores: most for the tests, a quarter for experiments."""
    stop = time.monotonic() + job.seconds - RESERVE
    cores = len(os.sched_getaffinity(0))
    runs = ["--out", str(epath.Path(job.folder) / "runs")]
    data = [] if job.data_dir is None else ["--data-dir", job.data_dir]
    if job.part == "protein":
        what = ["--quick"] if job.quick else ["--dataset", gpu_day.PROTEIN, *data]
        title = shlex.join(["python", "-m", "experiments.uci", *what])
        yield command(job, ["-m", "experiments.uci", *what, *runs], stop, title)
    elif job.part == "kernel":
        target = ["tests/drops/test_attention_triton.py", *(["-k", "refused"] if job.quick else [])]
        yield _pytest(job, stop, target, max(1, cores // 8))
    elif job.part == "tests":
        target = ["tests/test_carries.py", "-k", "left_alone"] if job.quick else ["tests"]
        yield _pytest(job, stop, target, max(1, cores * 5 // 8))
    else:
        names = [entry.name for entry in catalog.entries() if entry.name not in NO_QUICK]
        with ThreadPoolExecutor(max(1, cores // 4)) as pool:
            waiting = []
            for name in names[:1] if job.quick else names:
                arguments = ["-m", f"experiments.{name}", "--quick", *runs]
                title = f"python -m experiments.{name} --quick"
                if title not in done:
                    waiting.append(pool.submit(command, job, arguments, stop, title))
            for future in as_completed(waiting):
                yield future.result()


def main(job: Job) -> None:
    """Runs a part, and writes its record after each result; a resumed run keeps those without fault."""
    folder = epath.Path(job.folder)
    record = gpu_day.read(folder, job.part, job.same) or {}
    kept = [result for result in record.get("results", []) if not gpu_day.is_faulty(result)]
    results, missing = {result["title"]: result for result in kept}, []
    done = set(results)
    environment = report.environment(peers.PACKAGES)
    for result in (contests if job.part in CONTESTS else _commands)(job, done, missing):
        results[result["title"]] = result
        record = {"part": job.part, "same": job.same, "environment": environment}
        report.write_json(
            folder / f"{job.part}.json", record | {"missing": missing, "results": list(results.values())}
        )
        cli.say(f"{result['title']}: {result.get('error', 'written')}")


if __name__ == "__main__":
    main(Job(**json.loads(sys.argv[1])))
