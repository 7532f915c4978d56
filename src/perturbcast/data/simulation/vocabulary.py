"""Words that describe the modules of a simulated world: a name and key words for each theme."""

_WORDS = {
    "interferon signalling": "interferon antiviral STAT antigen cytokine virus innate immunity",
    "ribosome biogenesis": "ribosome rRNA nucleolus preribosomal processome snoRNA subunit export",
    "mitotic cell cycle": "mitosis spindle kinetochore cyclin checkpoint anaphase centrosome cohesin",
    "unfolded protein response": "folding chaperone endoplasmic glycosylation misfolded secretion lumen stress",
    "erythroid differentiation": "erythroid haemoglobin globin heme iron erythrocyte oxygen maturation",
    "myeloid differentiation": "myeloid granulocyte monocyte macrophage phagocytosis lysozyme neutrophil adhesion",
    "cholesterol synthesis": "cholesterol sterol lipid mevalonate isoprenoid lipoprotein uptake membrane",
    "oxidative phosphorylation": "respiratory electron ATP cytochrome oxidase mitochondrion proton coenzyme",
    "DNA repair": "repair damage helicase recombination strand excision crosslink genome",
    "apoptosis": "apoptosis caspase death survival BCL2 permeabilisation p53 inhibitor",
    "chromatin remodelling": "chromatin histone methyltransferase acetylation nucleosome silencing polycomb reader",
    "RNA splicing": "splicing spliceosome intron exon snRNP branchpoint pre-mRNA alternative",
    "translation initiation": "translation initiation eIF2 codon tRNA polysome scanning guanine",
    "proteasome": "proteasome ubiquitin degradation ligase turnover cullin degron peptidase",
    "glycolysis": "glycolysis glucose pyruvate hexokinase lactate phosphofructokinase sugar fermentation",
    "hypoxia response": "hypoxia HIF1 angiogenesis prolyl vascular erythropoietin anaerobic perfusion",
    "MAPK signalling": "MAPK kinase phosphorylation RAS growth ERK scaffold mitogen",
    "TGF-beta signalling": "TGF SMAD fibrosis mesenchymal morphogen activin matrix collagen",
    "Wnt signalling": "Wnt catenin frizzled axin polarity stem dishevelled adenomatous",
    "amino-acid metabolism": "serine glutamine asparagine transaminase amino-acid folate methionine synthetase",
    "vesicle transport": "vesicle Golgi COPII endosome SNARE trafficking clathrin retromer",
    "autophagy": "autophagy lysosome phagophore mTORC1 starvation cargo vacuole nutrient",
    "cytoskeleton": "actin myosin filament microtubule motility tubulin contraction lamellipodium",
    "neuronal development": "axon synapse neuron dendrite guidance neurotransmitter cortex myelin",
}
# Small RNAs and segments known for a part in the theme: snoRNA guide ribosome assembly, 7SL (misc_RNA) secretion,
# miR-451 blood, miR-223 myeloid cells, miR-33 cholesterol, miR-210 hypoxia, miR-124 neurons, XIST chromatin.
_RNA = {
    "interferon signalling": "TR_C_gene",
    "ribosome biogenesis": "snoRNA",
    "unfolded protein response": "misc_RNA",
    "erythroid differentiation": "miRNA",
    "myeloid differentiation": "miRNA",
    "cholesterol synthesis": "miRNA",
    "oxidative phosphorylation": "Mt_tRNA",
    "chromatin remodelling": "lncRNA",
    "RNA splicing": "snRNA",
    "hypoxia response": "miRNA",
    "autophagy": "vault_RNA",
    "neuronal development": "miRNA",
}
PSEUDOGENE = "processed_pseudogene"
THEMES: tuple[tuple[str, tuple[str, ...]], ...] = tuple((name, tuple(words.split())) for name, words in _WORDS.items())


def theme_of(module: int) -> tuple[str, tuple[str, ...]]:
    """Name and key words of a module; past the last theme they are used again, with a number in the name."""
    name, words = THEMES[module % len(THEMES)]
    turn = module // len(THEMES)
    return (name if turn == 0 else f"{name} {turn + 1}"), words


def rna_of(module: int) -> str:
    """Biotype, as Ensembl calls it, of the RNA genes that go with the theme of a module; "" if none does."""
    return _RNA.get(THEMES[module % len(THEMES)][0], "")
