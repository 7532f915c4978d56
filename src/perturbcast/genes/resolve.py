"""Which gene a name means: symbol, Ensembl id, alias or previous symbol, or only the capitals differ."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd

from perturbcast.errors import AmbiguousGeneName, UnknownGeneName
from perturbcast.genes.knowledge import GeneTable

ENSEMBL_ID = re.compile(r"(ENS[A-Z]*G\d{6,})(\.\d+)?(_PAR_Y)?")


class Resolved(NamedTuple):
    """The current symbol of a name and how it was found: symbol, ensembl, alias or case."""

    symbol: str
    route: str


@dataclass(frozen=True)
class Resolution:
    """What became of many names; nothing is dropped."""

    frame: pd.DataFrame  # columns name, symbol ("" where unresolved), route ("", or ambiguous), reason ("" or coded)
    ambiguous: dict[str, tuple[str, ...]] = field(default_factory=dict)  # name -> symbols it may mean

    @property
    def unresolved(self) -> tuple[str, ...]:
        """Names that mean no gene, or several."""
        return tuple(self.frame.loc[self.frame["symbol"] == "", "name"])

    @property
    def reasons(self) -> dict[str, str]:
        """Unresolved name -> why, with a stable code: E808 no gene, E809 several."""
        left = self.frame[self.frame["symbol"] == ""]
        return dict(zip(left["name"], left["reason"], strict=True))

    def summary(self) -> str:
        """How many names went which way, in one line."""
        said = {"": "unresolved", "ambiguous": "ambiguous"}
        routes = Counter(said.get(route, f"by {route}") for route in self.frame["route"])
        return ", ".join(f"{number:,} {route}" for route, number in routes.most_common())


class Resolver:
    """Current symbols of gene names by a gene table. Ambiguous aliases are refused, not guessed.

    Order of the routes: symbol, Ensembl id (without version), alias or previous symbol, and last any of the symbols and
    aliases in other capitals. A gene without symbol goes by its Ensembl id. Source: spec D-15.
    """

    def __init__(self, table: GeneTable) -> None:
        frame = table.frame
        current = [symbol or ident for symbol, ident in zip(frame["symbol"], frame["ensembl_id"], strict=True)]
        symbols = dict.fromkeys(current)
        aliases = [(name, symbol) for names, symbol in zip(frame["aliases"], current, strict=True) for name in names]
        by_alias, ambiguous = _meanings(aliases)
        self._ambiguous = {name: meant for name, meant in ambiguous.items() if name not in symbols}
        by_case, _ = _meanings((symbol.casefold(), symbol) for symbol in symbols)
        by_alias_case, _ = _meanings((name.casefold(), symbol) for name, symbol in aliases)
        ids = zip(frame["ensembl_id"], current, strict=True)
        by_id = {ident.partition(".")[0]: Resolved(symbol, "ensembl") for ident, symbol in reversed(list(ids)) if ident}
        self._by_name = {name: Resolved(symbol, "alias") for name, symbol in by_alias.items() if symbol}
        self._by_name |= by_id | {symbol: Resolved(symbol, "symbol") for symbol in symbols}
        folded = by_alias_case | by_case
        self._by_case = {name: Resolved(symbol, "case") for name, symbol in folded.items() if symbol}

    def resolve(self, name: str) -> Resolved | None:
        """The gene a name means, or None where it means none or several."""
        return self.resolve_each([name])[0]

    def resolve_each(self, names: Iterable[str]) -> list[Resolved | None]:
        """The gene each name means, or None where it means none or several."""
        found = []
        for name in names:
            name = name.strip()
            hit = self._by_name.get(name)
            if hit is None and name[:3].upper() == "ENS":
                hit = self._by_name.get(without_version(name.upper()))
            if hit is None and name not in self._ambiguous:
                hit = self._by_case.get(name.casefold())
            found.append(hit)
        return found

    def meanings(self, name: str) -> tuple[str, ...]:
        """The symbols that an ambiguous alias may mean, sorted; empty where a name is not ambiguous."""
        return tuple(sorted(self._ambiguous.get(name.strip(), ()))) if self.resolve(name) is None else ()

    def resolve_all(self, names: Iterable[str]) -> Resolution:
        """What each name means, in the order given."""
        names = [str(name) for name in names]
        rows, ambiguous = [], {}
        for name, hit in zip(names, self.resolve_each(names), strict=True):
            several = hit is None and name.strip() in self._ambiguous
            if several:
                ambiguous[name] = self.meanings(name)
            left = (name, "", "ambiguous" if several else "", _reason(name, ambiguous.get(name, ())))
            rows.append((name, *hit, "") if hit else left)
        frame = pd.DataFrame(rows, columns=["name", "symbol", "route", "reason"], dtype=object)
        return Resolution(frame, ambiguous)


def _reason(name: str, meanings: tuple[str, ...]) -> str:
    """Why a name is no gene, as a coded error would say it."""
    if meanings:
        return str(AmbiguousGeneName(f"{name!r} may mean {' or '.join(meanings)}."))
    if not name.strip():
        return str(UnknownGeneName("the name is empty."))
    return str(UnknownGeneName(f"no gene is called {name!r}."))


class Naming:
    """Names of files brought to the naming of a screen: what the screen calls a gene, else its current symbol.

    Names in small letters are not matched by case: `tat` in a pathway is a gene of HIV, not human TAT.
    """

    def __init__(self, resolver: Resolver | None, at_hand: Iterable[str]) -> None:
        self._resolver = resolver
        own = list(dict.fromkeys(at_hand))
        self._own = {name: Resolved(name, "symbol") for name in own}
        by_case, _ = _meanings((name.casefold(), name) for name in own)
        self._by_case = {folded: Resolved(name, "case") for folded, name in by_case.items() if name}
        self._by_symbol: dict[str, str] = {}
        for name, hit in zip(own, resolver.resolve_each(own) if resolver else [None] * len(own), strict=True):
            if hit is not None and hit.symbol not in self._own:
                self._by_symbol.setdefault(hit.symbol, name)

    def name(self, raw: str) -> Resolved:
        """The screen's name of a gene, or its current symbol, or the name itself (route `kept`)."""
        return self.name_each([raw])[0]

    def name_each(self, raws: Iterable[str]) -> list[Resolved]:
        """As `name`, of many names."""
        raws = list(raws)
        resolved = self._resolver.resolve_each(raws) if self._resolver else [None] * len(raws)
        named = []
        for raw, hit in zip(raws, resolved, strict=True):
            if raw in self._own:
                named.append(self._own[raw])
            elif hit is not None and not (hit.route == "case" and raw.islower()):
                named.append(Resolved(self._by_symbol.get(hit.symbol, hit.symbol), hit.route))
            elif raw.startswith("ENS") and (stripped := without_version(raw)) in self._own:
                named.append(Resolved(stripped, "ensembl"))
            elif not raw.islower() and (by_case := self._by_case.get(raw.casefold())) is not None:
                named.append(by_case)
            else:
                named.append(Resolved(raw, "kept"))
        return named


def without_version(name: str) -> str:
    """An Ensembl gene id without its version; other names unchanged."""
    match = ENSEMBL_ID.fullmatch(name)
    return match[1] if match else name


def _meanings(pairs: Iterable[tuple[str, str]]) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Name -> the one symbol it means, "" where there are several; and name -> symbols for those."""
    one: dict[str, str] = {}
    several: dict[str, set[str]] = {}
    for name, symbol in pairs:
        meant = one.setdefault(name, symbol)
        if meant != symbol:
            several.setdefault(name, {meant} if meant else set()).add(symbol)
            one[name] = ""
    return one, several
