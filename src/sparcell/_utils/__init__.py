"""Progress of long work; torch's device, seeds, threads and memory."""
