"""Stored flow, exported as stacks."""

from __future__ import annotations

import logging
from pathlib import Path

from flowpipe.datasets.lists import read_class_names
from flowpipe.flow import store
from flowpipe.runner import atomic, json_files, provenance
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Workers, as_workers
from flowpipe.runner.run import Summary, run_stage
from flowpipe.training.data.export import (
    FORMAT,
    ExportStacks,
    Part,
    StackExport,
    class_folders,
    class_indices,
    parts_of,
    paths_of,
    stored_contents,
)

logger = logging.getLogger(__name__)


INDEX = "index.json"


def export_stacks(
    source: Path,
    out: Path,
    export: StackExport,
    *,
    workers: Workers | int | None = None,
    overwrite: bool = False,
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
    workers
        Number of worker processes, or a :class:`~flowpipe.runner.pool.Workers`; by default one per
        core.
    overwrite
        Write clips again that are finished.

    Raises
    ------
    StageMismatchError
        The folder holds stacks of other settings.
    ParameterError, FormatError
        There is no flow, or it lies in the output folder.
    """
    workers = as_workers(workers)
    clips = store.flow_to_read(source, out)
    description = {**export.description(), "flow": provenance.read_stage(source)}
    provenance.open_stage(out, description)
    parts = parts_of(export, clips, out)
    logger.info(f"{len(clips)} clips, stacks of {export.length}, as {export.format}, into {out}")
    work = ExportStacks(export, out, overwrite)
    summary = run_stage(
        work,
        parts,
        out=out,
        workers=workers,
        unit="stacks",
        outputs=lambda part: paths_of(export, out, part),
        overwrite=True,
    )
    if export.format == "tar":
        _remove_shards_of_before(out, parts)
    labels = class_indices(clips, export.class_names)
    classes = class_folders(name.rpartition("/")[0] for name in labels)
    if export.class_names is not None:
        classes = list(read_class_names(export.class_names)[0])
    whole = _whole(export, parts, out)
    index = {**_about(export, classes), **_listed(export, whole, out)}
    atomic.write_atomic(out / INDEX, json_files.to_json(index), out)
    atomic.remove_stale(out)
    contents = [content for _, inside in whole for content in inside]
    stacks = sum(content["stacks"] for content in contents)
    logger.info(
        f"{stacks} stacks of {len(contents)} clips in {len(whole)} files, listed in {out / INDEX}"
    )
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


def _whole(export: StackExport, parts: list[Part], out: Path) -> list[tuple[Path, list[Json]]]:
    """Return the files that are whole, and what they hold."""
    found = []
    for part in parts:
        mark, target = paths_of(export, out, part)
        contents = stored_contents(mark)
        if contents is not None and target.exists():
            found.append((target, contents))
    return found


def _listed(export: StackExport, whole: list[tuple[Path, list[Json]]], out: Path) -> Json:
    """Return the files as the index lists them; shards in the manner of WebDataset's ``wids``."""
    if export.format == "npy":
        paths = [target.relative_to(out).as_posix() for target, _ in whole]
        arrays = zip(paths, whole, strict=True)
        return {"arrays": [{"path": path, **contents[0]} for path, (_, contents) in arrays]}
    shards = [
        {
            "url": target.name,
            "nsamples": sum(content["stacks"] for content in contents),
            "filesize": target.stat().st_size,
        }
        for target, contents in whole
    ]
    return {"wids_version": 1, "shardlist": shards}


def _remove_shards_of_before(out: Path, parts: list[Part]) -> None:
    """Take away the shards of an export of more clips, which a pattern of names would find."""
    kept = {part.name for part in parts}
    for path in sorted(out.glob("shard-*.tar")):
        if path.stem not in kept:
            path.with_name(f"{path.name}.json").unlink(missing_ok=True)
            path.unlink()
