"""What the pictures of explanations share: matplotlib, colours, and names that are only shown."""

from typing import Any

from mmf import from_extra

COLOURS = ("#1f5a94", "#c4741a", "#4b8a3a", "#8d4a97", "#7a6a58", "#2b8f9b")  # of modalities
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")  # that grey prints tell apart, too
_SIGNS = 140  # of a line


def matplotlib(module: str) -> Any:
    """A module of matplotlib; MmfError where it is not installed."""
    return from_extra("plots", f"matplotlib.{module}", "a picture")


def plain(text: str) -> str:
    """What a file or a class is called is shown, never obeyed."""
    shown = text if len(text) <= _SIGNS else f"{text[: _SIGNS // 2]} … {text[-_SIGNS // 3 :]}"
    shown = shown.encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)
