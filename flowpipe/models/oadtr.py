"""OadTR: online action detection with a transformer that also predicts what comes next.

X. Wang et al., "OadTR: Online Action Detection with Transformers", ICCV 2021. The input are
features of the steps up to now; nothing later enters the score of the present.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from flowpipe.errors import ParameterError
from flowpipe.models import transformer
from flowpipe.models.evl import CrossAttention
from flowpipe.models.transformer import Attention


class Detection(NamedTuple):
    """Scores before the softmax.

    Attributes
    ----------
    now
        (B, classes) of the last step.
    future
        (B, Q, classes) of the steps after it.
    """

    now: Tensor
    future: Tensor


class OadTR(nn.Module):
    """Score the last of a window of steps, and the steps that follow.

    Parameters
    ----------
    n_features
        Size of a step's feature: that of all streams together.
    classes
        Number of classes, with the background.
    steps
        Number of steps of a window.
    future
        Number of later steps to predict.
    width, depth, heads, hidden
        Size of a token, number of encoder layers, of heads, of hidden units.
    decoder_depth, decoder_heads, decoder_hidden
        Those of the decoder.
    dropout
        Probability with which units are dropped.

    Raises
    ------
    ParameterError
        A window has another number of steps.

    Examples
    --------
    >>> import torch
    >>> network = OadTR(24, 5, steps=8, future=3, width=32, heads=4, hidden=48).eval()
    >>> now, future = network(torch.zeros(2, 8, 24))
    >>> now.shape, future.shape
    (torch.Size([2, 5]), torch.Size([2, 3, 5]))
    """

    def __init__(
        self,
        n_features: int,
        classes: int,
        *,
        steps: int = 64,
        future: int = 8,
        width: int = 1024,
        depth: int = 3,
        heads: int = 8,
        hidden: int = 1024,
        decoder_depth: int = 5,
        decoder_heads: int = 4,
        decoder_hidden: int = 1024,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.linear_encoding = nn.Linear(n_features, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, steps + 1, width))
        # As large as the release's, which are an embedding: small ones are lost among the features,
        # and the task token then learns only slowly which step is the present.
        nn.init.normal_(self.positions)
        # Equal queries would stay equal: they are drawn, where the release starts at zero.
        self.queries = nn.Parameter(torch.empty(1, future, width))
        nn.init.normal_(self.queries, std=0.02)
        self.encoder = nn.ModuleList(
            EncoderLayer(width, heads, hidden, dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(
            DecoderLayer(width, decoder_heads, decoder_hidden, dropout)
            for _ in range(decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.now = nn.Linear(2 * width, classes)
        self.future = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> Detection:
        """Map (B, steps, n_features) to scores of the last step and of the steps after it."""
        if features.shape[1] != self.steps:
            raise ParameterError(
                f"a window has {features.shape[1]} steps; this network takes {self.steps}"
            )
        tokens = self.linear_encoding(features)
        tokens = torch.cat([tokens, self.cls_token.expand(len(tokens), -1, -1)], dim=1)
        tokens = self.dropout(tokens + self.positions)
        for layer in self.encoder:
            tokens = layer(tokens)
        tokens = self.norm(tokens)
        predicted = self.queries.expand(len(tokens), -1, -1)
        for layer in self.decoder:
            predicted = layer(predicted, tokens)
        predicted = self.decoder_norm(predicted)
        present = torch.cat([tokens[:, -1], predicted.mean(dim=1)], dim=1)
        return Detection(self.now(present), self.future(predicted))


class EncoderLayer(nn.Module):
    """Add attention, then an MLP, each of the normalised tokens."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = transformer.Mlp(width, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, D) to (B, N, D)."""
        tokens = tokens + self.dropout(self.attn(self.norm1(tokens)))
        added: Tensor = tokens + self.dropout(self.mlp(self.norm2(tokens)))
        return added


class DecoderLayer(nn.Module):
    """Let the queries attend to earlier queries and to the steps; normalise after each addition."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = CrossAttention(width, heads)
        self.cross_attention = CrossAttention(width, heads)
        self.mlp = transformer.Mlp(width, hidden)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Map (B, Q, D) and (B, N, D) to (B, Q, D)."""
        attended = self.self_attention(queries, queries, causal=True)
        queries = self.norm1(queries + self.dropout(attended))
        queries = self.norm2(queries + self.dropout(self.cross_attention(queries, tokens)))
        normed: Tensor = self.norm3(queries + self.dropout(self.mlp(queries)))
        return normed


_RELEASE = (
    (r"^decoder_cls_token$", "queries"),
    (r"^position_encoding\.pe\.weight$", "positions"),
    (r"^pre_head_ln\.", "norm."),
    (r"^mlp_head\.", "now."),
    (r"^classifier\.", "future."),
    (r"^decoder\.norm\.", "decoder_norm."),
    (r"^decoder\.layers\.", "decoder."),
    (r"query_projection\.", "q_proj."),
    (r"key_projection\.", "k_proj."),
    (r"value_projection\.", "v_proj."),
    (r"out_projection\.", "out_proj."),
    (r"\.conv1\.", ".mlp.fc1."),
    (r"\.conv2\.", ".mlp.fc2."),
)


def own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the released OadTR under the names of :class:`OadTR`."""
    result = {}
    for full, weight in transformer.renamed(state, _RELEASE).items():
        name, value = full, weight
        if name.startswith("encoder.net."):
            # Attention and MLP alternate: layer 2 i and 2 i + 1 are layer i here.
            index, rest = name.removeprefix("encoder.net.").split(".", 1)
            layer, is_mlp = divmod(int(index), 2)
            rest = rest.replace("fn.norm.", "norm2." if is_mlp else "norm1.")
            rest = rest.replace("fn.fn.net.0.", "mlp.fc1.").replace("fn.fn.net.3.", "mlp.fc2.")
            name = f"encoder.{layer}.{rest.replace('fn.fn.', 'attn.')}"
        elif name.startswith("decoder_position_encoding.") or name.endswith("position_ids"):
            continue  # not used by the release either
        if name == "positions":
            value = value[None]
        elif ".mlp.fc" in name and value.ndim == 3:
            value = value[..., 0]  # convolutions of extent 1
        result[name] = value
    return result
