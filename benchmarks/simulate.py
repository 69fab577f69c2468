"""How fast patterns are simulated, beside diffsims in the same run, and how much memory a long simulation takes.

Example: python benchmarks/simulate.py --phase datasets/phases/LiNiO2.cif
On a GPU, `--device cuda` prints what the card could do, then what it did; diffsims is left out. `--phase` may be a
phase record in JSON (`--write-record`), so that a machine without curation packages can run it.
"""

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from dpcurate.conditions import InstrumentModel, SampleModel
from dpcurate.orientations import random_uniform
from dpcurate.schema import PhaseRecord
from dpcurate.simulation_plan import Geometry, SimulationPlan, SimulationRecipe
from dpcurate.simulator import SIMULATED_AT_ONCE, azimuths, beams, draw, expected, make_simulator, simulate

SHAPE, SCALE = (128, 128), 0.0209677
K_MAX = 1.3
DOSE = 10_000.0
BATCH = 256
REPEATS = 5


def plan(physics: str, *, precession_deg: float, number: int) -> SimulationPlan:
    """Patterns of 128 x 128, dose 10,000, one grain each: spots, background, Poisson noise."""
    instrument = InstrumentModel(dose_electrons=(DOSE, DOSE), hot_fraction=None, dead_fraction=None)
    sample = SampleModel(overlap_chance=0, mosaic_deg=None, ring_chance=0, instrument=instrument)
    recipe = SimulationRecipe(physics=physics, k_max_inv_angstrom=K_MAX, sample=sample)
    geometry = Geometry(
        shape=SHAPE,
        scale_inv_angstrom=SCALE,
        center_xy=(64.3, 63.6),
        beam_energy_kev=200,
        precession_deg=precession_deg,
    )
    return SimulationPlan(recipe=recipe, geometry=geometry, seed=0, number=number)


def seconds(act: Callable[[], object], *, repeats: int = REPEATS) -> np.ndarray:
    """Seconds of each of a few calls, after one that warms up."""
    act()
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        act()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        took.append(time.perf_counter() - start)
    return np.array(took)


def told(name: str, took: np.ndarray, n: int) -> float:
    """Print patterns per second, median and range; return the median."""
    speed = n / took
    print(f"{name:62} {np.median(speed):10.0f} /s   ({speed.min():.0f} to {speed.max():.0f})", flush=True)
    return float(np.median(speed))


def stages(phase: PhaseRecord, physics: str, *, precession_deg: float, device: str, batch: int) -> float:
    """Print the speed of each stage and of all; return that of a stream on the CPU."""
    simulator = make_simulator(plan(physics, precession_deg=precession_deg, number=batch), [phase], device=device)
    drawn = draw(simulator, np.arange(batch))
    name = f"{physics}, precession {precession_deg:g} deg, {device}"
    told(f"{name}: labels and conditions, on the CPU", seconds(lambda: draw(simulator, drawn.index)), batch)
    told(f"{name}: spots alone", seconds(lambda: beams(simulator, drawn)), batch)
    told(f"{name}: expected electrons", seconds(lambda: expected(simulator, drawn)), batch)
    told(f"{name}: counts, all of it", seconds(lambda: simulate(simulator, draw(simulator, drawn.index))), batch)
    if device != "cpu":
        return 0.0
    from dpcurate.patterns import simulated_patterns

    number = 8 * SIMULATED_AT_ONCE
    took = seconds(lambda: [len(block) for block in simulated_patterns(simulator, np.arange(number))], repeats=3)
    return told(f"{name}: stream of counts, as datasets are made", took, number)


def peer(phase: PhaseRecord, *, n: int) -> float:
    """Spots by diffsims and its rendering, noise not included."""
    from diffsims.generators.simulation_generator import SimulationGenerator
    from orix.quaternion import Rotation

    from dpcurate.phases import orix_phase

    generator = SimulationGenerator(accelerating_voltage=200)
    rotation = Rotation(random_uniform(n, seed=0))

    def act() -> None:
        simulation = generator.calculate_diffraction2d(
            orix_phase(phase),
            rotation=rotation,
            reciprocal_radius=K_MAX,
            max_excitation_error=0.02,
            with_direct_beam=False,
        )
        for k in range(n):
            simulation.rotation_index = k
            simulation.get_diffraction_pattern(
                shape=SHAPE, sigma=1.2, calibration=SCALE, fast=False, clip_threshold=1e-6, normalize=False
            )

    return told("diffsims: spots and pictures, no background, no noise", seconds(act, repeats=3), n)


