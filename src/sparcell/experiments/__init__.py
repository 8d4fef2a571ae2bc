"""What study and benchmark share: presets, stored runs, provenance, map and clusters of a run."""
