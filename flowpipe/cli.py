"""Parse the command line, run a command, and turn errors into messages and exit statuses."""

from __future__ import annotations

import errno
import logging
import os
import re
import select
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Union

import tyro
from rich.console import Console
from rich.text import Text

from flowpipe import __version__
from flowpipe.commands.baseline import Classify, Encode, IdtBaseline, TddBaseline
from flowpipe.commands.compare import Compare
from flowpipe.commands.detection import Detect, EvaluateDetector, TrainDetector
from flowpipe.commands.features import Features
from flowpipe.commands.flow import ExportFlow, ExtractFlow, View
from flowpipe.commands.maintenance import Clean, Demo, Doctor, Status, Verify
from flowpipe.commands.models import Models
from flowpipe.commands.networks import Evaluate, Fuse, Train, TwoStream
from flowpipe.commands.options import Command
from flowpipe.commands.predict import Predict
from flowpipe.commands.probe import Probe
from flowpipe.commands.stacks import ExportStacks, WarpFlow
from flowpipe.commands.trajectories import ExtractTrajectories
from flowpipe.errors import FlowpipeError

# Pipelines and reports import much more: each command imports what it needs.

_UNWRITABLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EEXIST,  # a file is in the place of a folder
    errno.ENOTDIR,
)

COMMANDS: dict[str, Any] = {
    "extract-flow": ExtractFlow,
    "extract-trajectories": ExtractTrajectories,
    "idt-baseline": IdtBaseline,
    "tdd-baseline": TddBaseline,
    "encode": Encode,
    "classify": Classify,
    "two-stream": TwoStream,
    "train": Train,
    "evaluate": Evaluate,
    "fuse": Fuse,
    "compare": Compare,
    "models": Models,
    "predict": Predict,
    "features": Features,
    "train-detector": TrainDetector,
    "evaluate-detector": EvaluateDetector,
    "detect": Detect,
    "probe": Probe,
    "view": View,
    "export-flow": ExportFlow,
    "warp-flow": WarpFlow,
    "export-stacks": ExportStacks,
    "status": Status,
    "verify": Verify,
    "clean": Clean,
    "doctor": Doctor,
    "demo": Demo,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and exit: 0, 1 if clips failed, 2 if nothing could be done."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    console = Console(stderr=True, highlight=False)
    _print_log()
    try:
        if arguments == ["--version"]:
            print(f"flowpipe {__version__}")
            return
        status = _parsed(arguments).run()
    except SystemExit:
        if names := [each for each in arguments if _is_name_with_dash(each)]:
            console.print(
                Text(
                    f"flowpipe: {names[0]!r} is read as an option; put -- before videos whose "
                    "names begin with '-', and write other values as --out=-name"
                ),
                soft_wrap=True,
            )
        raise
    except FlowpipeError as error:
        console.print(Text(f"flowpipe: {error}"), soft_wrap=True)
        status = 2
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        status = 141  # as if ended by SIGPIPE
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        message = f"cannot write: {error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = (
                f"stopped: the disk is full ({error}). Finished clips are complete; free some "
                "space and run the same command again to resume"
            )
        console.print(Text(f"flowpipe: {message}"), soft_wrap=True)
        status = 2
    except KeyboardInterrupt:
        console.print("flowpipe: interrupted; finished clips are complete, run again to resume")
        status = 130
    sys.exit(status)


def _parsed(arguments: Sequence[str]) -> Command:
    config = (tyro.conf.HelptextFromCommentsOff,)
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if name not in COMMANDS:
        named = [Annotated[each, tyro.conf.subcommand(name)] for name, each in COMMANDS.items()]
        every: Any = Union[tuple(named)]  # noqa: UP007
        any_command: Command = tyro.cli(
            every,
            prog="flowpipe",
            description=(
                "Optical flow, dense trajectories and two-stream baselines for action "
                "recognition. 'flowpipe COMMAND --help' explains a command."
            ),
            args=arguments,
            config=config,
        )
        return any_command
    # Only the options of this command are looked at: those of all take longer than some commands.
    command_type = COMMANDS[name]
    default = tyro.MISSING_NONPROP
    if hasattr(command_type, "for_arguments"):
        command_type = command_type.for_arguments(rest)
    elif hasattr(command_type, "defaults"):
        default = command_type.defaults(rest)
    command: Command = tyro.cli(
        command_type, prog=f"flowpipe {name}", args=rest, default=default, config=config
    )
    return command


class _StderrHandler(logging.Handler):
    """Print what the package logs on standard error, without decoration."""

    def emit(self, record: logging.LogRecord) -> None:
        # Looked up for each message: a live progress line replaces it.
        print(record.getMessage(), file=sys.stderr)


def _print_log() -> None:
    """Print the messages of the package's loggers, in place of handlers of earlier calls."""
    root = logging.getLogger("flowpipe")
    root.setLevel(logging.INFO)
    root.propagate = False
    root.handlers = [_StderrHandler()]


def _is_name_with_dash(argument: str) -> bool:
    """Return whether an argument may be a file name: one dash, and no number or -h after it."""
    return re.fullmatch(r"-(?!-|h$|[\d.]+$).+", argument) is not None


def _reader_is_gone() -> bool:
    """Return whether nobody reads standard output any more; if so, redirect it to nowhere."""
    try:
        out = sys.stdout.fileno()
    except (OSError, ValueError):
        return False
    poll = select.poll()
    poll.register(out, 0)
    gone = any(event & select.POLLERR for _, event in poll.poll(0))
    if gone:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out)
        os.close(nowhere)
    return gone
