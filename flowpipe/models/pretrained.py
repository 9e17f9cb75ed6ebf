"""The file of a masked autoencoder, with which a network of the same kind can begin."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from flowpipe.models.clip_input import ClipInput
from flowpipe.models.described import read_described, reading, save_described
from flowpipe.models.mae import Mae
from flowpipe.models.masked_autoencoder import MaskedAutoencoder
from flowpipe.models.network import Network
from flowpipe.runner.json_files import Json

PRETRAINED = "flowpipe masked autoencoder 1"
"""Format of the description in its file."""
_OWNER = "stream."


def save_pretrained(path: Path, network: MaskedAutoencoder, about: Json, root: Path) -> None:
    """Write a masked autoencoder and what is to be known of it atomically, as safetensors.

    The weights of the encoder have the names of those of a trained network.

    Parameters
    ----------
    path, about, root
        As for :func:`flowpipe.models.weights.save_model`.
    network
        Its weights, its parts, its input and its decoder are stored.
    """
    clip, parts = network.source
    description = {
        "format": PRETRAINED,
        "network": asdict(parts),
        "clip": asdict(clip),
        "mae": asdict(network.mae),
        "about": about,
    }
    state = {name.removeprefix(_OWNER): value for name, value in network.state_dict().items()}
    save_described(path, state, description, root)


def load_pretrained(path: Path) -> tuple[MaskedAutoencoder, Json]:
    """Read what :func:`save_pretrained` wrote.

    Raises
    ------
    FormatError
        It does not exist, is not such a file, or does not fit together.
    """
    with reading(path, "masked autoencoder"):
        state, description = read_described(path, PRETRAINED)
        network = MaskedAutoencoder(
            Network(**description["network"]),
            ClipInput(**description["clip"]),
            Mae(**description["mae"]),
        )
        names = {name.removeprefix(_OWNER): name for name in network.state_dict()}
        network.load_state_dict({names.get(name, name): value for name, value in state.items()})
    about: Json = description["about"]
    return network, about
