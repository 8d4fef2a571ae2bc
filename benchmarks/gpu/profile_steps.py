"""Where a GPU's time goes in an epoch of nb over 2,000 genes, and how often the processor waits for it: a part of `run.sh`.

python benchmarks/gpu/profile_steps.py [BATCH_SIZE …]
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from cases import DEVICE, counts, settings, without
from torch.profiler import ProfilerActivity, profile

from sparcell.training import cuda_graph

N_STEPS = 50
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpyAsync")


def profiled(batch_size: int) -> Any:
    """Profile the third epoch of a training."""
    adata = counts(N_STEPS * batch_size if DEVICE == "cuda" else 300)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (DEVICE == "cuda")
    profiler = profile(activities=activities)

    def on_epoch(record: Any) -> None:
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        if record.number == 2:
            profiler.start()
        if record.number == 3:
            profiler.stop()

    config = settings(batch_size=batch_size if DEVICE == "cuda" else 64, epochs=4)
    config.fit(adata, silent=True, on_epoch=on_epoch)
    return profiler.key_averages()


def table(batch_size: int) -> None:
    """Kernels that take the most time, of steps made one operation at a time, and the waits of recorded steps."""
    with without(cuda_graph, "recorder_for", lambda device: None):
        events = profiled(batch_size)
    kernels = [event for event in events if "CUDA" in str(event.device_type)]
    kernels.sort(key=lambda event: -event.self_device_time_total)
    total = sum(event.self_device_time_total for event in kernels)
    number = sum(event.count for event in kernels) / N_STEPS
    print(
        f"\nminibatches of {batch_size}: {total / N_STEPS:.0f} µs of kernels a step, {number:.0f} kernels a step"
    )
    for event in kernels[:28]:
        print(
            f"{event.self_device_time_total / N_STEPS:8.1f} µs {event.count / N_STEPS:5.1f} ×  {event.key[:110]}"
        )
    events = profiled(batch_size)
    print("recorded steps, calls in an epoch:")
    for event in events:
        if event.key in WAITS or "raphLaunch" in event.key or "Memcpy DtoH" in event.key:
            print(f"  {event.count:5d} × {event.key}")


if __name__ == "__main__":
    for size in sys.argv[1:] or ["256", "4096"]:
        table(int(size))
