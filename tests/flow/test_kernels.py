"""The torch and Triton operations give what the CPU's do; what a device lacks is said."""

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from flowpipe.errors import BackendUnavailableError
from flowpipe.flow.parameters import Tvl1
from flowpipe.flow.tvl1 import Tvl1Solver
from tests.helpers.tvl1_reference import tvl1

from .test_tvl1 import distance, flow_of, moving_texture

torch = pytest.importorskip("torch")


def mixed_batch(height, width):
    """Pairs that rest after different numbers of iterations, identical frames among them."""
    pairs = [moving_texture(height, width, motion=motion) for motion in (3, 0.3)]
    first = [pairs[0][0], pairs[0][0], pairs[1][0]]
    return np.stack(first), np.stack([pairs[0][1], pairs[0][0], pairs[1][1]])


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"cubic": -0.75, "median": 5}, marks=pytest.mark.slow),
        pytest.param({"median": 3, "n_scales": 2}, marks=pytest.mark.slow),
        pytest.param(asdict(Tvl1.accurate()), marks=pytest.mark.slow, id="accurate"),
        pytest.param({"epsilon": 0.0, "iterations": 7}, marks=pytest.mark.slow),
        {"epsilon": 0.3, "warps": 2},
        pytest.param({"gamma": 1.0, "warps": 2}, marks=pytest.mark.slow),
        {"steps": "over-relaxed", "warps": 2},
        pytest.param(
            {"steps": "over-relaxed", "epsilon": 0.0, "iterations": 40, "median": 3, "warps": 2},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_torch_agrees_with_the_cpu(setting):
    first, second = mixed_batch(45, 62)
    parameters = Tvl1(**setting)
    cpu = Tvl1Solver(parameters, 45, 62)(first, second)
    other = Tvl1Solver(parameters, 45, 62, device="torch:cpu")(first, second)
    np.testing.assert_allclose(other, cpu, atol=0.01)
    assert np.abs(other - cpu).mean() < 1e-4
    assert not other[1].any()


@pytest.mark.slow
def test_torch_gives_a_pair_the_same_flow_in_any_batch():
    first, second = mixed_batch(33, 47)
    solver = Tvl1Solver(Tvl1(warps=2), 33, 47, device="torch:cpu")
    alone = [solver(first[i : i + 1], second[i : i + 1])[0] for i in range(3)]
    np.testing.assert_array_equal(solver(first, second), np.stack(alone))


@pytest.mark.parametrize("device", ["cpu", "torch:cpu"])
@pytest.mark.parametrize(
    "setting",
    [
        {"gamma": 2.0, "epsilon": 0.0, "iterations": 50, "n_scales": 1, "warps": 1},
        {"gamma": 1.0, "warps": 2},
        {"gamma": 3.0, "epsilon": 0.05, "n_scales": 3, "scale_step": 0.6, "warps": 1},
    ],
)
def test_illumination_term_agrees_with_the_transcription(setting, device):
    first, second = moving_texture(40, 51)
    brighter = cv2.add(second, np.linspace(0, 30, 51, dtype=np.uint8)[None].repeat(40, 0))
    ours = flow_of(first, brighter, Tvl1(**setting), device=device)
    assert distance(ours, tvl1(first, brighter, **setting)).max() < 0.01
    without = flow_of(first, brighter, Tvl1(**setting | {"gamma": 0.0}))
    assert distance(ours, without).mean() > 0.02


@pytest.mark.parametrize("device", ["cpu", pytest.param("torch:cpu", marks=pytest.mark.slow)])
def test_illumination_term_takes_up_a_change_of_brightness(device):
    """A texture moves by two pixels and one while a bright spot falls on its middle."""
    noise = np.random.default_rng(0).uniform(0, 255, (68, 84)).astype(np.float32)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 40, 200, cv2.NORM_MINMAX)
    y, x = np.mgrid[:48, :64]
    spot = 40 * np.exp(-((x - 32) ** 2 + (y - 24) ** 2) / (2 * 12**2))
    first = texture[10:58, 10:74].astype(np.uint8)
    second = (texture[9:57, 12:76] + spot).astype(np.uint8)
    truth = np.array([-2, 1])[:, None, None]
    lit, unlit = (
        distance(flow_of(first, second, Tvl1(gamma=gamma, warps=3), device=device), truth).mean()
        for gamma in (3.0, 0.0)
    )
    assert lit < unlit / 2


def test_median_is_that_of_the_transcription():
    first, second = moving_texture(40, 51, motion=3)

    def median(u):
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(u, 2, mode="edge"), (5, 5))
        return np.median(windows, axis=(2, 3))

    ours = flow_of(first, second, Tvl1(median=5))
    assert distance(ours, tvl1(first, second, median=median)).mean() < 0.01
    assert distance(ours, flow_of(first, second)).mean() > 1e-3


INTERPRETED = [
    {"warps": 1, "epsilon": 0.2},
    {"warps": 2, "epsilon": 0.0, "iterations": 3, "cubic": -0.75},
    {"warps": 1, "epsilon": 0.0, "iterations": 7, "gamma": 1.0},
    {"warps": 1, "epsilon": 0.2, "iterations": 16, "steps": "over-relaxed"},
]


