"""``export-stacks``: stacks of flow as arrays, for loaders that know nothing of flow.

``npy`` writes one array a clip, ``<clip>.npy``, (stacks, 2 L, H, W) uint8. ``tar`` writes shards in
WebDataset's form: members that belong together are neighbours and share their name up to the first
dot, ``<clip>/<start>.npy``, ``.json`` and, where all clips have a class folder, ``.cls``. Either
way ``<file>.json`` stands beside each file when it is whole, and says what it holds and was made
from; the same flow gives the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from tyro.conf import arg

from flowpipe.datasets.base import natural_key
from flowpipe.datasets.lists import read_class_names
from flowpipe.errors import FlowpipeError, FormatError, ParameterError, check_range
from flowpipe.flow.quantize import DEFAULT_BOUND
from flowpipe.flow.store import FlowReader, StoredClip
from flowpipe.models.clip_input import Stacking
from flowpipe.runner import atomic, json_files, provenance
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Advance, Done
from flowpipe.training.data.clip_index import check_members
from flowpipe.training.data.stacks import read_stack

Format = Literal["npy", "tar"]

FORMAT = "flowpipe-stacks-1"
_BLOCK = tarfile.BLOCKSIZE


class TooShortError(FlowpipeError):
    """A clip has fewer flow fields than a stack."""

    kind: ClassVar[str] = "too-short"


@dataclass(frozen=True, slots=True)
class StackExport:
    """Everything that determines the exported stacks of a folder."""

    format: Format = "npy"
    """npy: an array a clip. tar: shards as WebDataset reads them."""
    length: int = 10
    """Flow fields of a stack."""
    stride: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: length)")] = None
    """Fields from the beginning of one stack to that of the next; by default none overlap."""
    stacking: Stacking = "flow"
    """trajectory samples the fields of a stack along the paths of its first pixels."""
    bound: float = DEFAULT_BOUND
    """Displacement in pixels that saturates 8 bit, of flow that is stored as floating point and of
    tools that do not record theirs."""
    shard_mib: int = 512
    """A shard holds as many clips as fit into so many MiB, and at least one."""
    class_names: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """File that numbers the classes, such as UCF101's classInd.txt: a name per line, or an index
    and a name. Without it the class folders are numbered in natural order."""

    def __post_init__(self) -> None:
        if self.format not in get_args(Format):
            raise ParameterError(f"format is {self.format!r}; it must be npy or tar")
        if self.stacking not in get_args(Stacking):
            raise ParameterError(f"stacking is {self.stacking!r}; it must be flow or trajectory")
        check_range("length", self.length, 1, 1000)
        if self.stride is not None:
            check_range("stride", self.stride, 1)
        check_range("bound", self.bound, 0, 4096, open_low=True)
        check_range("shard_mib", self.shard_mib, 1)

    def description(self) -> Json:
        """Return what ``stage.json`` says."""
        said = {**asdict(self), "stride": self.stride or self.length}
        if self.class_names is not None:
            said["class_names"] = list(read_class_names(self.class_names)[0])
        if self.format == "npy":
            del said["shard_mib"]
        return {"stage": "stacks", **said}

    def starts(self, n_flows: int) -> range:
        """First field of each stack, counted from 0: all that fit into the clip."""
        return range(0, n_flows - self.length + 1, self.stride or self.length)


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the export: an array, or a shard.

    Attributes
    ----------
    name
        The file without its suffix.
    path
        Where it is read from, for reports.
    clips
        What it holds, in order.
    labels
        Class index of each clip, or None.
    """

    name: str
    path: Path
    clips: tuple[StoredClip, ...]
    labels: tuple[int | None, ...]


def parts_of(export: StackExport, clips: Sequence[StoredClip], out: Path) -> list[Part]:
    """Distribute clips over files: one each, or shards filled in the order of names.

    Clips that cannot be read or are too short are parts of their own, and fail for themselves.
    """
    labels = class_indices(clips, export.class_names)
    if export.format == "npy":
        return [Part(clip.name, clip.path, (clip,), (labels.get(clip.name),)) for clip in clips]
    shards: list[list[StoredClip]] = []
    alone: list[StoredClip] = []
    room = 0
    for clip in clips:
        need = 0
        with contextlib.suppress(FlowpipeError, OSError), FlowReader(clip) as reader:
            need = _tar_bytes(export, reader)
        if not need:
            alone.append(clip)
            continue
        if need > room or not shards:
            shards.append([])
            room = export.shard_mib << 20
        shards[-1].append(clip)
        room -= need
    parts = [
        Part(
            f"shard-{number:06d}",
            out / f"shard-{number:06d}.tar",
            tuple(shard),
            tuple(labels.get(clip.name) for clip in shard),
        )
        for number, shard in enumerate(shards)
    ]
    return parts + [Part(clip.name, clip.path, (clip,), (None,)) for clip in alone]


def class_indices(clips: Sequence[StoredClip], class_names: Path | None = None) -> dict[str, int]:
    """Return the index of each clip's class folder; empty unless all clips have one.

    Parameters
    ----------
    clips
        The clips, named after their folders.
    class_names
        File with the classes in their order; without it the folders are numbered in natural
        order, ``2`` before ``10``.

    Raises
    ------
    ParameterError
        A class folder is not in the file.
    """
    folders = {clip.name: clip.name.rpartition("/")[0] for clip in clips}
    if not all(folders.values()):
        return {}
    if class_names is not None:
        names = read_class_names(class_names)[0]
        numbers = {name: index for index, name in enumerate(names)}
        for folder in folders.values():
            if folder.rpartition("/")[2] not in numbers:
                raise ParameterError(
                    f"the class folder {folder!r} is not in {str(class_names)!r}, which has "
                    f"{', '.join(names[:3])}, ..."
                )
        return {name: numbers[folder.rpartition("/")[2]] for name, folder in folders.items()}
    classes = {folder: index for index, folder in enumerate(class_folders(folders.values()))}
    return {name: classes[folder] for name, folder in folders.items()}


