"""The figures of a study, written into its folder beside its table."""

from collections.abc import Sequence
from pathlib import Path

from perturbcast.benchmarking.gene_maps import GeneMap
from perturbcast.benchmarking.studies import INTACT, Study
from perturbcast.report.build import build_report
from perturbcast.report.study_figures import biotype_maps, differences, spoilt_graphs, violins, write_figure


def write_study(study: Study, *, maps: Sequence[GeneMap] = ()) -> list[Path]:
    """Writes every figure that the study has; of an ablation also the report of its benchmark. The files, in order."""
    written = [study.folder / "study.md"]
    figures = {"spoilt_graphs.png": spoilt_graphs} if study.reference == INTACT else {}
    if study.reference != INTACT:
        figures = {"differences.png": differences, "violins.png": violins}
    for name, draw in figures.items():
        write_figure(draw(study), study.folder / name)
        written.append(study.folder / name)
    if maps:
        write_figure(biotype_maps(maps), study.folder / "gene_maps.png")
        written.append(study.folder / "gene_maps.png")
    return written if study.reference == INTACT else [*written, build_report(study.folder)]


def write_violins(study: Study) -> list[Path]:
    """Writes the violins of a finished benchmark beside its table; the files, in order."""
    file = study.folder / "violins.png"
    write_figure(violins(study), file)
    return [study.folder / "study.md", file]
