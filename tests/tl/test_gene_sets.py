"""Gene sets: GMT files come back as written, errors name every fault, and the built-in sets match their description."""

from __future__ import annotations

import gzip
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcell import datasets
from sparcell.errors import InputError
from sparcell.tl.gene_sets import BUILTIN_FILE, TISSUES, GeneSets, builtin_gene_sets, gmt_text, read_gmt

WORD = (
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\t\r\n\0\ufeff"), max_size=8)
    .map(str.strip)
    .filter(bool)
)
SETS = st.dictionaries(
    WORD, st.lists(WORD, min_size=1, max_size=6, unique=True).map(tuple), min_size=1, max_size=5
)


def written(tmp_path, content, name="sets.gmt"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(content):
    with tempfile.TemporaryDirectory() as folder:
        return read_gmt(written(Path(folder), content))


@settings(max_examples=100, deadline=None)
@given(
    genes=SETS,
    description=st.one_of(st.just(""), WORD),
    end=st.sampled_from(["\n", "\r\n", "\t\n", "\t\t\r\n", "\n\n", "\r"]),
    zipped=st.booleans(),
)
def test_sets_come_back_as_written(genes, description, end, zipped):
    sets = GeneSets(genes, dict.fromkeys(genes, description))
    content = gmt_text(sets).replace("\n", end).encode()
    back = read(gzip.compress(content, mtime=0) if zipped else content)
    assert back == sets
    assert list(back.genes) == list(genes)


@settings(max_examples=100, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=60),
        st.text("ab\t\n\r #\0", max_size=40).map(str.encode),
        st.binary(max_size=30).map(lambda rest: gzip.compress(b"a\tb\tc\n", mtime=0)[:25] + rest),
    )
)
def test_any_bytes_are_sets_or_one_input_error(content):
    try:
        sets = read(content)
    except InputError:
        return
    assert all(name and genes and all(genes) for name, genes in sets.genes.items())


def test_repeated_genes_count_once_and_comments_and_blank_lines_not_at_all(tmp_path):
    path = written(
        tmp_path, "\ufeff# downloaded\n\nGOBP_A\thttps://example.org\tCD4\tCD8A\tCD4\t\n  \nB\t\tMS4A1"
    )
    sets = read_gmt(str(path))
    assert sets.genes == {"GOBP_A": ("CD4", "CD8A"), "B": ("MS4A1",)}
    assert sets.descriptions == {"GOBP_A": "https://example.org", "B": ""}
    assert len(sets) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no gene set"),
        ("\n# nothing\n", "holds no gene set"),
        ("A\tx\tCD4\nCD4,CD8A,CD3E\n", r"line 2 has no tab: 'CD4,CD8A,CD3E'"),
        ("<!DOCTYPE html>\n<html>", "line 1 has no tab.*web page"),
        ('{"A": ["CD4"]}', "no tab.*JSON"),
        ("A\tx\tCD4\n\tx\tCD8A", "line 2 begins with a tab"),
        ("A\tx\tCD4\nB\tx\t\t\n", r"line 2: the set 'B' has no genes"),
        ("A\tCD4", r"line 1: the set 'A' has no genes"),
        ("A\tx\tCD4\nB\tx\tCD4\nA\ty\tCD8A", r"line 3: the name 'A' stands on line 1 already"),
        (b"PK\x03\x04\x00\x00\t\x00", "not text"),
        (b"A\tx\t\xff\xfe", r"not text in UTF-8 \(byte 4\)"),
        (b"A\tcaf\xe9\tCD4", "save it as UTF-8"),
        (gzip.compress(b"A\tx\tCD4" * 50, mtime=0)[:-9], "cannot be read"),
        (b"\x1f\x8bA\tx\tCD4", "cannot be read"),
    ],
)
def test_malformed_files_raise_an_error_that_names_the_line(tmp_path, content, message):
    path = written(tmp_path, content)
    with pytest.raises(InputError, match=message) as error:
        read_gmt(path)
    assert str(path) in str(error.value)
    assert "expected" in str(error.value)


