"""From a matrix to minibatches: checks, schema, covariates, cell sources, sampler, loader."""
