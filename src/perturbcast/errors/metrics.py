"""E6: metrics."""

from perturbcast.errors.tree import PerturbcastError


class MetricError(PerturbcastError):
    """A metric cannot be computed."""

    code = "E600"
    remedy = "See the metric's card."


class UnknownMetric(MetricError):
    """No metric of that name."""

    code = "E601"
    remedy = "See docs/METRICS.md."


class MetricNeeds(MetricError):
    """The metric reads something that these data do not have."""

    code = "E602"
    remedy = "Leave it out, or give what it reads."


class UndefinedScore(MetricError):
    """The metric is undefined for these values, such as a correlation without variance."""

    code = "E603"
    remedy = "Nothing to do: the row says so and counts as stated on the card."


class ShapesDiffer(MetricError):
    """Prediction and truth do not have the same queries and genes."""

    code = "E604"
    remedy = "Align them first."
