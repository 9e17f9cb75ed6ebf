"""Stored flow, exported as stacks."""

from __future__ import annotations

from pathlib import Path

from flowpipe import artifacts
from flowpipe.artifacts import Json
from flowpipe.errors import ParameterError
from flowpipe.flow import store
from flowpipe.pipelines.steps import run_stage, say
from flowpipe.runs import Summary
from flowpipe.twostream.export import (
    FORMAT,
    ExportStacks,
    Part,
    StackExport,
    class_indices,
    parts_of,
    paths_of,
    stored_contents,
)

INDEX = "index.json"


def export_stacks(
    source: Path, out: Path, export: StackExport, *, jobs: int, overwrite: bool = False
) -> Summary:
    """Export the stacks of all clips of a folder, and write ``index.json``.

    Parameters
    ----------
    source
        Folder of flow, in any layout.
    out
        Folder to write to.
    export
        What is written.
    jobs
        Worker processes.
    overwrite
        Write again what is there already.

    Raises
    ------
    StageMismatchError
        The folder holds stacks of other settings.
    ParameterError, FormatError
        There is no flow, or it lies in the output folder.
    """
    clips = sorted(store.stored_clips(source), key=lambda clip: clip.name)
    if not clips:
        raise ParameterError(f"{str(source)!r} holds no flow")
    if source.resolve() == out.resolve():
        raise ParameterError(f"stacks of {str(source)!r} cannot be exported into its own folder")
    artifacts.open_stage(out / "stage.json", export.description(), out)
    parts = parts_of(export, clips, out)
    say(f"{len(clips)} clips, stacks of {export.length}, as {export.format}, into {out}")
    work = ExportStacks(export, out, overwrite)
    summary = run_stage(work, parts, out=out, records=out, jobs=jobs, unit="stacks")
    if export.format == "tar":
        _remove_shards_of_before(out, parts)
    labels = class_indices(clips)
    classes = sorted({name.rpartition("/")[0] for name in labels})
    index = {**_about(export, classes), **_listed(export, parts, out)}
    artifacts.write_atomic(out / INDEX, artifacts.to_json(index), out)
    artifacts.remove_stale(out)
    return summary


def _about(export: StackExport, classes: list[str]) -> Json:
    said = export.description()
    return {
        "format": FORMAT,
        "length": said["length"],
        "stride": said["stride"],
        "stacking": said["stacking"],
        "channels": [f"{axis}{k}" for k in range(1, export.length + 1) for axis in "xy"],
        "zero": 128,
        "classes": classes,
    }


def _listed(export: StackExport, parts: list[Part], out: Path) -> Json:
    """The parts that are whole; shards as WebDataset's ``wids`` lists them."""
    listed = []
    for part in parts:
        mark, target = paths_of(export, out, part)
        contents = stored_contents(mark)
        if contents is None or not target.exists():
            continue
        stacks = sum(content["stacks"] for content in contents)
        if export.format == "tar":
            size = target.stat().st_size
            listed.append({"url": target.name, "nsamples": stacks, "filesize": size})
        else:
            path = target.relative_to(out).as_posix()
            listed.append({"path": path, **contents[0]})
    if export.format == "tar":
        return {"wids_version": 1, "shardlist": listed}
    return {"arrays": listed}


def _remove_shards_of_before(out: Path, parts: list[Part]) -> None:
    """Take away the shards of an export of more clips, which a pattern of names would find."""
    kept = {part.name for part in parts}
    for path in sorted(out.glob("shard-*.tar")):
        if path.stem not in kept:
            path.with_name(f"{path.name}.json").unlink(missing_ok=True)
            path.unlink()
