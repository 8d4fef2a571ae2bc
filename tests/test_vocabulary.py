"""Names in src/ use the field's words: the words of the project's early dialect stay out of identifiers.

docs/vocabulary.md explains the words to readers, and CONTRIBUTING.md has the rules for authors. Names are read from the ast where they
are defined: functions, classes, arguments, attributes, locals. Names that other libraries define are not ours to choose.
"""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from sparcell.config.data import DataConfig
from sparcell.config.experiments import BenchmarkConfig, FitConfig, ProgramsConfig, StudyConfig
from sparcell.config.expression import CriticizeConfig, DenoiseConfig, DifferentialExpressionConfig
from sparcell.config.model import MODEL_SETTINGS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "sparcell"
FILES = sorted(SOURCE.rglob("*.py"))

WORDS = {
    "told": "the noun of what it holds: decoder_covariates, message",
    "wanted": "expected, or the noun of what it holds",
    "ours": "the noun of what it holds",
    "theirs": "the noun of what it holds",
    "made_anew": "recomputed",
    "take_up": "resume",
    "taken_up": "resume",
    "found_again": "reproduced",
    "found_in": "resolve_layer",
    "standing": "results",
    "standings": "BenchmarkResults",
    "contender": "entry",
    "contenders": "entries",
    "hindrance": "unavailable_reason",
    "slope": "grad",
    "slopes": "grads",
    "planted": "simulated",
    "readable": "programs",
    "live": "active",
    "setback": "rollback",
    "setbacks": "rollbacks",
    "course": "state",
    "player": "step",
    "judge": "scorer, update",
    "workshop": "subprocess",
    "bench": "benchmark",
    "scene": "embedding_context",
    "ground": "benchmark_data",
    "catalogue": "programs",
    "typed": "shell, options",
    "peer": "external_model",
    "peers": "external_models",
    "duel": "pairwise_comparison",
    "duels": "pairwise_comparisons",
    "standardise": "standardize",
    "standardised": "standardized",
    "normalise": "normalize",
    "normalised": "normalized",
    "colour": "color",
    "colours": "colors",
    "centre": "center",
    "summarise": "summarize",
    "code_nk": "latent_nk",
    "codes_nk": "latent_nk",
    "gamma_nk": "inclusion_nk",
    "size_n1": "library_size_n1",
    "translate": "augment_batch",
    "translated": "augment_batch",
    "nll_rise": "delta_nll",
    "share_on": "fraction_cells_on",
    "least_gamma": "min_inclusion",
}
"""Word or words of an identifier → what to write instead."""

NAMES = {
    "learn": "fit, optimizer_step",
    "go_back": "rollback",
    "warmed": "warmup_progress",
    "believed": "current_prior",
    "begin": "init_from_data",
    "through": "sparse_forward",
    "turned": "to_memory_layout",
    "quick": "fast_lr_params",
    "pace": "lr_factor",
    "set_rate": "set_lr",
    "in_words": "format_value",
    "unbroken": "non_breaking",
    "typical_cells": "medoid_cells",
    "switched_off": "ablate",
    "in_order": "sequential_batches",
    "write_aside": "atomic_write",
    "run_apart": "run_in_subprocess",
    "through_softmax": "softmax_backward",
    "add_piece": "gemm_tile",
    "add_product": "gemm_accumulate",
    "add_to_rows": "scatter_axpy",
    "add_weighed_rows": "gather_axpy",
    "rows_times": "csr_matmul",
    "columns_times": "csr_t_matmul",
    "trusted": "self_test",
    "pays": "is_cheaper",
    "tabled": "nb_log_coefficient_table",
    "inlined": "inline_jit",
    "compiled": "cached_jit",
    "Course": "TrainState",
    "Player": "CudaGraphStep",
    "Played": "CudaGraphStep",
    "Plan": "TrainPlan",
    "Feed": "BatchProvider, TrainingData",
    "Notes": "CheckpointWriter",
    "Known": "CovariateValues",
    "Category": "CategoricalCovariate",
    "Number": "ContinuousCovariate",
    "Epoch": "EpochRecord",
    "Batch": "Minibatch",
    "ShiftedRows": "SparseRowsPlusDelta",
    "Rows": "CellSource",
    "MemoryRows": "InMemoryCells",
    "Latent": "LatentEncoder",
    "Layers": "MLP",
    "Free": "MLPDecoder",
    "Additive": "LinearDecoder",
    "NonNegative": "NonNegativeLinearDecoder",
    "Beside": "ConcatCovariates",
    "Start": "NMFInit",
    "ByKind": "one default",
    "Reader": "ProgramDecoder",
    "Found": "ProgramEffects",
    "Trained": "StudyEntry",
    "Task": "StudyRunSpec",
    "Scene": "EmbeddingContext",
    "Prepared": "StudyData",
    "Row": "MethodResult",
    "Contender": "BenchmarkEntry",
    "Outcome": "ScoredRun",
    "Ground": "BenchmarkData",
    "Bench": "BenchmarkContext",
    "Judge": "Scorer",
    "Workshop": "SubprocessRunner",
    "Job": "MethodInput",
    "Fitted": "MethodOutput",
    "Ready": "TrainFn",
    "Standings": "BenchmarkResults",
    "Measure": "Metric",
    "Group": "MetricGroup",
    "Catalogue": "ProgramResults",
    "Map": "Embedding2D",
    "Gap": "Difference",
    "Passage": "Paragraph",
    "Announcer": "CompileNotice",
    "Diverged": "NonFiniteLossError",
    "Matching": "FactorMatch",
    "Codes": "LatentRepresentation",
}
"""Whole name of a function, class or attribute → what to write instead; locals may have these names."""

