"""GraphML, read by Cytoscape, Gephi, yEd, igraph and networkx: typed keys, one node per gene, one edge per edge."""

from xml.etree import ElementTree

import numpy as np

from perturbcast.errors import BadNetwork
from perturbcast.networks.network import COLUMNS, FLAGS, Network

SPACE = "http://graphml.graphdrawing.org/xmlns"
ABOUT = ("method", "source")


def to_graphml(network: Network) -> str:
    """The network as GraphML text; unknown values of a column are left out."""
    root = ElementTree.Element("graphml", xmlns=SPACE)
    numbers = ("weight", *[name for name in COLUMNS if name in network.columns])
    keys = [("graph", name, "string") for name in ABOUT]
    keys += [("node", flag, "boolean") for flag in FLAGS]
    keys += [("edge", name, "double") for name in numbers] + [("edge", "sign", "int")]
    for domain, name, kind in keys:
        attributes = {"id": f"{domain}_{name}", "for": domain, "attr.name": name, "attr.type": kind}
        ElementTree.SubElement(root, "key", attributes)
    graph = ElementTree.SubElement(root, "graph", edgedefault="directed")
    for name in ABOUT:
        _data(graph, f"graph_{name}", getattr(network, name))
    for number, gene in enumerate(network.genes):
        node = ElementTree.SubElement(graph, "node", id=str(gene))
        for flag in FLAGS:
            _data(node, f"node_{flag}", str(bool(getattr(network, flag)[number])).lower())
    values = {name: network.column(name) for name in numbers}
    for number in range(network.n_edges):
        start, end = network.genes[network.source_code[number]], network.genes[network.target_code[number]]
        edge = ElementTree.SubElement(graph, "edge", source=str(start), target=str(end))
        _data(edge, "edge_sign", str(int(network.sign[number])))
        for name, of in values.items():
            if np.isfinite(of[number]):
                _data(edge, f"edge_{name}", repr(float(of[number])))
    ElementTree.indent(root)
    return "<?xml version='1.0' encoding='utf-8'?>\n" + ElementTree.tostring(root, encoding="unicode")


def _data(parent: ElementTree.Element, key: str, text: str) -> None:
    ElementTree.SubElement(parent, "data", key=key).text = text


def from_graphml(text: bytes) -> Network:
    """The network of GraphML, of ours or of others; weight 1 where edges have none. BadNetwork where it is damaged."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise BadNetwork(f"The file is no XML ({error}).", "Export it again.") from error
    graph = root.find(f"{{{SPACE}}}graph")
    if graph is None:
        raise BadNetwork("The file is no GraphML.", "Export it again.")
    names = {str(key.get("id")): str(key.get("attr.name")) for key in root.iter(f"{{{SPACE}}}key")}
    nodes = {str(node.get("id")): _values(node, names) for node in graph.iter(f"{{{SPACE}}}node")}
    edges = list(graph.iter(f"{{{SPACE}}}edge"))
    try:
        return _of_elements(_values(graph, names), nodes, edges, names)
    except (KeyError, ValueError) as error:
        raise BadNetwork(f"The GraphML is damaged: {error!r}.", "Export it again.") from error


def _of_elements(
    about: dict[str, str], nodes: dict[str, dict[str, str]], edges: list[ElementTree.Element], names: dict[str, str]
) -> Network:
    place = {gene: number for number, gene in enumerate(nodes)}
    values = [_values(edge, names) for edge in edges]
    flags = {
        flag: np.array([of.get(flag, str(flag == "is_measured")).lower() == "true" for of in nodes.values()])
        for flag in FLAGS
    }
    if not any("is_perturbed" in of for of in nodes.values()):
        del flags["is_perturbed"]
    return Network.of_edges(
        list(nodes),
        np.array([place[str(edge.get("source"))] for edge in edges], dtype=np.int64),
        np.array([place[str(edge.get("target"))] for edge in edges], dtype=np.int64),
        np.array([float(of.get("weight", 1.0)) for of in values]),
        sign=np.array([float(of.get("sign", 0)) for of in values]),
        columns={
            name: np.array([float(of.get(name, "nan")) for of in values])
            for name in COLUMNS
            if any(name in of for of in values)
        },
        **flags,
        method=about.get("method", ""),
        source=about.get("source", ""),
    )


def _values(element: ElementTree.Element, names: dict[str, str]) -> dict[str, str]:
    """The data of an element itself, not of what it holds, by the names of their keys."""
    found = element.findall(f"{{{SPACE}}}data")
    return {names[str(data.get("key"))]: data.text or "" for data in found}