def memory(phase: PhaseRecord, physics: str, *, number: int) -> None:
    """Simulate many patterns block by block and print the most memory that this process ever held."""
    from dpcurate.patterns import simulated_patterns

    simulator = make_simulator(plan(physics, precession_deg=0, number=number), [phase])
    start, done, electrons = time.perf_counter(), 0, 0
    for block in simulated_patterns(simulator, np.arange(number)):
        done += len(block)
        electrons += int(block.sum(dtype=np.int64))
    took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{done} {physics} patterns in {took:.0f} s ({done / took:.0f} /s), {electrons / done:.0f} counts each; ",
        end="",
    )
    print(f"peak resident memory {peak:.2f} GiB, all packages included")


def limits(phase: PhaseRecord) -> None:
    """Print what the card's bandwidth and arithmetic would allow, before anything is measured."""
    bandwidth, arithmetic = copy_bandwidth(), matmul_rate()
    print(f"{torch.cuda.get_device_name()}: copies {bandwidth / 1e12:.2f} TB/s, ", end="")
    print(f"float32 products {arithmetic / 1e12:.0f} TFLOP/s")
    per_pattern = SHAPE[0] * SHAPE[1] * (4 + 4 + 2)
    print(f"a picture written and read in float32 and its counts written: {per_pattern} bytes, ", end="")
    print(f"{bandwidth / per_pattern:.0f} patterns/s")
    for precession in (0.0, 0.7):
        simulator = make_simulator(plan("dynamical", precession_deg=precession, number=64), [phase], device="cuda")
        n = beams(simulator, draw(simulator, np.arange(64)))[0].shape[1]
        steps = azimuths(simulator.plan, simulator.theory[0]) if precession else 1
        terms = 2 * np.pi * 0.05 * 500
        work = 2 * n**2 * steps * terms
        print(f"dynamical, precession {precession:g}: {n} beams, {terms:.0f} terms, {steps} azimuths, ", end="")
        print(f"{work / 1e6:.0f} MFLOP, {arithmetic / work:.0f} patterns/s")


def copy_bandwidth() -> float:
    """Bytes a second, read and written, of a large copy on the card."""
    source = torch.empty(2**28, device="cuda")
    target = torch.empty_like(source)
    return 2 * 4 * 2**28 / float(np.median(seconds(lambda: target.copy_(source))))


def matmul_rate() -> float:
    """Operations a second of large float32 matrix products on the card."""
    matrix = torch.randn(8192, 8192, device="cuda")
    return 2 * 8192**3 / float(np.median(seconds(lambda: matrix @ matrix)))


def on_gpu(phase: PhaseRecord) -> None:
    """Limits, then speeds."""
    limits(phase)
    for physics in ("kinematical", "dynamical"):
        for precession in (0.0, 0.7):
            stages(phase, physics, precession_deg=precession, device="cuda", batch=4096)


def on_cpu(phase: PhaseRecord) -> None:
    """Speeds, and the ratio to diffsims in the same run."""
    ours = stages(phase, "kinematical", precession_deg=0.0, device="cpu", batch=BATCH)
    theirs = peer(phase, n=64)
    print(f"ratio to diffsims: {ours / theirs:.1f}")
    simulator = make_simulator(plan("kinematical", precession_deg=0, number=BATCH), [phase])
    rates = expected(simulator, draw(simulator, np.arange(BATCH)))
    told("torch.poisson alone, for comparison", seconds(lambda: torch.poisson(rates)), BATCH)
    stages(phase, "kinematical", precession_deg=0.7, device="cpu", batch=BATCH)
    stages(phase, "dynamical", precession_deg=0.0, device="cpu", batch=BATCH)
    stages(phase, "dynamical", precession_deg=0.7, device="cpu", batch=64)


def read_phase(path: Path) -> PhaseRecord:
    """A phase from a CIF, or from a record in JSON."""
    if path.suffix == ".json":
        return PhaseRecord.model_validate_json(path.read_text(encoding="utf-8"))
    from dpcurate.phases import read_cif

    return read_cif(path)


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phase", required=True, type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--memory", type=int, default=0, help="only simulate so many patterns, for the memory figure")
    parser.add_argument("--write-record", type=Path, help="only write the phase's record")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    phase = read_phase(arguments.phase)
    print(
        f"torch {torch.__version__}, {arguments.threads} threads, {phase.name} to {K_MAX} 1/A, {SHAPE}, dose {DOSE:.0f}"
    )
    if arguments.write_record:
        arguments.write_record.write_text(phase.model_dump_json(), encoding="utf-8")
    elif arguments.memory:
        memory(phase, "kinematical", number=arguments.memory)
    elif arguments.device == "cuda":
        on_gpu(phase)
    else:
        on_cpu(phase)


if __name__ == "__main__":
    main()
