"""Index one scan on many nodes: dask-jobqueue starts workers as Slurm jobs, which share the work of `dpcurate index`.

Run it where jobs can be submitted, and let it live until the index is written:

    .venv/bin/python hpc/index_jobqueue.py scan.zspy --phase phase.cif --jobs 8 --queue standard

Scan, phases and .venv must lie on a file system that every node sees. `--show-job` prints the job that would be
submitted; `--local 2` takes two processes of this machine in place of Slurm jobs, to try it out.
"""

import argparse
import sys
from pathlib import Path

from dask_jobqueue import SLURMCluster
from distributed import LocalCluster

from dpcurate.errors import InputError
from dpcurate.pipeline import index_scan
from dpcurate.recipe import load_recipe
from dpcurate.workers import Workers


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--phase", action="append", help="CIF file; again for each phase; default: those of the recipe")
    parser.add_argument("--recipe", type=Path, help="TOML; default: dpcurate.toml here, if there is one")
    parser.add_argument("--out", type=Path, help="default: SCAN.index beside the scan")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--jobs", type=int, default=4, help="Slurm jobs")
    parser.add_argument("--cores", type=int, default=16, help="of each job; one worker process each")
    parser.add_argument("--memory", default="64GB", help="of each job")
    parser.add_argument("--walltime", default="04:00:00", help="of each job")
    parser.add_argument("--queue", help="Slurm partition")
    parser.add_argument("--account", help="Slurm account")
    parser.add_argument("--local", type=int, metavar="N", help="N processes on this machine in place of Slurm jobs")
    parser.add_argument("--show-job", action="store_true", help="print the job script and stop")
    return parser.parse_args()


def start_cluster(asked: argparse.Namespace) -> LocalCluster | SLURMCluster:
    """Return a running cluster; Slurm jobs are not submitted yet."""
    if asked.local:
        return LocalCluster(n_workers=asked.local, threads_per_worker=1, dashboard_address=None)
    return SLURMCluster(
        cores=asked.cores,
        processes=asked.cores,
        memory=asked.memory,
        walltime=asked.walltime,
        queue=asked.queue,
        account=asked.account,
        job_script_prologue=["export OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 HDF5_USE_FILE_LOCKING=FALSE"],
    )


def main() -> None:
    """Start the workers, index with them, say where the index lies."""
    asked = arguments()
    recipe = load_recipe(asked.recipe, phases=asked.phase)
    out = asked.out or asked.scan.with_name(asked.scan.stem + ".index")
    with start_cluster(asked) as cluster:
        if asked.show_job:
            print(cluster.job_script())
            return
        if not asked.local:
            cluster.scale(jobs=asked.jobs)
        workers = Workers(scheduler=cluster.scheduler_address)
        print(index_scan(asked.scan, recipe, out=out, overwrite=asked.overwrite, workers=workers).folder)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
