"""E5: models."""

from perturbcast.errors.tree import PerturbcastError


class ModelError(PerturbcastError):
    """A model cannot be made, fitted or used as asked."""

    code = "E500"
    remedy = "See `perturbcast models`."


class UnknownModel(ModelError):
    """No model of that name."""

    code = "E501"
    remedy = "See `perturbcast models`."


class UnknownProfile(ModelError):
    """The model has no profile of that name."""

    code = "E502"
    remedy = "See `perturbcast models`."


class CannotPredict(ModelError):
    """The model has nothing to base a prediction of this query on."""

    code = "E503"
    remedy = "Use a model that can, or give it knowledge of the target (--genes, --networks)."


class NeedsCells(ModelError):
    """The model learns from cells, and the data are responses."""

    code = "E504"
    remedy = "Give it a screen of cells, or choose a model that reads responses."


class NeedsKnowledge(ModelError):
    """The model needs gene tables or networks that were not given."""

    code = "E505"
    remedy = "Pass --genes or --networks."


class NotEnoughTraining(ModelError):
    """Too few training conditions to fit this model."""

    code = "E506"
    remedy = "Use a simpler model, or more conditions."


class BadArtefact(ModelError):
    """A saved model cannot be read: damaged, of another kind, or of a later version."""

    code = "E507"
    remedy = "Fit it again, or install the version named."


class UnknownContext(ModelError):
    """The context was not in training."""

    code = "E508"
    remedy = "Ask for a context of the training data."


class GenesDiffer(ModelError):
    """The genes of two tables that must agree do not."""

    code = "E509"
    remedy = "Use the genes that the model was trained on."


class Diverged(ModelError):
    """The fit gave values that are not finite."""

    code = "E510"
    remedy = "Check the scale of the data, or strengthen the regularisation."


class TrainingDiverged(ModelError):
    """Training came upon a value that is not finite, or the loss left all bounds."""

    code = "E511"
    remedy = "Lower the learning rate or clip gradients; the last good checkpoint is untouched."


class OtherTraining(ModelError):
    """A folder of checkpoints belongs to another training: other data, settings or seed."""

    code = "E512"
    remedy = "Choose another folder, or remove it."


class BadCheckpoint(ModelError):
    """A checkpoint cannot be read: damaged, or of another network."""

    code = "E513"
    remedy = "Remove it and train again."


class NoDevice(ModelError):
    """The devices, precision or logger asked for are not at hand."""

    code = "E514"
    remedy = "Ask for what this machine has, such as --devices 1."


class NotCounts(ModelError):
    """A model of counts was given values that are not whole molecules."""

    code = "E515"
    remedy = "Name the layer that holds the counts with --layer, or choose --set likelihood=normal."


class NoArtefactModel(ModelError):
    """The model does not tell artefacts of cells from effects of perturbations, so it cannot clean cells."""

    code = "E516"
    remedy = "Fit cradle-vae or gpo-vae on a screen in which some cells fail the limits of quality."


class NoPassingCell(ModelError):
    """Every cell fails the limits of quality, so there is none to liken the cleaned ones to."""

    code = "E517"
    remedy = "Look at the labels of quality, or name a column with better ones with --quality."
