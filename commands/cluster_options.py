"""The options that name a Dask cluster, the same for every command that can use one."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from mmf import MmfError

if TYPE_CHECKING:
    from mmf.cluster.profile import Profile


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that `profile_of` reads, but for `--workers`."""
    for add in reversed(
        (
            click.option(
                "--scheduler",
                metavar="KIND|ADDRESS",
                help="A Dask cluster: local, slurm, pbs, kubernetes, or tcp://… or tls://… of one "
                "that runs.",
            ),
            click.option(
                "--profile", metavar="FILE", help="A TOML file that describes the cluster."
            ),
            click.option(
                "--insecure-cluster", is_flag=True, help="A plain tcp:// scheduler is meant."
            ),
        )
    ):
        command = add(command)
    return command


def profile_of(options: Mapping[str, Any]) -> "Profile | None":
    """The cluster that the options name; None where they name none."""
    from mmf.cluster.profile import read_profile

    if options["scheduler"] is None:
        if options["profile"]:
            raise MmfError("--profile describes a cluster: name its kind, --scheduler slurm.")
        return None
    return read_profile(
        options["scheduler"],
        options["profile"],
        workers=options["workers"],
        insecure=options["insecure_cluster"],
    )