def test_a_path_that_is_no_file_raises(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        read_gmt(tmp_path / "sets.gmt")
    with pytest.raises(InputError, match="cannot be read"):
        read_gmt(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_gmt("a\0b")


@pytest.mark.parametrize(
    ("genes", "descriptions", "message"),
    [
        ({}, {}, "no gene set"),
        ({" ": ("CD4",)}, {}, "has no name"),
        ({"A": ()}, {}, "'A': found no gene"),
        ({"A": "CD4"}, {}, r"'A' is the text 'CD4'; expected a list"),
        ({"A": ("CD4", "")}, {}, "found ''"),
        ({"A": ("CD4", 4)}, {}, r"found 4 \(int\)"),
        ({"A": ("CD4",)}, {"B": "x"}, "'B' has a description and no genes"),
    ],
)
def test_sets_passed_as_dictionaries_are_checked(genes, descriptions, message):
    with pytest.raises(InputError, match=message):
        GeneSets(genes, descriptions)


@pytest.mark.parametrize(("name", "gene"), [("A\tB", "CD4"), ("A", "CD4\n"), (" A", "CD4"), ("A", "\0")])
def test_text_that_gmt_cannot_hold_is_refused(name, gene):
    with pytest.raises(InputError, match="cannot stand in a GMT file"):
        gmt_text(GeneSets({name: (gene,)}))


def test_the_built_in_sets_are_as_described():
    sets = builtin_gene_sets()
    lines = BUILTIN_FILE.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    assert len(sets) == len(lines)
    for line in lines:
        name, description, *genes = line.split("\t")
        assert len(set(genes)) == len(genes), name
        assert len({gene.casefold() for gene in genes}) >= len(genes) - 2, name
        assert 8 <= len(genes) <= 100, name
        human, mouse = r"[A-Z][A-Z0-9]*(orf[0-9]+)?(-[A-Z0-9.]+)?", r"(mt-)?[A-Z0-9][A-Za-z0-9-]*"
        assert [gene for gene in genes if not re.fullmatch(f"{human}|{mouse}", gene)] == [], name
        tissues = "|".join(("any tissue", "many tissues", *TISSUES))
        assert re.match(rf"({tissues})(, subtype of [^:]+)?: \w", description), name
        assert sets.is_cell_type(name) == (not description.startswith("any tissue")), name
        assert sets.genes[name] == tuple(genes)
    assert len({frozenset(genes) for genes in sets.genes.values()}) == len(sets)


def test_built_in_sets_of_one_tissue():
    blood, pancreas = builtin_gene_sets("blood"), builtin_gene_sets("pancreas")
    assert {"B cell", "pDC", "Cell cycle (G2/M)"} <= set(blood.genes)
    assert {"Alpha cell", "Schwann cell", "Cell cycle (G2/M)"} <= set(pancreas.genes)
    assert "Alpha cell" not in blood.genes
    assert set().union(*(builtin_gene_sets(tissue).genes for tissue in TISSUES)) == set(
        builtin_gene_sets().genes
    )
    with pytest.raises(InputError, match="for 'heart'; there are: blood, brain"):
        builtin_gene_sets("heart")


def test_a_subtype_and_its_relatives_share_no_gene():
    """A gene of two relatives belongs into the set of the wider type, if into any."""
    sets = builtin_gene_sets()
    parents = {name: sets.parents(name) for name in sets.genes if sets.parents(name)}
    assert len(parents) >= 20
    for name, parent in [(subtype, parent) for subtype in parents for parent in parents[subtype]]:
        relatives = [other for other in parents if parent in parents[other] and other != name]
        genes = {gene.casefold() for gene in sets.genes[name]}
        for relative in (parent, *relatives):
            assert genes & {gene.casefold() for gene in sets.genes[relative]} == set(), (name, relative)


def test_pbmc3k_measures_the_genes_of_the_blood_sets():
    measured = set(datasets.pbmc3k().var_names)
    sets = builtin_gene_sets("blood")
    for name in [name for name in sets.genes if sets.descriptions[name].startswith("blood")]:
        human = [gene for gene in sets.genes[name] if gene == gene.upper()]
        assert len(measured.intersection(human)) >= 0.6 * len(human), name
