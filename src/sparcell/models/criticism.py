"""Criticism of a fitted model: does it describe the cells? Replicated cells beside the measured ones.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from sparcell._utils import torch_runtime
from sparcell.config.validation import require_whole
from sparcell.data.expression import model_cells
from sparcell.data.sampler import subsample
from sparcell.models.encoding import INFERENCE_BATCH, FittedEncoder
from sparcell.results.criticism import Criticism
from sparcell.tl.misfits import describe, findings
from sparcell.tl.predictive_checks import CheckSums, Replicate, batch_table, gene_table, overall_table

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.data.covariates import Unseen
    from sparcell.protocols import Minibatch

    Floats = NDArray[np.floating]

N_CELLS, N_SAMPLES = 2000, 3
MAX_VALUES = 1 << 20
"""Values of a block of cells: each takes about 100 bytes in the checks."""


class CriticizedModel(FittedEncoder):
    """How well a fitted model describes cells. See `Model`."""

    def criticize(
        self,
        data: AnnData | str | Path | Sequence[str | Path],
        *,
        n_cells: int | None = N_CELLS,
        n_samples: int = N_SAMPLES,
        seed: int = 0,
        key_added: str | None = None,
        unseen: Unseen = "error",
    ) -> Criticism:
        """Compare cells with replicates that the model generates of the same cells (posterior predictive checks).

        A replicate has latents drawn from q(z|x) and expression drawn from the likelihood, at the cell's own library size and batch. The
        checks are mean, variance and zeros of each gene, total counts, and whether the predictive intervals hold as many values as they
        should. Counts on the border of an interval are split between inside and outside, so that a right model has the nominal coverage
        (docs/guide/criticism.md). Cells that were not in training say how well the model describes new cells; training cells flatter it.

        Parameters
        ----------
        data
            The cells, as for `latent_representation`.
        n_cells
            Number of cells to check, drawn at random. None: all cells, in blocks.
        n_samples
            Replicates of each cell.
        seed
            Draws cells, latents and expression.
        key_added
            Stem of the keys, as for `embed`.
        unseen
            As for `latent_representation`.

        Returns
        -------
        Tables of genes, of all genes together and of batches, and a verdict in sentences: see `Criticism`. Genes that the data lacks are
        left out.

        Writes
        ------
        ``uns["<key>_criticism"]``: the tables genes and overall, and verdict. ``var["<key>_misfit"]``: misfit of each gene; missing for
        genes that the model does not know. Nothing is written if `data` is a path.

        Raises
        ------
        InputError
            As for `latent_representation`, and for numbers below 1.

        Notes
        -----
        Sources: Gelman, Meng & Stern 1996 (posterior predictive checks), Johnson 2007 (values at one draw of the posterior have their
        nominal distribution), Czado, Gneiting & Held 2009 (probability integral transform of counts).

        Examples
        --------
        ::

            criticism = model.criticize(adata)
            print(criticism)
            criticism.worst(20)
        """
        if n_cells is not None:
            require_whole("n_cells", n_cells, 1)
        require_whole("n_samples", n_samples, 1)
        cells = self._opened(data)
        n_given = cells.n_obs
        if n_cells is not None and n_cells < n_given:
            cells = cells[subsample(n_given, n_cells, seed)]
        batch = self.schema.covariates.batch
        names = () if batch is None else batch.names
        at_once = max(1, min(INFERENCE_BATCH, MAX_VALUES // len(self.schema.genes)))
        sums = self._check_sums(self._loader(cells, unseen).all_cells(at_once), n_samples, seed)
        genes = gene_table(sums, self.schema.genes)
        genes["finding"] = findings(genes, sums)
        known = model_cells(cells, self.schema.layer).var_names
        genes = genes[genes["gene"].isin(known)]
        overall = overall_table(sums, genes)
        genes = genes.sort_values("misfit", ascending=False, kind="stable", ignore_index=True)
        verdict = describe(genes, overall)
        tables = (genes, overall, batch_table(sums, names))
        criticism = Criticism(*tables, verdict, sums.observed.n, n_given, n_samples)
        if not isinstance(data, str | Path | Sequence):
            self._write_criticism(data, criticism, self._key(key_added))
        return criticism

    def _write_criticism(self, adata: AnnData, criticism: Criticism, key: str) -> None:
        misfit = criticism.genes.set_index("gene")["misfit"]
        adata.var[f"{key}_misfit"] = misfit.reindex(adata.var_names).to_numpy()
        tables = {"genes": criticism.genes.copy(), "overall": criticism.overall.copy()}
        adata.uns[f"{key}_criticism"] = {**tables, "verdict": " ".join(criticism.verdict)}

    @torch.no_grad()
    def _check_sums(self, minibatches: Iterable[Minibatch], n_samples: int, seed: int) -> CheckSums:
        """Return the sums of the checks over minibatches, with replicates of their cells."""
        generator = torch_runtime.make_generator(seed, self.device)
        batch = self.schema.covariates.batch
        sums = CheckSums(len(self.schema.genes), n_samples, 0 if batch is None else len(batch.names))
        for cells in minibatches:
            posterior = self.network.posterior(cells)
            replicates = [
                self._replicate(posterior.sample(generator), cells, generator) for _ in range(n_samples)
            ]
            sums.add(self._in_data_units(cells.x_ng), replicates, cells.batch_n.cpu().numpy())
        return sums

    def _replicate(self, z_nk: torch.Tensor, cells: Minibatch, generator: torch.Generator) -> Replicate:
        distribution = self._distribution(z_nk, cells)
        values_ng = self._in_data_units(distribution.sample(generator))
        return Replicate(values_ng, *distribution.cumulative(cells.x_ng))

    def _in_data_units(self, x_ng: torch.Tensor) -> Floats:
        return self.schema.inverse_zscore(x_ng.cpu().numpy())
