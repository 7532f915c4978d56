"""networkx, an independent reader and writer of GraphML, agrees with us."""

import pytest
from small_networks import network

from perturbcast.networks.export import load_network, to_networkx, write_network

nx = pytest.importorskip("networkx")


def test_networkx_reads_our_graphml_as_its_own_graph(tmp_path):
    read = nx.read_graphml(write_network(network(), tmp_path / "net.graphml"))
    graph = to_networkx(network())
    assert dict(read.nodes(data=True)) == dict(graph.nodes(data=True))
    assert {(a, b): d for a, b, d in read.edges(data=True)} == {(a, b): d for a, b, d in graph.edges(data=True)}
    assert read.is_directed()


def test_graphml_of_networkx_is_read(tmp_path):
    graph = nx.DiGraph()
    graph.add_edge("A", "B", weight=2.5)
    graph.add_edge("B", "C", weight=1.0)
    nx.write_graphml(graph, tmp_path / "other.graphml")
    edges = load_network(tmp_path / "other.graphml").edges()
    assert edges[["source", "target", "weight"]].to_numpy().tolist() == [["A", "B", 2.5], ["B", "C", 1.0]]
