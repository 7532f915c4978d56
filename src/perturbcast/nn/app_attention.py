"""Attention of a perturbation over genes (spec B-4, B-5), in heads, with a temperature and, if wanted, few genes."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


def additive_scores(
    query: Float[Tensor, "row head part"], key: Float[Tensor, "node head part"], weight: Float[Tensor, "head part"]
) -> Float[Tensor, "row head node"]:
    """vᵀ tanh(query + key) for every row and node (B-4)."""
    found = [  # a head at a time, which bounds memory
        torch.tanh(query[:, None, head] + key[None, :, head]) @ weight[head]  # (row, node, part) @ (part,)
        for head in range(query.shape[1])
    ]
    return torch.stack(found, dim=1)


def dot_scores(
    query: Float[Tensor, "row head part"], key: Float[Tensor, "node head part"], weight: Float[Tensor, "head part"]
) -> Float[Tensor, "row head node"]:
    """Σ_k v_k query_k key_k / √part for every row and node: far cheaper than B-4 where there are many nodes."""
    return torch.einsum("rhk,nhk->rhn", query * weight / math.sqrt(query.shape[2]), key)


def attention(
    scores: Float[Tensor, "row head node"], *, temperature: Tensor, top: int | None
) -> Float[Tensor, "row head node"]:
    """Softmax over nodes of scores divided by the temperature (B-5), over the `top` highest scores alone if given."""
    scaled = scores / temperature
    if top is not None and top < scores.shape[2]:
        least = scaled.topk(top, dim=2).values[:, :, -1:]
        scaled = scaled.masked_fill(scaled < least, -math.inf)
    return scaled.softmax(dim=2)


class Attention(nn.Module):
    """Scores and weights of heads; W_k acts on nodes once, W_q on the context of each row."""

    def __init__(
        self, n_state: int, *, n_attention: int, n_heads: int, dot: bool, temperature: float, learned: bool
    ) -> None:
        super().__init__()
        self.n_heads, self.dot = n_heads, dot
        part = -(-n_attention // n_heads)
        self.of_context = nn.Linear(n_state, n_heads * part)  # W_q and b_a
        self.of_gene = nn.Linear(n_state, n_heads * part, bias=False)  # W_k
        bound = 1 / math.sqrt(part)
        weight = torch.ones(n_heads, part) if dot else torch.empty(n_heads, part).uniform_(-bound, bound)
        self.weight = nn.Parameter(weight)  # v
        start = torch.tensor(math.log(temperature))
        self.log_temperature = nn.Parameter(start) if learned else None
        self.register_buffer("fixed", start, persistent=False)

    def keys(self, states: Float[Tensor, "node state"]) -> Float[Tensor, "node head part"]:
        """W_k h of every node, by head."""
        return self.of_gene(states).unflatten(1, (self.n_heads, -1))

    def forward(
        self, context: Float[Tensor, "row state"], keys: Float[Tensor, "node head part"], *, top: int | None
    ) -> Float[Tensor, "row head node"]:
        """α of every row over the nodes; each head sums to 1."""
        query = self.of_context(context).unflatten(1, (self.n_heads, -1))
        scores = (dot_scores if self.dot else additive_scores)(query, keys, self.weight)
        log_temperature = self.get_buffer("fixed") if self.log_temperature is None else self.log_temperature
        return attention(scores, temperature=log_temperature.exp(), top=top)
