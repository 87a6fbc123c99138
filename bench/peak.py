"""How much memory a rule takes beyond its input and its result."""

import ctypes
import gc
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from ostrakon.bench.rows import ordinary
from ostrakon.common.aggregation import rule

_FEW = 10_000  # columns


def peak_bytes(name: str, n: int, f: int, d: int, device: torch.device, threads: int) -> int | None:
    """The most bytes that one call of a rule holds beside the rows and its results; None where it cannot be measured.

    On the CPU it is resident memory, of a fresh process that has called the rule before on few columns.
    """
    if device.type == "cuda":
        return _on_gpu(name, n, f, d, device)
    if sys.platform != "linux":
        return None
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "ostrakon.bench.peak"])
    with ProcessPoolExecutor(1, mp_context=context) as processes:
        return processes.submit(_on_cpu, name, n, f, d, threads).result()


def _on_cpu(name: str, n: int, f: int, d: int, threads: int) -> int:
    torch.set_num_threads(threads)
    chosen = rule(name)
    few = ordinary(n, _FEW, torch.device("cpu"))
    chosen.aggregate(few, f)
    x = few.repeat(1, -(-d // _FEW))[:, :d].contiguous()  # sooner made than d random numbers a row
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    before = _status("VmRSS")
    aggregates = chosen.aggregate(x, f)
    return _status("VmHWM") - before - sum(one.vector.nbytes for one in aggregates)


def _on_gpu(name: str, n: int, f: int, d: int, device: torch.device) -> int:
    x = ordinary(n, d, device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    aggregates = rule(name).aggregate(x, f)
    return torch.cuda.max_memory_allocated(device) - before - sum(one.vector.nbytes for one in aggregates)


def _status(field: str) -> int:
    return 1024 * int(Path("/proc/self/status").read_text().partition(f"{field}:")[2].split()[0])
