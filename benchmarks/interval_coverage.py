"""How often the 95 % intervals of `summarise` hold the true mean, over simulated score tables.

Singles: independent scores. Doubles: a pair's score is the sum of an effect of each gene and one of its own; `gene
share` is the part of the variance that genes explain. Pairs are those of a random graph, as sparse as in real screens.
Shapes: normal, skewed (log-normal, skewness 1.75), very skewed (log-normal, skewness 6.2), bounded (beta(5, 1), like a
correlation near its limit), standardised. Besides the mean, the paired difference of two models whose scores share a
difficulty per condition is covered. `plain` is the percentile interval of the gene bootstrap, for comparison.

Run: python benchmarks/interval_coverage.py [--repeats 2000]     (about 3 minutes)
"""

import argparse

import numpy as np

from perturbcast.benchmarking.intervals import draw_resamples, mean_interval

N_BOOTSTRAP = 500
PER_DESIGN = 50  # score tables that share their pairs and resamples
SINGLES = (20, 50, 100, 200)
DOUBLES = ((20, 25), (40, 40), (50, 62), (70, 124), (60, 200))  # genes, pairs
GENE_SHARES = (0.0, 0.2, 0.5, 0.8)


def lognormal(sigma):
    """A generator of standardised log-normal numbers."""
    mean, variance = np.exp(sigma**2 / 2), (np.exp(sigma**2) - 1) * np.exp(sigma**2)
    return lambda generator, size: (generator.lognormal(0, sigma, size) - mean) / np.sqrt(variance)


SHAPES = {
    "normal": lambda generator, size: generator.normal(size=size),
    "skewed": lognormal(0.5),
    "very skewed": lognormal(1.0),
    "bounded": lambda generator, size: (generator.beta(5, 1, size) - 5 / 6) / np.sqrt(5 / 252),
}


def singles(n):
    """n conditions of one target."""
    return [f"G{row}" for row in range(n)]


def doubles(n_genes, n_pairs, generator):
    """Distinct pairs of genes, drawn at random."""
    first, second = np.triu_indices(n_genes, 1)
    chosen = generator.choice(len(first), n_pairs, replace=False)
    return [f"G{first[row]:03d}+G{second[row]:03d}" for row in sorted(chosen)]


def scores(resamples, shape, share, generator):
    """(condition, repeat) scores with mean 0 and variance 1, of which genes explain `share`."""
    n_conditions, n_genes = resamples.genes_of.shape
    own = SHAPES[shape](generator, (n_conditions, PER_DESIGN)) * np.sqrt(1 - share)
    if not share:
        return own
    return own + resamples.genes_of @ SHAPES[shape](generator, (n_genes, PER_DESIGN)) * np.sqrt(share / 2)


def covered(values, resamples):
    """(repeat,) whether the interval, and whether the plain percentile interval, holds 0."""
    found = mean_interval(values, np.ones_like(values), resamples)
    weight = resamples.weight / np.maximum(resamples.weight.sum(axis=0), 1.0)
    low, high = np.quantile(weight.T @ values, [0.025, 0.975], axis=0)
    return (found.low <= 0) & (found.high >= 0), (low <= 0) & (high >= 0)


def coverage(make_conditions, shape, share, *, repeats, seed):
    """Coverage of the mean, of a paired difference, and of the plain percentile interval, in %."""
    generator = np.random.default_rng(seed)
    hits = {"mean": [], "difference": [], "plain": []}
    for design in range(repeats // PER_DESIGN):
        resamples = draw_resamples(make_conditions(generator), n_bootstrap=N_BOOTSTRAP, seed=design)
        difficulty = scores(resamples, shape, share, generator)
        ours, theirs = (scores(resamples, shape, share, generator) for _ in range(2))
        mean, plain = covered(ours, resamples)
        difference, _ = covered((difficulty + 0.5 * ours) - (difficulty + 0.5 * theirs), resamples)
        for name, hit in (("mean", mean), ("difference", difference), ("plain", plain)):
            hits[name].append(hit)
    return {name: 100 * float(np.mean(hit)) for name, hit in hits.items()}


def main():
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000)
    repeats = parser.parse_args().repeats
    designs = [(f"{n} singles", lambda _, n=n: singles(n), (0.0,)) for n in SINGLES]
    designs += [
        (f"{n_pairs} doubles of {n_genes} genes", lambda g, a=n_genes, b=n_pairs: doubles(a, b, g), GENE_SHARES)
        for n_genes, n_pairs in DOUBLES
    ]
    print("| conditions | shape | gene share | mean | difference | plain |\n|---|---|---|---|---|---|")
    every = []
    for name, make_conditions, shares in designs:
        for shape in SHAPES:
            for share in shares:
                found = coverage(make_conditions, shape, share, repeats=repeats, seed=len(every))
                every.append(found)
                shown = " | ".join(f"{found[kind]:.1f}" for kind in ("mean", "difference", "plain"))
                print(f"| {name} | {shape} | {share:g} | {shown} |", flush=True)
    for kind in ("mean", "difference", "plain"):
        values = np.array([found[kind] for found in every])
        inside = np.mean((values >= 93) & (values <= 97))
        print(f"\n{kind}: average {values.mean():.1f} %, {inside:.0%} of the rows between 93 and 97 %", end="")
    print()


if __name__ == "__main__":
    main()
