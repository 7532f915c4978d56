"""HyenaDNA in the core install: the hidden states of a checkpoint, without running any code that comes with it.

Written after Nguyen et al. 2023 (arXiv 2306.15794) and the tensors of the published checkpoints (hyenadna-*-hf).
Imported only where a checkpoint is used: it needs torch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from perturbcast.errors import BadKnowledge
from perturbcast.genes.weights import load_weights, weights_in

BASES = "ACGTN"
FIRST_BASE = 7  # id of A; 0 to 6 are CLS, SEP, BOS, MASK, PAD, RESERVED and UNK
SHIFT = 0.05  # of the window over the filter
EPSILON = 1e-5  # of the norms inside a block


@dataclass(frozen=True)
class Hyena:
    """A checkpoint: its tensors, without their common prefix, and the numbers of its configuration."""

    tensors: Mapping[str, torch.Tensor]
    n_layers: int
    order: int  # of the Hyena recurrence
    longest: int  # positions
    epsilon: float  # of the last norm

    @classmethod
    def of(cls, folder: Path) -> "Hyena":
        """The checkpoint in a folder with config.json and model.safetensors (or pytorch_model.bin)."""
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        found = load_weights(weights_in(folder))
        tensors = {name.partition("backbone.")[2]: value for name, value in found.items() if "backbone." in name}
        try:
            n_layers, longest, order = (int(config[name]) for name in ("n_layer", "max_seq_len", "hyena_order"))
            tensors["embeddings.word_embeddings.weight"], tensors[f"layers.{n_layers - 1}.mixer.out_proj.weight"]
        except KeyError as failure:
            raise BadKnowledge(f"{folder} holds no HyenaDNA checkpoint: {failure} is missing.") from failure
        return cls(tensors, n_layers, order, longest, float(config.get("layer_norm_epsilon", EPSILON)))

    @property
    def width(self) -> int:
        """Number of features of a hidden state."""
        return self.tensors["ln_f.weight"].shape[0]

    @torch.inference_mode()
    def hidden_states(self, ids: Int[torch.Tensor, "window place"]) -> Float[torch.Tensor, "window place feature"]:
        """The last hidden state at each place, after the last norm; a place sees itself and what is left of it."""
        states = self.tensors["embeddings.word_embeddings.weight"][ids]
        for layer in range(self.n_layers):
            prefix = f"layers.{layer}"
            states = states + self._mixed(f"{prefix}.mixer", self._normed(f"{prefix}.norm1", states))
            inner = self._linear(f"{prefix}.mlp.fc1", self._normed(f"{prefix}.norm2", states))
            states = states + self._linear(f"{prefix}.mlp.fc2", torch.nn.functional.gelu(inner, approximate="tanh"))
        return self._normed("ln_f", states, epsilon=self.epsilon)

    def _linear(self, name: str, values: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(values, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    def _normed(self, name: str, values: torch.Tensor, *, epsilon: float = EPSILON) -> torch.Tensor:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return torch.nn.functional.layer_norm(values, (self.width,), weight, bias, epsilon)

    def _mixed(self, name: str, states: torch.Tensor) -> torch.Tensor:
        """The Hyena operator: gates times long causal convolutions, all channels apart."""
        n_places = states.shape[1]
        projected = self._linear(f"{name}.in_proj", states).transpose(1, 2)  # (window, channel, place)
        weight, bias = self.tensors[f"{name}.short_filter.weight"], self.tensors[f"{name}.short_filter.bias"]
        padded = torch.nn.functional.pad(projected, (weight.shape[-1] - 1, 0))
        *gates, value = torch.nn.functional.conv1d(padded, weight, bias, groups=len(weight)).split(self.width, dim=1)
        filters = self._filters(name, n_places).T.reshape(self.order - 1, self.width, n_places)
        direct = self.tensors[f"{name}.filter_fn.bias"].reshape(self.order - 1, self.width, 1)
        for step, gate in enumerate(reversed(gates[1:])):
            value = value * gate
            value = causal_convolution(value, filters[step]) + value * direct[step]
        return self._linear(f"{name}.out_proj", (value * gates[0]).transpose(1, 2))

    def _filters(self, name: str, n_places: int) -> torch.Tensor:
        """(place, channel) the implicit filter: a small network of the position, under an exponential window."""
        place = f"{name}.filter_fn"
        values = self.tensors[f"{place}.pos_emb.z"][0, :n_places]
        frequency = self.tensors[f"{place}.implicit_filter.1.freq"]
        layers = sorted(
            int(key.split(".")[-2])
            for key in self.tensors
            if key.startswith(f"{place}.implicit_filter.") and key.endswith("weight")
        )
        for layer in layers[:-1]:
            values = torch.sin(frequency * self._linear(f"{place}.implicit_filter.{layer}", values))
        values = self._linear(f"{place}.implicit_filter.{layers[-1]}", values)
        decay = torch.exp(
            -self.tensors[f"{place}.pos_emb.t"][0, :n_places] * self.tensors[f"{place}.modulation.deltas"][0].abs()
        )
        return values * (decay + SHIFT)


def causal_convolution(
    values: Float[torch.Tensor, "window channel place"], filters: Float[torch.Tensor, "channel place"]
) -> Float[torch.Tensor, "window channel place"]:
    """Each channel convolved with its own filter, looking back only, by fast Fourier transform."""
    n_places = values.shape[-1]
    size = 2 * n_places
    spectrum = torch.fft.rfft(values, n=size) * torch.fft.rfft(filters, n=size)
    return torch.fft.irfft(spectrum, n=size)[..., :n_places]


def base_ids(sequence: str) -> Int[np.ndarray, " place"]:
    """The ids that HyenaDNA gives to bases; every letter but A, C, G, T (and U) is N. No special token is added."""
    ids = np.full(256, FIRST_BASE + BASES.index("N"), dtype=np.int64)
    for letter, base in (*zip(BASES, BASES, strict=True), ("U", "T")):
        ids[[ord(letter), ord(letter.lower())]] = FIRST_BASE + BASES.index(base)
    return ids[np.frombuffer(sequence.encode("ascii", "replace"), dtype=np.uint8)]
