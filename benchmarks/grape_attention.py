"""Time and memory of graph attention edge by edge and over all pairs (spec A.9 ii), by share of pairs that are edges.

Run: python benchmarks/grape_attention.py [--genes 1000 --width 32 --heads 4]      (two minutes on one core)
Each row is a forward and backward pass of one relation, the best of three, in a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

SHARES = (0.02, 0.1, 0.3, 0.5, 1.0)
FORMS = {"v2": ("edges",), "v1": ("edges", "pairs")}  # all pairs are for the first version alone


def measured(version, form, share, *, genes, width, heads):
    """Processor seconds of a pass, and the memory that it adds to the process at its peak."""
    import torch

    from perturbcast.nn.grape_dense import dense_received
    from perturbcast.nn.grape_gat import BiasedGATv2, PlainGAT

    torch.set_num_threads(1)
    torch.manual_seed(0)
    conv = (BiasedGATv2 if version == "v2" else PlainGAT)(width, width, n_heads=heads, concat=False, dropout=0.0)
    edges = torch.nonzero(torch.rand(genes, genes) <= share).T.contiguous()
    states = torch.randn(genes, width, requires_grad=True)
    bias = torch.zeros(edges.shape[1], requires_grad=True)
    before, best = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, float("inf")
    for _ in range(3):
        start = time.process_time()
        given = (conv.sent(states), conv.asked(states), edges, bias)
        out = conv.received(*given) if form == "edges" else dense_received(conv, *given)
        out.square().sum().backward()
        best = min(best, time.process_time() - start)
    return {"s": round(best, 3), "MB": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3)}


def main():
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("genes", 1000), ("width", 32), ("heads", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--here", nargs=3, help="version, form and share: in this process, as JSON")
    asked = parser.parse_args()
    sizes = {"genes": asked.genes, "width": asked.width, "heads": asked.heads}
    if asked.here:
        version, form, share = asked.here
        print(json.dumps(measured(version, form, float(share), **sizes)))
        return
    print("| attention | share of pairs | edges: s, MB | all pairs: s, MB |")
    print("|---|---|---|---|")
    for version in ("v2", "v1"):
        for share in SHARES:
            found = []
            for form in FORMS[version]:
                command = [sys.executable, __file__, "--here", version, form, str(share)]
                command += [f"--{name}={size}" for name, size in sizes.items()]
                found.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))
            shown = [f"{one['s']}, {one['MB']}" for one in found] + ["–"] * (2 - len(found))
            print(f"| {'GATv2' if version == 'v2' else 'GAT'} | {share:.0%} | {shown[0]} | {shown[1]} |", flush=True)


if __name__ == "__main__":
    main()
