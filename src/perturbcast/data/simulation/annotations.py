"""What a simulated world tells of its genes: partial and partly wrong, as real annotation is."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from perturbcast.data.simulation.network import MITOCHONDRIAL, NONCODING, REGULATOR, TrueNetwork
from perturbcast.data.simulation.settings import WorldSettings
from perturbcast.data.simulation.vocabulary import PSEUDOGENE, rna_of, theme_of

UNKNOWN = 0.15  # share of genes whose text says nothing
RIGHT_WORD = 0.6  # probability that a key word is of the gene's own module, else of a random one
SAYS_ROLE, SAYS_SIGN, SAYS_REGULATOR = 0.8, 0.5, 0.25
PROMOTER, MOTIF = 240, 10  # bases
SITE, MISMATCH, DECOYS = 0.6, 0.08, 1.0  # a regulator's motif is there; a base of it is wrong; random motifs per gene
CODE, FOREIGN = 3, 0.5  # motifs of a module; sites of any module per site of the own one
MISNAMED = 0.2  # genes with a random biotype, per gene that could be told and is
RECALL, PRECISION = 0.5, 0.5  # of the prior graph
SET_RECALL, SET_FOREIGN, SET_DECOYS = 0.6, 0.25, 0.5  # members kept, foreign members, decoy sets per real set
FEATURES, EMBEDDING_NOISE = 32, 0.8  # of the embedding table: noise per feature relative to its signal
BASES = np.array(list("ACGT"))


def gene_table(network: TrueNetwork, settings: WorldSettings) -> pd.DataFrame:
    """One row per node: symbol, ensembl_id, synonyms (`|` between), biotype, description (short)."""
    rng = settings.stream("gene table")
    n_nodes = len(network.genes)
    number = rng.choice(10**6, n_nodes, replace=False)
    named = rng.random(n_nodes) < 0.4
    kind = {REGULATOR: "transcription regulator", NONCODING: "long intergenic non-protein coding RNA"}
    descriptions = []
    for node in range(n_nodes):
        what = kind.get(network.role[node], "protein")
        theme = f"{theme_of(int(network.module[node]))[0]} " if named[node] else ""
        descriptions.append(f"{theme}{what} {int(number[node]) % 97 + 1}")
    return pd.DataFrame(
        {
            "symbol": network.genes,
            "ensembl_id": np.array([f"ENSG9{value:010d}" for value in number], dtype=object),
            "synonyms": np.array([f"SIM{value:06d}|S-{value:06d}" for value in number], dtype=object),
            "biotype": biotypes(network, settings),
            "description": np.array(descriptions, dtype=object),
        }
    )


def biotypes(network: TrueNetwork, settings: WorldSettings) -> np.ndarray:
    """(node,) object: protein_coding or lncRNA; with probability `telling_biotypes` what a gene does is told.

    A gene that regulates nothing is then a pseudogene, and one that does has the RNA that goes with the theme of its
    module, such as snoRNA with ribosome biogenesis, if there is one. Some are random ones of all these.
    """
    rng = settings.stream("biotypes")
    n_nodes = len(network.genes)
    typical = np.array([rna_of(int(module)) for module in network.module], dtype=object)
    truly = np.where(network.out_degree == 0, PSEUDOGENE, typical)
    nuclear = network.role != MITOCHONDRIAL
    told = nuclear & (truly != "") & (rng.random(n_nodes) < settings.telling_biotypes)
    found = np.where(told, truly, network.biotype)
    drawn = rng.choice(np.unique(found.astype(str)), n_nodes).astype(object)
    wrong = nuclear & (rng.random(n_nodes) < MISNAMED * settings.telling_biotypes)
    return np.where(wrong, drawn, found).astype(object)


def gene_texts(network: TrueNetwork, settings: WorldSettings) -> dict[str, str]:
    """A few sentences per gene: key words of its module among others, sometimes its role, sign and one regulator."""
    rng = settings.stream("texts")
    sign = np.sign(np.asarray(network.weights.sum(axis=1))).ravel()
    regulators = network.weights.tocsc()
    texts = {}
    for node, symbol in enumerate(network.genes):
        source = regulators.indices[regulators.indptr[node] : regulators.indptr[node + 1]]
        named = str(network.genes[rng.choice(source)]) if len(source) and rng.random() < SAYS_REGULATOR else ""
        text = f"{symbol} {_role_phrase(network.role[node], sign[node], rng)}. {_theme_phrase(node, network, rng)}"
        texts[str(symbol)] = text + (f" Its expression depends on {named}." if named else "")
    return texts


def _role_phrase(role: str, sign: float, rng: np.random.Generator) -> str:
    if role == NONCODING:
        return "is a long non-coding RNA"
    if role != REGULATOR or rng.random() > SAYS_ROLE:
        return "encodes a protein"
    if sign == 0 or rng.random() > SAYS_SIGN:
        return "encodes a DNA-binding transcription factor"
    return f"encodes a transcriptional {'activator' if sign > 0 else 'repressor'}"


def _theme_phrase(node: int, network: TrueNetwork, rng: np.random.Generator) -> str:
    if rng.random() < UNKNOWN:
        return "Its function is not known."
    words = []
    for _ in range(4):
        own = rng.random() < RIGHT_WORD
        module = int(network.module[node]) if own else int(rng.integers(network.n_modules))
        words.append(str(rng.choice(theme_of(module)[1])))
    return f"It has been linked to {words[0]}, {words[1]} and {words[2]}, and may act in {words[3]}."


def promoters(network: TrueNetwork, settings: WorldSettings) -> dict[str, str]:
    """A promoter of 240 bases per gene: sites of most of its regulators and of its module's code, and false ones."""
    rng = settings.stream("promoters")
    n_nodes = len(network.genes)
    motifs = rng.integers(0, 4, (n_nodes, MOTIF))
    bases = rng.integers(0, 4, (n_nodes, PROMOTER))
    regulators = network.weights.tocsc()
    all_regulators = np.flatnonzero(network.out_degree > 0)
    code = _code_sites(network, settings)
    for node in range(n_nodes):
        source = regulators.indices[regulators.indptr[node] : regulators.indptr[node + 1]]
        sites = source[rng.random(len(source)) < SITE]
        if len(all_regulators):
            sites = np.concatenate([sites, rng.choice(all_regulators, rng.poisson(DECOYS))])
        slots = rng.permutation(PROMOTER // MOTIF)
        for slot, site in zip(slots, sites, strict=False):  # a promoter full of sites drops the rest
            wrong = rng.random(MOTIF) < MISMATCH
            bases[node, slot * MOTIF : (slot + 1) * MOTIF] = np.where(wrong, rng.integers(0, 4, MOTIF), motifs[site])
        for slot, site in zip(slots[len(sites) :], code[node], strict=False):
            bases[node, slot * MOTIF : (slot + 1) * MOTIF] = site
    return {str(symbol): "".join(BASES[row]) for symbol, row in zip(network.genes, bases, strict=True)}


def _code_sites(network: TrueNetwork, settings: WorldSettings) -> list[np.ndarray]:
    """Per node, (site, base): what stands in its promoter of the motifs that genes of one module share.

    Genes that act together answer to common factors that no screen perturbs; here three motifs per module.
    """
    rng = settings.stream("promoter code")
    motifs = rng.integers(0, 4, (network.n_modules, CODE, MOTIF))
    every = motifs.reshape(-1, MOTIF)
    sites = []
    for module in network.module:
        own = motifs[module][rng.random(CODE) < settings.promoter_code]
        n_foreign = rng.poisson(FOREIGN * CODE * settings.promoter_code)
        drawn = np.concatenate([own, every[rng.integers(0, len(every), n_foreign)]])
        drawn = np.where(rng.random((len(drawn), 1)) < 0.5, drawn, 3 - drawn[:, ::-1])  # on either strand
        wrong = rng.random(drawn.shape) < MISMATCH
        sites.append(np.where(wrong, rng.integers(0, 4, drawn.shape), drawn))
    return sites


def prior_graph(network: TrueNetwork, settings: WorldSettings) -> pd.DataFrame:
    """Gene1 (regulator), Gene2, weight in 0 to 1: half of the true edges, and as many false ones, a bit less sure."""
    rng = settings.stream("prior graph")
    edge = network.weights.tocoo()
    kept = np.flatnonzero((rng.random(edge.nnz) < RECALL) & (edge.row != edge.col))
    true = set(zip(edge.row.tolist(), edge.col.tolist(), strict=True))
    n_false = round(len(kept) * (1 - PRECISION) / PRECISION)
    sources = rng.choice(edge.row, n_false) if edge.nnz else np.zeros(0, dtype=np.int64)
    drawn = zip(sources.tolist(), rng.integers(0, len(network.genes), n_false).tolist(), strict=True)
    false = sorted({pair for pair in drawn if pair not in true and pair[0] != pair[1]})
    pairs = [(int(edge.row[place]), int(edge.col[place])) for place in kept] + false
    sure = np.concatenate([rng.beta(4, 3, len(kept)), rng.beta(3, 4, len(false))])
    frame = pd.DataFrame(
        {
            "Gene1": np.array([network.genes[source] for source, _ in pairs], dtype=object),
            "Gene2": np.array([network.genes[target] for _, target in pairs], dtype=object),
            "weight": np.round(np.clip(sure, 0.01, 1.0), 3),
        }
    )
    return frame.sort_values(["Gene1", "Gene2"], ignore_index=True)


def gene_sets(network: TrueNetwork, settings: WorldSettings) -> dict[str, tuple[str, ...]]:
    """Named sets: two samples of each module with foreign members, and decoys of random genes."""
    rng = settings.stream("gene sets")
    sets: dict[str, tuple[str, ...]] = {}
    for module in range(network.n_modules):
        members = np.flatnonzero(network.module == module)
        name = theme_of(module)[0].upper().replace(" ", "_").replace("-", "_")
        for part in ("CORE", "EXTENDED"):
            chosen = members[rng.random(len(members)) < SET_RECALL]
            foreign = rng.integers(0, len(network.genes), round(SET_FOREIGN * len(chosen)))
            sets[f"SIM_{name}_{part}"] = _names(network, np.concatenate([chosen, foreign]))
    for decoy in range(round(SET_DECOYS * len(sets))):
        members = rng.choice(len(network.genes), max(5, len(network.genes) // 30), replace=False)
        sets[f"SIM_UNRELATED_{decoy + 1}"] = _names(network, members)
    return {name: members for name, members in sets.items() if members}


def _names(network: TrueNetwork, nodes: np.ndarray) -> tuple[str, ...]:
    return tuple(sorted({str(network.genes[int(node)]) for node in nodes}))


def embedding(network: TrueNetwork, settings: WorldSettings) -> Float[np.ndarray, "node feature"]:
    """32 features per node, float64: random projections of its module and of what it regulates, plus noise."""
    rng = settings.stream("embedding")
    n_nodes = len(network.genes)
    module = np.eye(network.n_modules)[network.module] @ rng.standard_normal((network.n_modules, FEATURES))
    wiring = network.weights @ rng.standard_normal((n_nodes, FEATURES))
    spread = wiring.std()
    wiring = wiring / spread if spread > 0 else wiring
    signal = np.sqrt(0.8) * module + np.sqrt(0.2) * wiring
    return np.round(signal + EMBEDDING_NOISE * rng.standard_normal((n_nodes, FEATURES)), 4)
