"""The networks that a detector's features come from, kept beside it for new videos.

Features are recorded with the digest of the network's weights, and not with its path. A detector
that is to see new videos has copies of these files, which are compared with the digests.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowpipe.errors import FormatError, ParameterError
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.weight_names import identity, is_file_name
from flowpipe.models.weights import read_about
from flowpipe.runner import atomic, provenance
from flowpipe.runner.json_files import Json
from flowpipe.training.features.sources import (
    NetworkSource,
    PublishedNetwork,
    TrainedNetwork,
    describe,
)

_DIGEST = "sha256 "


def needs_file(record: Json) -> bool:
    """Return whether the weights of a feature network are a file, and not a published name."""
    return _weights(record).startswith(_DIGEST)


def match_networks(records: Sequence[Json], files: Sequence[Path]) -> list[Path | None]:
    """Return the file of each folder's network, by its digest.

    Parameters
    ----------
    records
        Stages of the folders of features.
    files
        Files of weights.

    Returns
    -------
    list
        None where the weights are named, or where the file is not among them.

    Raises
    ------
    ParameterError
        A file is of none of the networks.
    """
    found = {identity(str(file)): file for file in files}
    wanted = [_weights(record) for record in records]
    if strange := [file for digest, file in found.items() if digest not in wanted]:
        raise ParameterError(
            f"network {str(strange[0])!r} is of none of the features: its weights are others"
        )
    return [found.get(digest) for digest in wanted]


def keep_networks(networks: Sequence[Path | None], folder: Path) -> None:
    """Put copies of the networks beside a detector, as hard links where that is possible."""
    for number, path in enumerate(networks, 1):
        if path is None or kept_network(folder, number) is not None:
            continue
        temporary = atomic.temporary_file(folder)
        temporary.unlink(missing_ok=True)
        try:
            atomic.link_or_copy(path.resolve(), temporary)
            atomic.place(temporary, folder / f"network-{number}{path.suffix}")
        finally:
            atomic.discard(temporary)


def kept_network(folder: Path, number: int) -> Path | None:
    """Return the network of the `number`-th folder of features, from 1, beside a detector."""
    return next(iter(sorted(folder.glob(f"network-{number}.*"))), None)


def feature_network(record: Json, folder: Path, number: int) -> StreamNetwork:
    """Return the network that features come from.

    Parameters
    ----------
    record
        Stage of the features.
    folder
        Of the detector.
    number
        Of the folder of features among all, from 1.

    Raises
    ------
    ParameterError
        The features are of trajectories, or the network is not beside the detector.
    FormatError
        It is another network.
    """
    described = record.get("network")
    if not isinstance(described, dict):
        raise ParameterError(
            f"the detector in {str(folder)!r} takes features that are not of a network; detect "
            "computes features of networks"
        )
    path = kept_network(folder, number) if needs_file(record) else None
    if needs_file(record) and path is None:
        raise ParameterError(
            f"{str(folder)!r} has no network for the features {number}; run train-detector again "
            "with --networks, which names the files or folders of the feature networks"
        )
    source = _source(described, record, path)
    network = source.load()
    if different := provenance.differences(described, describe(source, network)):
        raise FormatError(
            f"{str(path or folder)!r} is not the network of the features: "
            f"{'; '.join(map(str, different[:3]))}"
        )
    return network.eval()


def _source(described: Json, record: Json, path: Path | None) -> NetworkSource:
    if path is not None:
        try:
            read_about(path)
            return TrainedNetwork(path)
        except FormatError:
            pass  # published weights
    clip: dict[str, Any] = described.get("clip") or {}
    published = PublishedNetwork(
        model=described.get("model"),
        weights=_weights(record) if path is None else str(path),
        modality=clip.get("modality"),
        backbone=described.get("backbone"),
        input_size=clip.get("input_size"),
    )
    return published.with_length(record["length"])


def network_files(given: Sequence[Path]) -> list[Path]:
    """Return the files of networks that a user names by files or by folders of ``train``.

    Raises
    ------
    ParameterError
        There is no network, or a folder has several.
    """
    files = []
    for path in given:
        if path.is_file() and is_file_name(path.name):
            files.append(path)
            continue
        places = [path / "model.safetensors", path / "final" / "model.safetensors"]
        found = [place for place in places if place.is_file()][:1]
        found = found or sorted(path.glob("*/model.safetensors"))
        if len(found) != 1:
            number = f"{len(found)} networks, one for each split" if found else "no network"
            raise ParameterError(
                f"network {str(path)!r} holds {number}; name a file of weights, or the folder of "
                "one network of train"
            )
        files += found
    return files


def _weights(record: Json) -> str:
    network = record.get("network") or record.get("encoders")
    return str(network.get("weights")) if isinstance(network, dict) else ""
