"""Fit the additive model with one kappa on singles and doubles, and predict pairs that were never tried."""

import perturbcast


def main() -> None:
    """Fits on a simulated screen and prints the strongest predicted gene of a few unseen pairs."""
    world = perturbcast.simulate(n_cells=3000, n_genes=200, n_targets=30, n_doubles=12, seed=0)
    training = perturbcast.TrainingData.of(world.screen)
    fitted = perturbcast.get_model("kappa-additive").fit(training, seed=0)
    first, second, third = training.responses.targets[:3]
    prediction = fitted.predict([f"{first}+{second}", f"{second}+{third}", "NOT_A_GENE"])
    table = prediction.to_anndata()
    for row, condition in enumerate(table.obs.condition):
        if table.obs.reason.iloc[row]:
            print(f"{condition}: {table.obs.reason.iloc[row]}")
            continue
        response = table.layers["response"][row]
        strongest = abs(response).argmax()
        print(f"{condition}: {table.var_names[strongest]} {response[strongest]:+.2f} ({table.obs.support.iloc[row]})")


if __name__ == "__main__":
    main()
