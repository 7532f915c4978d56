"""When two labels mean one condition: another order, another name of a gene, a guide of the same target."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

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


class Keys(NamedTuple):
    """What a condition's label is called at each level of likeness; equal keys mean the same condition."""

    raw: str
    in_order: str  # targets sorted, `ctrl` dropped
    by_symbol: str  # targets as symbols, without regard to case or Ensembl version
    by_target: str  # guides as what they target
    targets: tuple[str, ...]  # the genes acted on, under one name each, sorted


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

    def keys(self, conditions: Iterable[str]) -> dict[str, Keys]:
        """The keys of each label."""
        found = {}
        for label in set(conditions):
            in_order = condition_of(label.split(JOINT))
            targets = targets_of(in_order)
            acted_on = tuple(sorted({self._symbol(self._stem(target)) for target in targets}))
            by_symbol = condition_of([self._symbol(target) for target in targets])
            found[label] = Keys(label, in_order, by_symbol, condition_of(list(acted_on)), acted_on)
        return found

    def _stem(self, target: str) -> str:
        known = target in self.measured or target.casefold() in self.symbol_of
        return target if known else guide_stem(target)

    def _symbol(self, target: str) -> str:
        bare = ENSEMBL_VERSION.sub(r"\1", target).casefold()
        return self.symbol_of.get(bare, self.symbol_of.get(target.casefold(), bare)).casefold()
