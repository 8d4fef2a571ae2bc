"""What a study, a benchmark or a programs run found, as frozen arrays and tables."""