SETTINGS = {
    "held_out": "validation_fraction",
    "patience": "early_stopping_patience",
    "tolerance": "early_stopping_tolerance",
    "clip": "max_grad_norm",
    "warmup": "kl_warmup_fraction",
    "warmup_start": "kl_warmup_start",
    "steps": "max_steps",
    "schedule": "lr_schedule",
    "norm": "normalization",
    "encoder": "encoder_widths",
    "decoder": "decoder_widths",
    "branch": "head_width",
    "effects": "decoder_type",
    "code": "latent_activation",
    "components": "n_prior_components",
    "variance": "gaussian_variance",
    "genes": "genes_key",
    "checkpoint": "checkpoint_dir",
    "disentangle": "disentanglement",
    "peer_epochs": "external_epochs",
    "save": "model_dir",
    "load": "model_dir",
    "n_named": "n_genes_enrichment",
    "n_top": "n_genes_listed",
}
"""Early name of a setting → its name."""


def words_of(identifier):
    """Write SubprocessRunner, subprocess_runner and SUBPROCESS_RUNNER alike: subprocess_runner."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", identifier).strip("_").lower()


def definitions(tree):
    """Yield (line, name, whether it is a local) of everything that a file names."""
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name, False
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg, True
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr, False
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id, id(node) in inside
        elif isinstance(node, ast.alias) and node.asname:
            yield node.lineno, node.asname, True


def complaints(tree):
    """List the names that use a word of the dialect, each with its line and the better word."""
    for line, name, local in definitions(tree):
        words = f"_{words_of(name)}_".replace("_library_size_n1_", "_")
        for word, better in WORDS.items():
            if f"_{word}_" in words:
                yield f"line {line}: {name}: {word} → {better}"
        if not local and name.lstrip("_") in NAMES:
            yield f"line {line}: {name} → {NAMES[name.lstrip('_')]}"
        if not local and re.match(r"_?(MOST|LEAST)_", name):
            yield f"line {line}: {name} → {re.sub('LEAST', 'MIN', re.sub('MOST', 'MAX', name))}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_names_use_the_words_of_the_field(path):
    assert list(complaints(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_are_named_in_the_words_of_the_field(path):
    words = f"_{words_of(path.stem)}_"
    assert [f"{word} → {better}" for word, better in WORDS.items() if f"_{word}_" in words] == []


CONFIGS = [
    *(DataConfig, FitConfig, StudyConfig, BenchmarkConfig, ProgramsConfig),
    *(DifferentialExpressionConfig, DenoiseConfig, CriticizeConfig, *MODEL_SETTINGS.values()),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_settings_have_their_names(config):
    assert {field.name: SETTINGS[field.name] for field in fields(config) if field.name in SETTINGS} == {}


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("class OurContender: ...", "contender"),
        ("def f(slopes_ng): ...", "slopes"),
        ("class A:\n    n_live: int", "live"),
        ("def f():\n    told, x = 1, 2", "told"),
        ("self.gamma_nk = 1", "gamma_nk"),
        ("LEAST_CELLS = 3", "MIN_CELLS"),
        ("class Course: ...", "TrainState"),
    ],
)
def test_a_word_of_the_dialect_is_found(code, word):
    assert any(word in text for text in complaints(ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["library_size_n1 = delivery = olive = 1", "x.codes.sum()", "def f(quick): ..."]
)
def test_other_words_are_left_alone(code):
    assert list(complaints(ast.parse(code))) == []


READERS = (ROOT / "docs" / "vocabulary.md").read_text(encoding="utf-8")
AUTHORS = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (?P<term>[^|]+) \| (?:[^|\\]|\\\|)+ \| (?P<where>[^|]+) \|$", re.MULTILINE)


def terms(text):
    """Each term of the tables of words, and where it stands."""
    return {row["term"]: row["where"] for row in ROW.finditer(text) if row["term"] != "term"}


def test_the_page_for_readers_names_no_file_of_the_code():
    rows = terms(READERS)
    assert {"minibatch", "inclusion probability", "MAD", "number in a name"} <= set(rows)
    assert len(rows) > 50
    assert [term for term, where in rows.items() if ".py`" in where or "protocols." in where] == []


def test_readers_and_authors_have_pages_of_their_own():
    authors = terms(AUTHORS.partition("## Words")[2].partition("## Tests")[0])
    assert {"lane", "snapshot, rollback"} <= set(authors)
    assert not set(authors) & set(terms(READERS))