def interpret(folder):
    """Compute what `test_triton_...` compares; runs in a process of its own."""
    frames = np.load(f"{folder}/frames.npy")
    for i, setting in enumerate(INTERPRETED):
        solver = Tvl1Solver(Tvl1(**setting), *frames.shape[-2:], device="cuda")
        np.save(f"{folder}/{solver.name}{i}.npy", solver(*frames))


@pytest.mark.slow
def test_triton_agrees_with_the_cpu_under_its_interpreter(tmp_path):
    """Triton decides when it is imported whether to interpret: hence the process."""
    pytest.importorskip("triton", reason="triton is not installed; torch for CUDA brings it")
    first, second = mixed_batch(21, 33)
    np.save(tmp_path / "frames.npy", np.stack([first, second]))
    program = f"from tests.flow.test_kernels import interpret; interpret({str(tmp_path)!r})"
    root = Path(__file__).parents[2]
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, cwd=root)
    for i, setting in enumerate(INTERPRETED):
        flow = np.load(tmp_path / f"flowpipe-cuda{i}.npy")
        cpu = Tvl1Solver(Tvl1(**setting), 21, 33)(first, second)
        np.testing.assert_allclose(flow, cpu, atol=1e-3)
        plain = tvl1(first[0], second[0], **setting)
        assert distance(flow[0], plain).mean() < 0.01
        assert flow[0].any()
        assert not flow[1].any()


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_triton_kernels_compile_for_nvidia_gpus(capability):
    """To machine code, which takes no GPU: what the interpreter allows, the compiler may not."""
    triton = pytest.importorskip(
        "triton", reason="triton is not installed; torch for CUDA brings it"
    )
    from triton.backends.compiler import GPUTarget

    from flowpipe.flow.kernels import cuda_loops

    floats = {"cubic", "stop", "taut", "l_t", "theta", "gamma"}
    integers = {"n", "height", "width", "blocks"}
    for kernel, components, relaxed in [
        (cuda_loops.warp, 2, False),
        (cuda_loops.warp, 3, False),
        (cuda_loops.iterate, 2, False),
        (cuda_loops.iterate, 3, False),
        (cuda_loops.iterate, 2, True),
    ]:
        kinds = dict.fromkeys(kernel.arg_names, "*fp32")
        kinds |= {name: "fp32" for name in kinds if name in floats}
        kinds |= {name: "i32" for name in kinds if name in integers}
        kinds |= {name: "*i32" for name in kinds if name.endswith("_state")}
        constants = {"COMPONENTS": components, "RELAXED": relaxed, "BLOCK": 256, "BLOCKS": 512}
        kinds |= {name: "constexpr" for name in kinds if name in constants}
        source = triton.compiler.ASTSource(
            kernel, kinds, {name: constants[name] for name in kinds if name in constants}
        )
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        assert len(compiled.asm["cubin"]) > 1000


def test_running_out_of_memory_halves_the_batch(monkeypatch):
    from flowpipe.flow.kernels.torch_ops import TorchKernels

    sizes = []
    begin = TorchKernels.begin

    def small(self, first, second, flow):
        sizes.append(len(first))
        if len(first) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
        begin(self, first, second, flow)

    first, second = (np.concatenate([i, i]) for i in mixed_batch(20, 24))
    parameters = Tvl1(n_scales=1, warps=1)
    expected = Tvl1Solver(parameters, 20, 24, device="torch:cpu")(first, second)
    monkeypatch.setattr(TorchKernels, "begin", small)
    solver = Tvl1Solver(parameters, 20, 24, device="torch:cpu")
    np.testing.assert_array_equal(solver(first, second), expected)
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1]
    solver(first[:1], second[:1])

    def never(self, first, second, flow):
        raise torch.OutOfMemoryError("CUDA out of memory (simulated)")

    monkeypatch.setattr(TorchKernels, "begin", never)
    with pytest.raises(torch.OutOfMemoryError):
        solver(first, second)


def test_what_a_device_lacks_is_said():
    with pytest.raises(BackendUnavailableError, match="torch cannot use device 'abacus'"):
        Tvl1Solver(Tvl1(), 20, 30, device="torch:abacus")
    if not torch.cuda.is_available():
        with pytest.raises(BackendUnavailableError, match=r"triton|NVIDIA GPU"):
            Tvl1Solver(Tvl1(), 20, 30, device="cuda")


def test_the_cpu_solver_does_not_import_torch():
    program = (
        "import sys, numpy as np\n"
        "from flowpipe.flow.tvl1 import Tvl1Solver\n"
        "from flowpipe.flow.parameters import Tvl1\n"
        "frames = np.zeros((1, 20, 30), np.uint8)\n"
        "Tvl1Solver(Tvl1(), 20, 30)(frames, frames)\n"
        "assert not {'torch', 'triton'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("device", ["cuda", "torch:cuda"])
def test_gpu_agrees_with_the_cpu(device):
    first, second = mixed_batch(120, 161)
    cpu = Tvl1Solver(Tvl1(), 120, 161)(first, second)
    solver = Tvl1Solver(Tvl1(), 120, 161, device=device)
    flow = solver(first, second)
    assert np.hypot(*(flow - cpu).swapaxes(0, 1)).mean() < 0.01
    assert not flow[1].any()
    np.testing.assert_array_equal(solver(first, second), flow)
