"""Programs with chosen genes in cells with chosen expression, for tests of names."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.tl.program_enrichment import specific_effects
from sparcell.tl.programs import CellSample, Programs

N_CELLS = 300


def programs_with_cells(genes, raised, on, labels=None, n_cells=N_CELLS, expressed=None):
    """Return programs that raise some genes in some cells, and express them there.

    Parameters
    ----------
    genes
        All genes.
    raised
        Program ("vsc_1+") → its genes, the strongest first.
    on
        Program → the cells in which it is on, a slice or an index.
    labels
        Cell type of each cell.
    expressed
        Program → the cells that express its genes. Default: those in which it is on.
    """
    rng = np.random.default_rng(0)
    keys = list(raised)
    effects = pd.DataFrame(rng.gamma(0.3, 0.05, (len(genes), len(keys))), index=genes, columns=keys)
    expression_ng = rng.poisson(0.1, (n_cells, len(genes))).astype(np.float32)
    on_np = np.zeros((n_cells, len(keys)), dtype=bool)
    for p, (key, top) in enumerate(raised.items()):
        effects.loc[list(top), key] += np.linspace(3, 1, len(top))
        on_np[on[key], p] = True
        cells = np.zeros(n_cells, dtype=bool)
        cells[(expressed or on)[key]] = True
        columns = effects.index.get_indexer(pd.Index(list(top)))
        expression_ng[np.ix_(cells, columns)] += rng.poisson(2, (cells.sum(), len(columns)))
    summary = pd.DataFrame({
        "program": [key[:-1] for key in keys], "direction": [key[-1] for key in keys], "fraction_cells_on": on_np.mean(axis=0),
    })  # fmt: skip
    fractions = shares = None
    if labels is not None:
        one_hot = pd.get_dummies(pd.Series(labels)).astype(float)
        fractions = pd.DataFrame(
            on_np.T @ one_hot.to_numpy() / one_hot.sum().to_numpy(), keys, one_hot.columns
        )
        shares = pd.DataFrame(
            on_np.T @ one_hot.to_numpy() / on_np.sum(axis=0)[:, None], keys, one_hot.columns
        )
        summary = summary.assign(label=fractions.idxmax(axis=1).to_numpy())
    cells = CellSample(sparse.csr_matrix(expression_ng), on_np)
    return Programs(summary, pd.DataFrame(), effects, fractions, shares, cells)


def random_programs(rng, programs, n_programs):
    """Return random programs: genes drawn as real programs hold them, with effects and cells of real programs."""
    raised = programs.effects.clip(lower=0).to_numpy()
    share_gp = specific_effects(programs.effects).to_numpy()
    weight_g = (share_gp / share_gp.sum(axis=0)).sum(axis=1)
    source_p = rng.integers(raised.shape[1], size=n_programs)
    effects = np.zeros((len(raised), n_programs))
    for p, source in enumerate(source_p):
        order = np.argsort(np.log(rng.exponential(size=len(weight_g))) - np.log(np.maximum(weight_g, 1e-300)))
        effects[order, p] = np.sort(raised[:, source])[::-1]
    keys = [f"random_{p + 1}+" for p in range(n_programs)]
    cells = CellSample(programs.cells.expression_ng, programs.cells.on_np[:, source_p])
    summary = programs.summary.iloc[source_p].reset_index(drop=True)
    return Programs(
        summary, pd.DataFrame(), pd.DataFrame(effects, programs.effects.index, keys), None, None, cells
    )
