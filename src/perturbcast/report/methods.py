"""What the page of a benchmark says of its methods: a paragraph each."""

METHODS = (
    "Every model sees only the training side of a split. Cells are averaged per condition before anything is scored; "
    "control cells of the same context are subtracted, so a response of 0 means no change. The reference of the "
    "perturbed-reference metrics is the mean response of the training conditions, one vote each.",
    "Intervals are 95 % bootstrap intervals over conditions; for doubles the bootstrap resamples genes, because those "
    "that share a gene are not independent. Seeds and folds are nested inside conditions. A verdict compares a model "
    "with the best of the other simple baselines on the queries that both answered: better or worse if the interval of "
    "the paired difference excludes 0, otherwise undecided.",
    "L2 error is the Euclidean distance between predicted and observed response over all genes. Pearson Δ is the "
    "correlation of predicted and observed response; against mean, after the mean training response was taken from "
    "both, which leaves what is special about a perturbation. Discrimination (PDS, cosine, mid-rank) asks whether a "
    "prediction is nearer to its own truth than to the truths of the other held-out perturbations: 0.5 is chance, 1 "
    "perfect.",
    "The floor is what the better of no change and the mean response reaches, with no knowledge of which gene was "
    "perturbed. The ceiling is the best of three: `ceiling:perfect`, what a model without error would score against "
    "these noisy means; `ceiling:duplicate`, half of the cells scored against the other half; `ceiling:interpolated`, "
    "that half drawn to the mean where it shows no effect. Data without cells have `ceiling:other-genes` instead: each "
    "tenth of the genes predicted from the other nine tenths of the same measured response. It has seen the answer, so "
    "no model of perturbations has to reach it; a model without error would, if noise is independent between genes. "
    "Where such responses hide the counts they were made of, `ceiling:counting` is what a model without error would "
    "score if counting were the only noise; the noise lies between the two.",
)
