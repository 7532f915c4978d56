"""The parts of the simulated world: network, kinetics, expectation, cells, annotations, store. Use `data.simulate`."""
