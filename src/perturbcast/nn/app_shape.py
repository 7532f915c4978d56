"""What an APP network is made of, without loading torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AppShape:
    """Sizes and parts of an APP network; equations are those of specification B.2 and B.7."""

    embedding: str  # features, random, random-trained or identity; B-1 and B.3
    graph: str  # union, each, none, or the name of one graph; B-2
    aggregate: str  # mean, sum or max; B-2
    n_layers: int  # L of B-2
    n_state: int  # d of B-1
    attention: str  # additive, dot, mean (no attention, i) or context (no attention, ii); B-4 and B.3
    n_attention: int  # a of B-4, all heads together
    n_heads: int
    temperature: float  # τ of the softmax at the start
    learn_temperature: bool
    top: int | None  # attend to so many genes only
    decoder: str  # linear, mlp or none; B-7 and B.3
    interaction: bool  # B-8: states against that of the null query, and beyond those of the single targets
    rank: int  # r of U in B-8; 0: no additive core
    ridge: float | None  # of the closed form that U starts from, per training condition; None: U starts at 0
    dropout: float
