"""Run the benchmarks, and write a page of their results with the machine, versions and commit.

    python scripts/reproduce.py [NAME ...] --clips CLIP [CLIP ...] [--set NAME=FOLDER ...]
        [--weights NETWORK=FILE ...] [--out docs/measurements] [--work build/measurements]

Each result is a file OUT/NAME.json: the command, what it printed, and on what it ran. A benchmark
whose file is there is not run again (--again: it is), so that an interrupted run resumes; OUT.md,
the page, is written from all files. Without names, all benchmarks run whose inputs are given: clips
for flow and trajectories, labelled sets and weights for the comparison of systems, which leaves its
files in WORK. Paths are not in the page: a clip is called by its name, a set by its NAME.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parent
PACKAGES = (
    "flowpipe",
    "numpy",
    "opencv-contrib-python",
    "numba",
    "scikit-learn",
    "torch",
    "torchvision",
)
CLIPS, WEIGHTS = "{clips}", "{weights}"


@dataclass(frozen=True)
class Benchmark:
    """A command whose output is a result.

    Attributes
    ----------
    title
        Heading of its part of the page.
    command
        Words after ``python``; ``{clips}`` and ``{weights}`` stand for those that are given.
    one_thread
        Libraries compute in one thread.
    kept
        Pattern of the lines that are kept of the log, where the result is not printed.
    """

    title: str
    command: tuple[str, ...]
    one_thread: bool = True
    kept: str | None = None

    @property
    def needs_clips(self) -> bool:
        """Whether it takes clips."""
        return CLIPS in self.command


BENCHMARKS = {
    "flow": Benchmark(
        "TV-L1 against OpenCV's solvers",
        ("bench_flow.py", CLIPS, "--pairs", "2", "--stride", "16", "--rounds", "2"),
    ),
    "trajectories": Benchmark(
        "Dense and improved dense trajectories", ("bench_trajectories.py", CLIPS)
    ),
    "fisher": Benchmark("Fisher vectors against scikit-image's", ("bench_encoding.py", "fisher")),
    "em": Benchmark("The mixture against scikit-learn's", ("bench_encoding.py", "em")),
    "tdd": Benchmark("Pooling of maps along trajectories", ("bench_tdd.py",)),
    "models": Benchmark(
        "Networks against the same ones of torchvision",
        ("bench_models.py", "tsn", "tsm", "r2plus1d-18", "r3d-18", "--batch", "2", "--rounds", "3"),
        one_thread=False,
    ),
    "live": Benchmark("Live prediction", ("bench_live.py", "--seconds", "60"), one_thread=False),
}


@dataclass(frozen=True)
class Inputs:
    """What is given on the command line."""

    clips: tuple[Path, ...] = ()
    sets: dict[str, Path] = field(default_factory=dict)
    weights: tuple[str, ...] = ()


def available(inputs: Inputs) -> dict[str, Benchmark]:
    """Return the benchmarks whose inputs are given, by name."""
    found = {
        name: benchmark
        for name, benchmark in BENCHMARKS.items()
        if inputs.clips or not benchmark.needs_clips
    }
    for name, folder in inputs.sets.items():
        found[f"compare-{name}"] = Benchmark(
            f"Systems side by side on {name}",
            ("-m", "flowpipe", "compare", str(folder), "--out", f"compare-{name}", WEIGHTS),
            one_thread=False,
            kept=r" % of \d+ tests| not run",
        )
    return found


def command_of(benchmark: Benchmark, inputs: Inputs) -> list[str]:
    """Return the words of a command, after the interpreter."""
    words: list[str] = []
    for word in benchmark.command:
        if word == CLIPS:
            words += [str(clip.resolve()) for clip in inputs.clips]
        elif word == WEIGHTS:
            words += ["--weights", *inputs.weights] if inputs.weights else []
        else:
            words.append(str(SCRIPTS / word) if word.startswith("bench_") else word)
    return words


def shown(words: Sequence[str], inputs: Inputs) -> str:
    """Return a command as the page shows it, without the paths of this machine."""
    return without_paths(shlex.join(["python", *words]), inputs)


def without_paths(text: str, inputs: Inputs) -> str:
    """Return a text with names in place of the paths of this machine."""
    files = [*inputs.clips, *(Path(each.partition("=")[2]) for each in inputs.weights)]
    names = {str(file.resolve()): file.name for file in files}
    names |= {str(folder): name for name, folder in inputs.sets.items()}
    names[str(SCRIPTS)] = "scripts"
    for path in sorted(names, key=len, reverse=True):
        text = text.replace(path, names[path])
    return text


def run(benchmark: Benchmark, inputs: Inputs, work: Path) -> dict[str, Any]:
    """Run a benchmark and return its result."""
    words = command_of(benchmark, inputs)
    environment = dict(os.environ)
    if benchmark.one_thread:
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, *words], cwd=work, env=environment, text=True, capture_output=True,
        check=False,
    )  # fmt: skip
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or ["it printed nothing"]
        raise RuntimeError(f"it ended with exit status {ended.returncode}: {last[0]}")
    output = ended.stdout
    if benchmark.kept is not None:
        lines = ended.stderr.splitlines()
        output = "\n".join(line for line in lines if re.search(benchmark.kept, line))
    return {
        "title": benchmark.title,
        "command": shown(words, inputs),
        "output": without_paths(output.rstrip(), inputs),
        "seconds": round(time.monotonic() - started),
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """Return what a result depends on beside the command."""
    commit = subprocess.run(
        ["git", "-C", str(SCRIPTS), "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    return {
        "date": date.today().isoformat(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "commit": commit or "not a checkout",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def page(results: Sequence[dict[str, Any]]) -> str:
    """Return the page of the results, in Markdown."""
    lines = [
        "# Measurements",
        "",
        "What the benchmarks printed, as `python scripts/reproduce.py` ran them. On what they ran",
        "is said where it differs from the benchmark before.",
    ]
    last = ""
    for result in results:
        lines += ["", f"## {result['title']}", ""]
        ran_on = _ran_on(result["machine"])
        lines += [ran_on, ""] * (ran_on != last)
        last = ran_on
        lines += [
            f"    {result['command']}",
            "",
            f"It took {result['seconds']} s.",
            "",
            "```text",
            result["output"],
            "```",
        ]
    return "\n".join([*lines, ""])


def _ran_on(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['date']}, commit {machine['commit']}; {machine['processor']}, "
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, GPU: {machine['gpu']}; "
        f"{machine['system']}; {versions}."
    )


def _pair(text: str) -> tuple[str, Path]:
    name, separator, folder = text.partition("=")
    if not (name and separator and Path(folder).is_dir()):
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=FOLDER of a folder that there is")
    return name, Path(folder).resolve()


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return Path(text)


def _weights(text: str) -> str:
    network, separator, file = text.partition("=")
    if not (network and separator and Path(file).is_file()):
        raise argparse.ArgumentTypeError(f"{text!r} is no NETWORK=FILE of a file that there is")
    return f"{network}={Path(file).resolve()}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run")
    parser.add_argument("--clips", nargs="+", type=_file, default=[], metavar="CLIP")
    parser.add_argument("--set", nargs="+", type=_pair, default=[], metavar="NAME=FOLDER")
    parser.add_argument("--weights", nargs="+", type=_weights, default=[], metavar="NETWORK=FILE")
    parser.add_argument("--out", type=Path, default=Path("docs/measurements"), metavar="DIR")
    parser.add_argument("--work", type=Path, default=Path("build/measurements"), metavar="DIR")
    parser.add_argument("--again", action="store_true", help="run what has a result, too")
    given = parser.parse_args(arguments)
    inputs = Inputs(tuple(given.clips), dict(given.set), tuple(given.weights))
    benchmarks = available(inputs)
    if unknown := [name for name in given.names if name not in benchmarks]:
        parser.error(f"{unknown[0]!r} is none of those with inputs: {', '.join(benchmarks)}")
    out: Path = given.out.resolve()
    work: Path = given.work.resolve()
    for folder in (out, work):
        folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in given.names or benchmarks:
        path = out / f"{name}.json"
        if path.exists() and not given.again:
            print(f"{name}: there is a result, {path.name}")
            continue
        print(f"{name}: {shown(command_of(benchmarks[name], inputs), inputs)}", flush=True)
        try:
            result = run(benchmarks[name], inputs, work)
        except RuntimeError as error:
            failed += 1
            print(f"{name}: {error}", file=sys.stderr)
            continue
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    results = [json.loads(each.read_text(encoding="utf-8")) for each in sorted(out.glob("*.json"))]
    out.with_name(f"{out.name}.md").write_text(page(results), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
