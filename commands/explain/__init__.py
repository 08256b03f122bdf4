"""Why a run says what it says: tables, and pictures beside the frames of the videos."""

import click

from mmf.commands.explain import (
    ablation,
    attention,
    selection,
    sensitivity,
    shares,
    similarity,
    stencils,
)
from mmf.commands.shell import Commands


@click.group(cls=Commands)
@click.argument("run", type=click.Path())
@click.pass_context
def explain(context: click.Context, run: str) -> None:
    """Why RUN says what it says.

    \b
    mmf explain runs/mixer-1 stencils          # what each class looks for, and in what modality
    mmf explain runs/mixer-1 ablation          # what is lost without a modality
    mmf explain runs/mixer-1 shares            # what it owes to each
    mmf explain runs/policy-1 selection        # which modality its policy used when
    mmf explain runs/gmsa-1 attention          # what its layers of attention look at
    mmf explain runs/gmsa-1 sensitivity        # how local they are in what they do
    mmf explain runs/gmsa-1 similarity         # how alike the rows are that it is given
    """
    context.obj = run


for _command in (
    ablation.ablation,
    attention.attention,
    selection.selection,
    sensitivity.sensitivity,
    shares.shares,
    similarity.similarity,
    stencils.stencils,
):
    explain.add_command(_command)
