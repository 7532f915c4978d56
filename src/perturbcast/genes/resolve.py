"""Which gene a name means: symbol, Ensembl id, alias or previous symbol, or only the capitals differ."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd

from perturbcast.genes.knowledge import GeneTable

ENSEMBL_ID = re.compile(r"(ENS[A-Z]*G\d{6,})(\.\d+)?(_PAR_Y)?")


class Resolved(NamedTuple):
    """The current symbol of a name and how it was found: symbol, ensembl, alias or case."""

    symbol: str
    route: str


@dataclass(frozen=True)
class Resolution:
    """What became of many names; nothing is dropped."""

    frame: pd.DataFrame  # columns name, symbol ("" where unresolved), route ("", or ambiguous)
    ambiguous: dict[str, tuple[str, ...]] = field(default_factory=dict)  # name -> symbols it may mean

    @property
    def unresolved(self) -> tuple[str, ...]:
        """Names that mean no gene, or several."""
        return tuple(self.frame.loc[self.frame["symbol"] == "", "name"])

    def summary(self) -> str:
        """How many names went which way, in one line."""
        routes = Counter(self.frame["route"].replace("", "unresolved"))
        return ", ".join(
            f"{number:,} by {route}" if route != "unresolved" else f"{number:,} unresolved"
            for route, number in routes.most_common()
        )


class Resolver:
    """Current symbols of gene names by a gene table. Ambiguous aliases are refused, not guessed.

    Order of the routes: symbol, Ensembl id (without version), alias or previous symbol, and last any of the symbols and
    aliases in other capitals. A gene without symbol goes by its Ensembl id. Source: spec D-15.
    """

    def __init__(self, table: GeneTable) -> None:
        frame = table.frame
        current = [symbol or ident for symbol, ident in zip(frame["symbol"], frame["ensembl_id"], strict=True)]
        self._symbols = set(current)
        self._by_ensembl: dict[str, str] = {}
        for ident, symbol in zip(frame["ensembl_id"], current, strict=True):
            if ident:
                self._by_ensembl.setdefault(without_version(ident), symbol)
        self._by_alias: dict[str, str | tuple[str, ...]] = {}
        for aliases, symbol in zip(frame["aliases"], current, strict=True):
            for alias in aliases:
                _claim(self._by_alias, alias, symbol)
        self._by_folded: dict[str, str | tuple[str, ...]] = {}
        for symbol in self._symbols:
            _claim(self._by_folded, symbol.casefold(), symbol)
        self._by_folded_alias: dict[str, str | tuple[str, ...]] = {}
        for alias, meant in self._by_alias.items():
            for symbol in (meant,) if isinstance(meant, str) else meant:
                _claim(self._by_folded_alias, alias.casefold(), symbol)

    def resolve(self, name: str) -> Resolved | None:
        """The gene a name means, or None where it means none or several."""
        name = name.strip()
        if name in self._symbols:
            return Resolved(name, "symbol")
        by_id = self._by_ensembl.get(without_version(name))
        if by_id is not None:
            return Resolved(by_id, "ensembl")
        for names, key, route in self._routes(name):
            meant = names.get(key)
            if meant is not None:
                return Resolved(meant, route) if isinstance(meant, str) else None
        return None

    def meanings(self, name: str) -> tuple[str, ...]:
        """The symbols that an ambiguous name may mean, sorted; empty where it is not ambiguous."""
        if self.resolve(name) is None:
            for names, key, _ in self._routes(name.strip()):
                meant = names.get(key)
                if isinstance(meant, tuple):
                    return tuple(sorted(meant))
        return ()

    def resolve_all(self, names: Iterable[str]) -> Resolution:
        """What each name means, in the order given."""
        names = [str(name) for name in names]
        found = {name: self.resolve(name) for name in dict.fromkeys(names)}
        ambiguous = {name: meant for name, hit in found.items() if hit is None and (meant := self.meanings(name))}
        rows = []
        for name in names:
            hit = found[name]
            rows.append((name, *hit) if hit else (name, "", "ambiguous" if name in ambiguous else ""))
        return Resolution(pd.DataFrame(rows, columns=["name", "symbol", "route"], dtype=object), ambiguous)

    def _routes(self, name: str) -> tuple[tuple[dict[str, str | tuple[str, ...]], str, str], ...]:
        folded = name.casefold()
        return (
            (self._by_alias, name, "alias"),
            (self._by_folded, folded, "case"),
            (self._by_folded_alias, folded, "case"),
        )


class Naming:
    """Names of files brought to the naming of a screen: what the screen calls a gene, else its current symbol.

    Names in small letters are not matched by case: `tat` in a pathway is a gene of HIV, not human TAT.
    """

    def __init__(self, resolver: Resolver | None, at_hand: Iterable[str]) -> None:
        self._resolver = resolver
        own = list(dict.fromkeys(at_hand))
        self._own = set(own)
        self._by_folded: dict[str, str | tuple[str, ...]] = {}
        self._by_symbol: dict[str, str] = {}
        for name in own:
            _claim(self._by_folded, name.casefold(), name)
            hit = resolver.resolve(name) if resolver else None
            if hit is not None and hit.symbol not in self._own:
                self._by_symbol.setdefault(hit.symbol, name)
        self._known: dict[str, Resolved] = {}

    def name(self, raw: str) -> Resolved:
        """The screen's name of a gene, or its current symbol, or the name itself (route `kept`)."""
        hit = self._known.get(raw)
        if hit is None:
            hit = self._known[raw] = self._find(raw)
        return hit

    def _find(self, raw: str) -> Resolved:
        if raw in self._own:
            return Resolved(raw, "symbol")
        hit = self._resolver.resolve(raw) if self._resolver else None
        if hit is not None and not (hit.route == "case" and raw.islower()):
            return Resolved(self._by_symbol.get(hit.symbol, hit.symbol), hit.route)
        stripped = without_version(raw)
        if stripped in self._own:
            return Resolved(stripped, "ensembl")
        by_case = None if raw.islower() else self._by_folded.get(raw.casefold())
        return Resolved(by_case, "case") if isinstance(by_case, str) else Resolved(raw, "kept")


def without_version(name: str) -> str:
    """An Ensembl gene id without its version; other names unchanged."""
    match = ENSEMBL_ID.fullmatch(name)
    return match[1] if match else name


def _claim(names: dict[str, str | tuple[str, ...]], name: str, symbol: str) -> None:
    """Notes that a name means a symbol; a name of several symbols keeps them all."""
    meant = names.setdefault(name, symbol)
    if isinstance(meant, str):
        if meant != symbol:
            names[name] = (meant, symbol)
    elif symbol not in meant:
        names[name] = (*meant, symbol)
