"""The studies: what a model loses with its parts, and with spoilt graphs; their tables and figures."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from perturbcast.benchmarking import gene_maps as gene_map_module
from perturbcast.benchmarking.gene_maps import gene_map, gene_maps, read_maps, require_layout, separation
from perturbcast.benchmarking.plan import NamedModel
from perturbcast.benchmarking.run import benchmark
from perturbcast.benchmarking.studies import (
    INTACT,
    SHOWN,
    ablate,
    ablations_of,
    conditions,
    degrade,
    spoilt,
    studied,
    with_graphs,
)
from perturbcast.errors import BadOption, MissingExtra, NeedsKnowledge, NotABenchmark
from perturbcast.genes.knowledge import GeneKnowledge, GeneTable
from perturbcast.metrics.base import all_metrics
from perturbcast.models.check_world import check_world
from perturbcast.models.registry import all_models, get_model
from perturbcast.report.build import build_report
from perturbcast.report.study_figures import DIRECTION, PEARSON, biotype_maps, violins, write_figure
from perturbcast.report.study_files import write_study, write_violins


@pytest.fixture(scope="module")
def training():
    return check_world().training


def test_every_ablation_of_a_card_is_a_model_of_its_own_name_and_differs_from_the_whole():
    for name, model in all_models().items():
        if not model.card.ablations:
            continue
        for profile in (name, f"{name}:paper"):
            found = ablations_of(profile)
            labels = [named.label for named in found]
            assert len(set(labels)) == len(labels)
            assert all(label.startswith(f"{found[0].label}, ") for label in labels[1:])
            assert all(named.model != found[0].model for named in found[1:])
            if profile == name:
                assert len(labels) == len(model.card.ablations) + 1


def test_parts_that_a_profile_lacks_are_not_taken_away():
    for profile in ("grape:paper", "grape:code"):
        labels = {named.label.removeprefix(f"{profile}, ") for named in ablations_of(profile)}
        assert not labels & {"nothing sent", "no prior graphs"}
        assert {"text only", "sequence only", "fusion only", "no structure learning", "no biotypes"} < labels


def test_model_without_parts_is_refused():
    with pytest.raises(BadOption, match="nothing that can be taken away"):
        ablations_of("mean")


def test_degrading_compares_spoilt_graphs_with_the_intact_one(training, tmp_path):
    asked = {"model": "kernel-ridge", "knowledge": training.knowledge, "ways": ("permute",), "shares": (0.5,)}
    study = degrade(training.responses, out=tmp_path, graph_seeds=1, folds=2, **asked)
    table = study.table.set_index(["model", "metric", "gene_set"])
    assert set(study.table["model"]) == {INTACT, "permute 50%", "permute 100%"}
    place = ("permute 50%", "l2", "all-notarget")
    assert table.loc[place, "baseline"] == INTACT
    own, intact = table.loc[place, "mean"], table.loc[(INTACT, "l2", "all-notarget"), "mean"]
    assert table.loc[place, "difference"] == pytest.approx(own - intact)
    assert own > intact
    assert "permute 50%" in (tmp_path / "study.md").read_text()
    assert [path.name for path in write_study(study)] == ["study.md", "spoilt_graphs.png"]
    again = degrade(training.responses, out=tmp_path, graph_seeds=1, folds=2, **asked)
    pd.testing.assert_frame_equal(again.table, study.table)


def test_all_that_studies_show_is_scored_by_the_metric_named():
    for metric, genes in SHOWN:
        assert genes in all_metrics()[metric].card.gene_sets
    assert set(DIRECTION) | {PEARSON} <= set(SHOWN)


def test_study_names_what_was_taken_away_and_leaves_out_what_is_not_scored(training, tmp_path):
    models = [NamedModel("mean", get_model("mean")), NamedModel("mean, nothing", get_model("no-change"))]
    done = benchmark(training.responses, models=models, out=tmp_path, folds=2)
    study = studied(tmp_path, done.scores, reference="mean")
    page = (tmp_path / "study.md").read_text()
    assert "| nothing |" in page
    assert "nan" not in page
    assert [label.get_text() for label in violins(study).axes[0].get_yticklabels()] == ["mean", "nothing"]
    without = replace(study, scores=study.scores[study.scores["metric"] != "dac"])
    for given, direction in ((study, "DAC"), (without, "Direction accuracy")):
        titles = [axis.get_xlabel() for axis in violins(given).axes]
        assert titles == [f"{direction} of a condition", "Pearson Δ of a condition"]


def test_finished_benchmark_is_drawn_condition_by_condition(training, tmp_path):
    done = benchmark(training.responses, models=["nearest"], out=tmp_path / "run", folds=2)
    study = conditions(tmp_path / "run", out=tmp_path / "study")
    rows = study.table[(study.table["metric"] == "dac") & (study.table["model"] == "nearest")]
    own = done.scores[(done.scores["metric"] == "dac") & (done.scores["gene_set"] == "all")]
    by_model = own.groupby("model")["value"].mean()
    assert rows["baseline"].tolist() == ["mean"]
    assert rows["difference"].item() == pytest.approx(by_model["nearest"] - by_model["mean"])
    other = done.scores[done.scores["model"] == "nearest"].assign(model="mean:cells")
    among = studied(tmp_path / "run", pd.concat([done.scores, other]), reference="mean").table
    assert set(among.loc[among["model"] == "mean as cells", "baseline"]) == {"mean"}  # and none is compared with it
    assert set(among.loc[among["model"] == "nearest", "baseline"]) == {"mean"}
    assert set(conditions(tmp_path / "run", models=["nearest"]).table["model"]) == {"mean", "nearest"}
    assert [file.name for file in write_violins(study)] == ["study.md", "violins.png"]
    assert {file.name for file in (tmp_path / "study").iterdir()} == {"study.md", "study.parquet", "violins.png"}
    (tmp_path / "run" / "study.parquet").unlink()
    assert "Change against" not in build_report(tmp_path / "run").read_text()
    conditions(tmp_path / "run")
    page = build_report(tmp_path / "run").read_text()
    assert "Change against mean" in page
    assert "Direction and correlation of single conditions" in page
    with pytest.raises(BadOption, match=r"no model 'meen'.*mean"):
        conditions(tmp_path / "run", reference="meen")
    with pytest.raises(BadOption, match="no split 'doubles'"):
        conditions(tmp_path / "run", split="doubles")
    with pytest.raises(NotABenchmark):
        conditions(tmp_path)


def test_graphs_keep_their_names_and_gene_sets_become_graphs(training):
    known = with_graphs(training.knowledge, alone=True)
    assert set(known.graphs) == {"likeness", "signs"}
    assert not known.texts
    bad = spoilt(known, "remove", 0.5, seed=0)
    assert bad.graphs["likeness"].name == "likeness"
    assert bad.graphs["likeness"].weights.nnz < 0.6 * known.graphs["likeness"].weights.nnz
    assert with_graphs(training.knowledge, alone=False).texts
    with pytest.raises(NeedsKnowledge):
        with_graphs(GeneKnowledge(), alone=True)


def test_separation_is_one_for_clusters_and_none_for_noise(tmp_path):
    rng = np.random.default_rng(0)
    marked = rng.random(300) < 0.3
    noise = rng.normal(size=(300, 4))
    assert abs(separation(noise, marked)) < 0.1
    found = gene_map("clusters", noise + 20 * marked[:, None], marked)
    assert found.separation == pytest.approx(1.0)
    assert 0 < found.by_chance < 0.1
    by_noise = [gene_map("noise", rng.normal(size=(60, 4)), rng.permutation(marked[:60])) for _ in range(30)]
    assert 1 - sum(entry.separation <= entry.by_chance for entry in by_noise) / 30 < 0.2  # of 5 % that are expected
    write_figure(biotype_maps([found, found]), tmp_path / "maps.png")
    assert (tmp_path / "maps.png").stat().st_size > 5000


def test_maps_of_genes_by_biotype_are_kept_as_a_table_and_read_again(training, tmp_path):
    names = [str(gene) for gene in training.responses.genes]
    biotype = ["lncRNA" if place % 3 == 0 else "protein_coding" for place in range(len(names))]
    table = GeneTable(pd.DataFrame({"symbol": names, "ensembl_id": "", "biotype": biotype}))
    singles = np.flatnonzero(["+" not in query.condition for query in training.responses.queries])
    known = replace(training.knowledge, table=table)
    given = replace(training, responses=training.responses.take(singles), knowledge=known)
    model = get_model("grape", **dict(get_model("grape").card.quick) | {"max_steps": 1})
    maps = gene_maps(model, given, out=tmp_path)
    assert [entry.title for entry in maps[-2:]] == ["learned", "learned, shuffled biotypes"]
    assert all(entry.title.startswith("given: ") for entry in maps[:-2])
    assert maps[-1].non_coding.sum() == pytest.approx(maps[0].non_coding.sum(), abs=3)  # unmeasured targets take part
    assert not np.array_equal(maps[-1].non_coding, maps[0].non_coding)
    for found, kept in zip(maps, read_maps(tmp_path), strict=True):
        np.testing.assert_array_equal(kept.place, found.place)
        np.testing.assert_array_equal(kept.non_coding, found.non_coding)
        assert (kept.title, kept.separation, kept.by_chance) == (found.title, found.separation, found.by_chance)
    assert not read_maps(tmp_path / "nowhere")


def test_layouts_place_genes_in_the_plane_and_leave_separation_as_it_is():
    rng = np.random.default_rng(0)
    marked = rng.random(60) < 0.4
    states = rng.normal(size=(60, 5)) + 20 * marked[:, None]
    by_axes, by_distance = (gene_map("clusters", states, marked, layout=layout) for layout in ("pca", "tsne"))
    assert by_distance.place.shape == (60, 2)
    assert by_distance.separation == by_axes.separation
    assert separation(by_distance.place, marked) > 0.9
    again = gene_map("clusters", states, marked, layout="tsne")
    np.testing.assert_array_equal(again.place, by_distance.place)


def test_layout_that_does_not_exist_or_has_no_package_is_refused_with_a_code(training, monkeypatch):
    with pytest.raises(BadOption, match="tsne"):
        require_layout("tnse")
    monkeypatch.setattr(gene_map_module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"E810.*umap-learn"):
        gene_maps(get_model("grape"), training, layout="umap")


@pytest.mark.slow
def test_umap_keeps_clusters_apart():
    pytest.importorskip("umap")
    rng = np.random.default_rng(0)
    marked = rng.random(60) < 0.4
    found = gene_map("clusters", rng.normal(size=(60, 5)) + 20 * marked[:, None], marked, layout="umap")
    assert separation(found.place, marked) > 0.9


@pytest.mark.slow
def test_ablating_compares_every_part_with_the_whole(training, tmp_path):
    quick = dict(get_model("grape").card.quick) | {"max_steps": 10}
    asked = {
        "model": "grape",
        "out": tmp_path,
        "knowledge": GeneKnowledge(embeddings=training.knowledge.embeddings),
        "fields": {name: value for name, value in quick.items() if name not in ("sources",)},
        "metrics_profile": "full",
        "folds": 2,
    }
    study = ablate(training.responses, **asked)
    said: list[str] = []
    again = ablate(training.responses, say=said.append, **asked)
    assert re.fullmatch(r"(\d+) of \1 tasks were done before\.", said[-1])
    pd.testing.assert_frame_equal(again.table, study.table)
    compared = study.table[(study.table["metric"] == "l2") & (study.table["baseline"] == "grape")]
    refused = set(study.scores.loc[study.scores["metric"] == "prediction", "model"])
    assert {"grape, random features", "grape, no attention"} <= set(compared["model"])
    assert refused == {"grape, text only", "grape, sequence only"}
    names = [path.name for path in write_study(study)]
    assert names == ["study.md", "differences.png", "violins.png", "report.html"]