def class_folders(folders: Iterable[str]) -> list[str]:
    """Return the class folders in the order of their numbers."""
    return sorted(set(folders), key=natural_key)


@dataclass(frozen=True, slots=True)
class ExportStacks:
    """The work of ``export-stacks`` on one part."""

    export: StackExport
    out: Path
    overwrite: bool = False

    def __call__(self, part: Part, advance: Advance) -> Done:
        """Write the part, unless it is there and made from the flow as it is now.

        Raises
        ------
        TooShortError, FormatError, OSError
            A clip of it cannot be used. Nothing is written then.
        """
        contents = [self._content(*one) for one in zip(part.clips, part.labels, strict=True)]
        mark, target = paths_of(self.export, self.out, part)
        if not self.overwrite and target.exists() and stored_contents(mark) == contents:
            return Done(skipped=True)
        temporary = atomic.temporary_file(self.out)
        try:
            with temporary.open("wb") as file:
                write = self._write_array if self.export.format == "npy" else self._write_shard
                write(file, part, contents, advance)
            mark.unlink(missing_ok=True)
            atomic.place(temporary, target)
            said = {"format": FORMAT, "bytes": target.stat().st_size, "clips": contents}
            atomic.write_atomic(mark, json_files.to_json(said), self.out)
        finally:
            atomic.discard(temporary)
        return Done()

    def _content(self, clip: StoredClip, label: int | None) -> Json:
        with FlowReader(clip, bound=self.export.bound) as reader:
            check_members(reader)
            starts = self.export.starts(len(reader))
            if not starts:
                raise TooShortError(
                    f"{clip.name!r} has {len(reader)} flow fields; "
                    f"a stack takes {self.export.length}"
                )
            return {
                "clip": clip.name,
                "label": label,
                "stacks": len(starts),
                "fields": len(reader),
                "width": reader.meta.width,
                "height": reader.meta.height,
                "bound": reader.level_bound,
                "flow": flow_identity(reader),
            }

    def _stacks(self, clip: StoredClip, content: Json) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        export = self.export
        shape = (2 * export.length, content["height"], content["width"])
        with FlowReader(clip, bound=export.bound) as reader:
            for start in export.starts(content["fields"]):
                fields = range(start, start + export.length)
                stack = read_stack(reader, fields, stacking=export.stacking)
                if stack.shape != shape:
                    raise FormatError(
                        f"flow of {clip.name!r} from field {start} on is "
                        f"{stack.shape[2]}x{stack.shape[1]}; it begins with {shape[2]}x{shape[1]}"
                    )
                yield start, stack

    def _write_array(
        self, file: BinaryIO, part: Part, contents: list[Json], advance: Advance
    ) -> None:
        content = contents[0]
        size = content["height"], content["width"]
        _write_header(file, (content["stacks"], 2 * self.export.length, *size))
        for _, stack in self._stacks(part.clips[0], content):
            file.write(stack.tobytes())
            advance(1)

    def _write_shard(
        self, file: BinaryIO, part: Part, contents: list[Json], advance: Advance
    ) -> None:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for clip, content in zip(part.clips, contents, strict=True):
                for start, stack in self._stacks(clip, content):
                    said = {"clip": clip.name, "start": start, "label": content["label"]}
                    key = f"{clip.name}/{start:06d}"
                    if content["label"] is not None:
                        _add(archive, f"{key}.cls", str(content["label"]).encode())
                    _add(archive, f"{key}.json", json_files.to_json(said))
                    array = io.BytesIO()
                    _write_header(array, stack.shape)
                    array.write(stack.tobytes())
                    _add(archive, f"{key}.npy", array.getvalue())
                    advance(1)


def paths_of(export: StackExport, out: Path, part: Part) -> tuple[Path, Path]:
    """Return where a part's JSON and its array or shard stand."""
    target = out / f"{part.name}.{export.format}"
    return target.with_name(f"{target.name}.json"), target


def stored_contents(mark: Path) -> list[Json] | None:
    """Return what the JSON beside a part says that it holds; None where there is none."""
    try:
        said = json_files.read_json(mark)
    except (FormatError, OSError):
        return None
    clips = said.get("clips")
    return clips if isinstance(clips, list) and said.get("format") == FORMAT else None


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    said = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, said)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # no owner, no time: the same bytes on every machine
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _tar_bytes(export: StackExport, reader: FlowReader) -> int:
    """Of a clip in a shard: a header and whole blocks for each member."""
    array = 128 + 2 * export.length * reader.meta.height * reader.meta.width
    stack = 5 * _BLOCK + (array + _BLOCK - 1) // _BLOCK * _BLOCK
    return stack * len(export.starts(len(reader)))


def flow_identity(reader: FlowReader) -> str:
    """Return a digest of the stored flow: of its file, or of the check sums of its files.

    Of another tool's folder, which has none, of names and lengths.
    """
    path = reader.clip.path
    if path.is_file() and reader.layout.name != "npy":
        return str(provenance.fingerprint(path)["fingerprint"])
    if reader.described:
        said = json_files.to_json(reader.meta.to_json())
        return hashlib.blake2b(said, digest_size=16).hexdigest()
    digest = hashlib.blake2b(digest_size=16)
    for folder, _, names in os.walk(path):
        for name in sorted(names):
            digest.update(f"{name} {Path(folder, name).stat().st_size}\n".encode())
    return digest.hexdigest()
