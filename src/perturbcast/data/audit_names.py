"""When two labels mean one condition: another order, another name of a gene, a guide of the same target."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from perturbcast.data.conditions import JOINT, condition_of, targets_of
from perturbcast.data.screen import Screen

ENSEMBL_VERSION = re.compile(r"^(ENS[A-Z]*G\d{11})\.\d+$", re.IGNORECASE)
# A guide's own part of its name. Gene symbols end in -1, .1 or plain digits (NKX2-1, AC010.1), so a number
# alone counts only after an underscore, and a bare g1 only after a capital or a digit (STAT2g2, but not Rag1).
GUIDE_SUFFIX = re.compile(
    r"(_p[A-Z]{1,3}_?\d+"  # plasmid: SPI1_pDS255
    r"|[_\-.](sg|g|guide|grna|sgrna)[_\-]?\d+"  # SPI1_g1, SPI1-sg2, SPI1_guide_1
    r"|[_\-.|][ACGT]{15,}"  # the spacer itself
    r"|_\d{1,2}"  # SPI1_2
    r"|(?<=[A-Z0-9])(sg|g)\d{1,2})$"  # STAT2g2
)


def guide_stem(label: str) -> str:
    """The target of a guide's name; the label itself where it does not look like one."""
    stem = GUIDE_SUFFIX.sub("", label)
    return stem if stem else label


@dataclass(frozen=True)
class Names:
    """What is known of gene names; `measured` are symbols that are never taken for guides."""

    symbol_of: Mapping[str, str] = field(default_factory=dict)  # case-folded name -> symbol
    measured: frozenset[str] = frozenset()

    @staticmethod
    def of(aliases: Mapping[str, str] | None, *, screen: Screen | None) -> "Names":
        """Names from a table of aliases and from the symbols and Ensembl ids of a screen's genes."""
        symbol_of = {}
        if screen is not None and screen.gene_ids is not None:
            symbol_of = {
                str(identifier).casefold(): str(symbol)
                for identifier, symbol in zip(screen.gene_ids, screen.genes, strict=True)
            }
        symbol_of |= {name.casefold(): symbol for name, symbol in (aliases or {}).items()}
        return Names(symbol_of, frozenset() if screen is None else frozenset(map(str, screen.genes)))

    def in_order(self, condition: str) -> str:
        """Targets sorted, `ctrl` dropped."""
        return condition_of(condition.split(JOINT))

    def by_symbol(self, condition: str) -> str:
        """Targets as symbols, without regard to case or Ensembl version."""
        return condition_of([self._symbol(target) for target in targets_of(self.in_order(condition))])

    def by_target(self, condition: str) -> str:
        """Targets as symbols, guides as what they target."""
        return condition_of(list(self.targets(condition)))

    def targets(self, condition: str) -> tuple[str, ...]:
        """The genes acted on, under one name each, sorted."""
        found = {self._symbol(self._stem(target)) for target in targets_of(self.in_order(condition))}
        return tuple(sorted(found))

    def _stem(self, target: str) -> str:
        known = target in self.measured or target.casefold() in self.symbol_of
        return target if known else guide_stem(target)

    def _symbol(self, target: str) -> str:
        bare = ENSEMBL_VERSION.sub(r"\1", target).casefold()
        return self.symbol_of.get(bare, self.symbol_of.get(target.casefold(), bare)).casefold()
