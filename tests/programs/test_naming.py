"""The gene sets that name programs, from files."""

from __future__ import annotations

from sparcell.programs.naming import read_gene_sets


def test_two_files_may_name_a_set_alike(tmp_path):
    (tmp_path / "one.gmt").write_text("same\tx\tA\tB\nfirst\t\tC\n")
    (tmp_path / "two.gmt").write_text("same\ty\tD\tE\n")
    sets, source = read_gene_sets([tmp_path / "one.gmt", tmp_path / "two.gmt"])
    assert dict(sets.genes) == {"same": ("A", "B"), "first": ("C",), "same (two)": ("D", "E")}
    assert sets.descriptions["same (two)"] == "y"
    assert source == "3 sets of one.gmt, two.gmt"
