"""CX2, the exchange format of Cytoscape and NDEx, version 2.0: written and read by the published specification.

Source: Cytoscape Exchange Format Specification (Version 2), cytoscape.org/cx/cx2. A document is one JSON list:
descriptor, metadata with the number of elements of each aspect, declarations of attributes before their use, nodes,
edges, status.
"""

from typing import Any

import numpy as np

from perturbcast.errors import BadNetwork
from perturbcast.networks.network import COLUMNS, FLAGS, Network

INTERACTION = {1: "activates", -1: "represses", 0: "regulates"}
SIGN_OF = {name: sign for sign, name in INTERACTION.items()}


def to_cx2(network: Network) -> list[dict[str, Any]]:
    """The network as a CX2 document: genes are nodes with their flags, edges carry weight, interaction and columns.

    A style comes with it: activation ends in an arrow, repression in a bar, perturbed genes are dark.
    """
    attributes = {"name": network.method or "network", "description": network.source, "method": network.method}
    nodes = [_node(network, number) for number in range(network.n_genes)]
    edges = [_edge(network, number) for number in range(network.n_edges)]
    aspects: dict[str, list[Any]] = {
        "attributeDeclarations": [_declarations(network)],
        "networkAttributes": [attributes],
        "nodes": nodes,
        "edges": edges,
        "visualProperties": [_style()],
    }
    metadata = [{"name": name, "elementCount": len(elements)} for name, elements in aspects.items()]
    return [
        {"CXVersion": "2.0", "hasFragments": False},
        {"metaData": metadata},
        *[{name: elements} for name, elements in aspects.items()],
        {"status": [{"success": True}]},
    ]


def _declarations(network: Network) -> dict[str, Any]:
    return {
        "networkAttributes": {name: {"d": "string"} for name in ("name", "description", "method")},
        "nodes": {"name": {"d": "string"}} | {flag: {"d": "boolean"} for flag in FLAGS},
        "edges": {"interaction": {"d": "string"}, "weight": {"d": "double"}, "sign": {"d": "integer"}}
        | {name: {"d": "double"} for name in COLUMNS if name in network.columns},
    }


def _node(network: Network, number: int) -> dict[str, Any]:
    flags = {flag: bool(getattr(network, flag)[number]) for flag in FLAGS}
    return {"id": number, "v": {"name": str(network.genes[number]), **flags}}


def _edge(network: Network, number: int) -> dict[str, Any]:
    sign = int(network.sign[number])
    values: dict[str, Any] = {
        "interaction": INTERACTION[sign],
        "weight": float(network.weight[number]),
        "sign": sign,
    }
    # JSON has no NaN: an unknown value is an attribute that is not there
    values |= {name: float(of[number]) for name, of in network.columns.items() if np.isfinite(of[number])}
    start, end = int(network.source_code[number]), int(network.target_code[number])
    return {"id": number, "s": start, "t": end, "v": values}


def _style() -> dict[str, Any]:
    arrow = {
        "attribute": "interaction",
        "type": "string",
        "map": [
            {"v": "activates", "vp": "triangle"},
            {"v": "represses", "vp": "tee"},
            {"v": "regulates", "vp": "open"},
        ],
    }
    fill = {
        "attribute": "is_perturbed",
        "type": "boolean",
        "map": [{"v": True, "vp": "#0B7285"}, {"v": False, "vp": "#9FB3C8"}],
    }
    return {
        "default": {
            "network": {"NETWORK_BACKGROUND_COLOR": "#FFFFFF"},
            "node": {"NODE_SHAPE": "round-rectangle", "NODE_BACKGROUND_COLOR": "#9FB3C8", "NODE_LABEL_FONT_SIZE": 12},
            "edge": {"EDGE_LINE_COLOR": "#7B8794", "EDGE_TARGET_ARROW_SHAPE": "triangle", "EDGE_WIDTH": 1.5},
        },
        "nodeMapping": {
            "NODE_LABEL": {"type": "PASSTHROUGH", "definition": {"attribute": "name", "type": "string"}},
            "NODE_BACKGROUND_COLOR": {"type": "DISCRETE", "definition": fill},
        },
        "edgeMapping": {"EDGE_TARGET_ARROW_SHAPE": {"type": "DISCRETE", "definition": arrow}},
    }


def from_cx2(document: Any) -> Network:
    """The network of a CX2 document, of ours or of others: aliases and default values are resolved.

    Weights default to 1 where edges have none. BadNetwork where the document is no CX2, is not complete or names nodes
    that it does not have.
    """
    if not (isinstance(document, list) and document and isinstance(document[0], dict) and "CXVersion" in document[0]):
        raise BadNetwork("The file is no CX2 document: it does not start with its descriptor.", "Export it as CX2.")
    if not str(document[0]["CXVersion"]).startswith("2."):
        raise BadNetwork(f"The file is CX version {document[0]['CXVersion']}.", "Export it as CX2.")
    aspects: dict[str, list[Any]] = {}
    for block in document[1:]:
        for name, elements in block.items():
            aspects.setdefault(name, []).extend(elements)
    if not aspects.get("status") or not aspects["status"][-1].get("success"):
        raise BadNetwork("The CX2 document ends without the status that says it is complete.", "Export it again.")
    try:
        return _of_aspects(aspects)
    except (KeyError, TypeError, ValueError) as error:
        raise BadNetwork(f"The CX2 document is damaged: {error!r}.", "Export it again.") from error


def _of_aspects(aspects: dict[str, list[Any]]) -> Network:
    declared: dict[str, Any] = {}
    for declaration in aspects.get("attributeDeclarations", []):
        declared |= declaration
    nodes = [(node["id"], _values(node, declared.get("nodes", {}))) for node in aspects.get("nodes", [])]
    edges = [(edge["s"], edge["t"], _values(edge, declared.get("edges", {}))) for edge in aspects.get("edges", [])]
    place = {identifier: number for number, (identifier, _) in enumerate(nodes)}
    about = (aspects.get("networkAttributes") or [{}])[0]
    interaction = [SIGN_OF.get(values.get("interaction", ""), 0) for _, _, values in edges]
    present = {name for _, _, values in edges for name in values}
    flags = {flag: np.array([bool(values.get(flag, flag == "is_measured")) for _, values in nodes]) for flag in FLAGS}
    if not any("is_perturbed" in values for _, values in nodes):
        del flags["is_perturbed"]
    return Network.of_edges(
        [str(values.get("name", identifier)) for identifier, values in nodes],
        np.array([place[start] for start, _, _ in edges], dtype=np.int64),
        np.array([place[end] for _, end, _ in edges], dtype=np.int64),
        np.array([float(values.get("weight", 1.0)) for _, _, values in edges]),
        sign=np.array([values.get("sign", sign) for (_, _, values), sign in zip(edges, interaction, strict=True)]),
        columns={
            name: np.array([values.get(name, np.nan) for _, _, values in edges], dtype=np.float64)
            for name in COLUMNS
            if name in present
        },
        **flags,
        method=str(about.get("method", about.get("name", ""))),
        source=str(about.get("description", "")),
    )


def _values(element: dict[str, Any], declared: dict[str, Any]) -> dict[str, Any]:
    """Attributes by their full names, those left out at their declared default."""
    full = {entry["a"]: name for name, entry in declared.items() if "a" in entry}
    defaults = {name: entry["v"] for name, entry in declared.items() if "v" in entry}
    return defaults | {full.get(name, name): value for name, value in element.get("v", {}).items()}
