"""The parts that study and benchmark share: entries, stored runs, embedding and clustering, provenance, writing of results."""
