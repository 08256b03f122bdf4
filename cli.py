"""The command line: it parses, connects the two stages, and prints.

The commands are in `mmf.commands`, a file for each part of the work. The body of a command is a
function of its stage; the stages meet in the commands and nowhere else, and each is imported inside
the command that needs it, so that `mmf --help` answers at once.
"""

import logging
import shutil
import sys
from pathlib import Path

import click

from mmf import MmfError, __version__
from mmf.commands import (
    about,
    chaos,
    compare,
    demo,
    evaluation,
    exchange,
    explain,
    extract,
    look,
    prediction,
    report,
    stores,
    training,
    weights,
)
from mmf.commands.shell import Commands


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command has --help with an example. --debug shows a traceback.",
)
@click.version_option(__version__, prog_name="mmf")
def cli() -> None:
    """Extract features of videos once, then train small fusion models on them many times.

    \b
    mmf extract --modality audio      # the videos of this folder, into features.mmf
    mmf extract --modality rgb
    mmf train --fusion mfb            # into runs/mfb-1
    mmf evaluate runs/mfb-1
    """


for _command in (
    extract.extract,
    look.look,
    weights.weights,
    stores.status,
    stores.verify,
    stores.repair,
    stores.compact,
    stores.gc,
    stores.delete,
    stores.label,
    stores.split,
    exchange.import_,
    exchange.export,
    training.train,
    evaluation.evaluate,
    compare.compare,
    prediction.predict,
    explain.explain,
    report.report,
    about.list_,
    about.doctor,
    chaos.chaos,
    demo.demo,
):
    cli.add_command(_command)


def main() -> None:
    """Run the command line; an error is one sentence on stderr, never a traceback."""
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    logging.basicConfig(
        format="mmf: %(message)s", level=logging.DEBUG if debug else logging.WARNING
    )
    if not debug:
        logging.getLogger().handlers[0].addFilter(lambda r: r.name.startswith("mmf"))
    try:
        code = cli.main(arguments, prog_name="mmf", standalone_mode=False)
    except (MmfError, click.ClickException, click.Abort, OSError) as error:
        if debug:
            raise
        code, sentence = _said(error)
        click.echo(f"mmf: error: {sentence}" if sentence else "", err=True)
    sys.exit(code if isinstance(code, int) else 0)


def _said(error: Exception) -> tuple[int, str]:
    """Exit code and sentence of an error."""
    if isinstance(error, click.Abort):
        return 130, "interrupted; the same command goes on from here."
    if isinstance(error, click.ClickException):
        text = error.format_message()
        context = getattr(error, "ctx", None)
        where = f" See `{context.command_path} --help`." if context else ""
        return 2, text + ("" if text.endswith((".", "?")) else ".") + where
    if isinstance(error, OSError) and not isinstance(error, MmfError):
        text = f"{error}{_free_space(error)}."
        return 74, f"{text} What was committed is safe; the same command goes on from there."
    return getattr(error, "exit_code", 2), str(error)


def _free_space(error: OSError) -> str:
    """The bytes that are free where an error of the system befell a file."""
    for folder in Path(str(error.filename)).absolute().parents if error.filename else ():
        try:
            return f" ({shutil.disk_usage(folder).free} bytes free in {str(folder)!r})"
        except OSError:
            continue
    return ""


if __name__ == "__main__":
    main()
