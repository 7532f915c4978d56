"""What the user may say of a file, checked once."""

from collections.abc import Sequence
from dataclasses import dataclass

from perturbcast.data.scale import Scale
from perturbcast.errors import BadOption, UnknownOption, did_you_mean


@dataclass(frozen=True)
class ReadOptions:
    """The keyword arguments of `perturbcast.read`; None means: find out."""

    perturbation: str | None = None
    control: str | Sequence[str] | None = None
    context: str | None = None
    separator: str | None = None
    layer: str | None = None
    scale: str | None = None
    kind: str | None = None
    genes: str | None = None
    guide_quality: bool = True
    min_cells: int | None = None
    duplicates: str | None = None
    backed: bool | None = None

    def check(self) -> None:
        """Raises UnknownOption or BadOption."""
        known = {
            "scale": [scale.value for scale in Scale],
            "kind": ["cells", "response"],
            "duplicates": ["sum", "first"],
        }
        for name, allowed in known.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                near = did_you_mean(str(value), allowed)
                raise UnknownOption(
                    f"{name} = {str(value)[:60]!r} is not known. {near}", f"Use one of {', '.join(allowed)}."
                )
        if self.min_cells is not None and self.min_cells < 1:
            raise BadOption(f"min_cells = {self.min_cells} is less than 1.")
        if self.separator is not None and not self.separator.strip():
            raise BadOption("The separator is blank.", "Pass the character that stands between targets to --separator.")
        if self.control is not None and not (
            self.control.strip() if isinstance(self.control, str) else list(self.control)
        ):
            raise BadOption("The control label is blank.", "Pass a label of the perturbation column to --control.")
