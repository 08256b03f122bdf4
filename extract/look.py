"""What each network will really receive of a video, as one picture with one axis of seconds.

A band for each feature: frames as they were resized and cropped, clips as a strip of their frames,
flow as the picture that it becomes, sound as the network's own spectrogram, cues where they begin.
No weights are needed: what goes into a network does not depend on them (but on those of a network
that makes it: of flow, or of text from speech).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from mmf import MmfError, from_extra
from mmf.extract.backbones import Backbone, backbone_class
from mmf.extract.backbones.flow_backbone import FlowBackbone
from mmf.extract.backbones.logmel import log_mel
from mmf.extract.decoder.events import Ended, Failed, Restarted, Sample
from mmf.extract.decoder.parent import Decoder
from mmf.extract.decoder.staging import at_hand
from mmf.extract.flow.encoding import encode
from mmf.extract.hearing import Listener
from mmf.extract.media.opening import Unusable
from mmf.extract.media.urls import shown
from mmf.extract.recipe import build
from mmf.extract.request import FeatureRequest
from mmf.extract.signals import Clips, Cues, FramePairs, Signal, Waves

CUES, SOUNDS = 24, 600  # rows shown at most
STRIP = 3  # frames shown of a clip
# inches: of a band and its height, of what lies over, under and beside it
WIDTH, HEIGHT, OVER, UNDER, BESIDE = 15.0, 1.3, 0.3, 0.12, 0.2


@dataclass(kw_only=True)
class Band:
    """What one feature has of the video: some rows of its signal, evenly over its time."""

    request: FeatureRequest
    backbone: Backbone
    wanted: frozenset[int]
    rows: int = 0  # of the whole video
    missing: str = ""
    times: list[float] = field(default_factory=list)
    payloads: list[Any] = field(default_factory=list)

    def wants(self, row: int) -> bool:
        """Whether a row may be shown; how many are heard in speech is not known before."""
        return row in self.wanted or self.backbone.transcriber is not None


def look(path: str, requests: Sequence[FeatureRequest], out: str) -> list[Band]:
    """Draw what the features would receive of the file at `path` into a picture at `out`.

    Raises MmfError where the file cannot be used or matplotlib is not there.
    """
    figures = from_extra("plots", "matplotlib.figure", "`mmf look`")
    name = shown(path)
    with at_hand(path) as here:
        bands, media = _looked(name, here, requests)
    pitch, top, bottom = HEIGHT + OVER + UNDER, 0.35, 0.45
    tall = top + pitch * len(bands) + bottom
    figure = figures.Figure(figsize=(WIDTH + 2 * BESIDE, tall))
    start = min((t for band in bands for t in band.times), default=0.0)
    duration = media.duration or 0.0
    _write(figure, BESIDE, tall - 0.25, f"{name.rpartition('/')[2]}: {duration:.2f} s", size=12)
    for n, band in enumerate(bands):
        low = bottom + UNDER + pitch * (len(bands) - 1 - n)
        _write(figure, BESIDE, low + HEIGHT + 0.09, _said(band), size=9)
        wide = BESIDE / (WIDTH + 2 * BESIDE)
        axis = figure.add_axes((wide, low / tall, 1 - 2 * wide, HEIGHT / tall))
        axis.set_xlim(start, start + max(duration, 0.1))
        _draw(axis, band)
        if n < len(bands) - 1:
            axis.set_xticklabels([])
    axis.set_xlabel("seconds", fontsize=9)
    figure.savefig(out, dpi=110)
    return bands


def _blind(request: FeatureRequest) -> FeatureRequest:
    """The request with random weights; those of a flow count for what its pictures show."""
    network = backbone_class(request.backbone, request.modality).has_weights
    return replace(request, weights="random:0") if network else request


def _write(figure: Any, x: float, y: float, text: str, *, size: int) -> None:
    """A line of text at a place in inches; what a file is called is shown, never obeyed."""
    shown = text.encode("utf-8", "replace").decode()
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)
    wide, tall = figure.get_size_inches()
    figure.text(x / wide, y / tall, shown, fontsize=size, parse_math=False)


def _said(band: Band) -> str:
    request, signal = band.request, band.request.signal
    parts = [f"{request.name}: {request.modality}={request.backbone}"]
    if not isinstance(signal, Cues):
        parts.append(" × ".join(map(str, signal.row_shape)))
    parts.append(band.missing or f"{len(band.times)} of {band.rows} rows")
    return " · ".join(parts)


def _most(signal: Signal) -> int:
    """How many rows a band shows at most."""
    pictures = int(WIDTH / HEIGHT) // (STRIP if isinstance(signal, Clips) else 1)
    return {"waves": SOUNDS, "cues": CUES}.get(signal.kind, pictures)


def _looked(name: str, path: str, requests: Sequence[FeatureRequest]) -> tuple[list[Band], Any]:
    """The features' rows in the file at `path`, called `name`, and what the file is like."""
    with Decoder([request.signal for request in requests], plan=True) as decoder:
        decoder.submit(name, path)
        foreseen = _ended(next(decoder.events()))
    bands = []
    for request, rows in zip(requests, foreseen.rows, strict=True):
        wanted = frozenset(range(0, rows, max(1, -(-rows // _most(request.signal)))))
        bands.append(Band(request=request, backbone=build(_blind(request)), wanted=wanted))
    return bands, _fill(name, path, bands)


def _fill(name: str, path: str, bands: Sequence[Band]) -> Any:
    """Decode the file once and keep the rows that are wanted; what the file is like."""
    signals = list(dict.fromkeys(band.request.signal for band in bands))
    ears = {signals.index(b.request.signal): b.backbone.transcriber for b in bands}
    listener = Listener({signal: ear for signal, ear in ears.items() if ear})
    with Decoder(signals) as decoder:
        decoder.submit(name, path)
        for event in chain.from_iterable(map(listener, decoder.events())):
            if isinstance(event, Restarted):
                for band in bands:
                    band.times.clear()
                    band.payloads.clear()
            elif isinstance(event, Sample):
                for band in bands:
                    if band.request.signal == signals[event.signal] and band.wants(event.row):
                        band.times.append(event.time)
                        band.payloads.append(_copied(event.payload))
            else:
                ended = _ended(event)
    for band in bands:
        at = signals.index(band.request.signal)
        band.rows, band.missing = ended.rows[at], ended.missing.get(at, "")
        few = slice(None, None, max(1, -(-len(band.times) // _most(band.request.signal))))
        band.times, band.payloads = band.times[few], band.payloads[few]
    return ended.media


def _copied(payload: np.ndarray | str) -> np.ndarray | str:
    return payload if isinstance(payload, str) else payload.copy()


def _ended(event: Any) -> Ended:
    if isinstance(event, Failed):
        raise Unusable(event.reason, event.stage, f"{event.key!r}: {event.message}")
    if not isinstance(event, Ended):
        raise MmfError(f"{event.key!r}: the decoder's process died in this file.")
    return event


def _draw(axis: Any, band: Band) -> None:
    signal = band.request.signal
    axis.set_yticks([])
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right", "left"]].set_visible(False)
    if isinstance(signal, Cues):
        _draw_cues(axis, band)
    elif isinstance(signal, Waves):
        _draw_sound(axis, band, signal)
    else:
        _draw_pictures(axis, band)


def _draw_pictures(axis: Any, band: Band) -> None:
    """Each picture begins at its row's time; what would overlap the one before is left out."""
    low, high = axis.get_xlim()
    per_inch = (high - low) / WIDTH
    behind = -np.inf
    axis.set_ylim(0, 1)
    for time, payload in zip(band.times, band.payloads, strict=True):
        picture = as_picture(band.backbone, payload)
        width = HEIGHT * picture.shape[1] / picture.shape[0] * per_inch
        left = min(time, high - width)
        axis.plot([time, time], [-0.06, 0], color="black", linewidth=0.8, clip_on=False)
        if left < behind:
            continue
        behind = left + width
        axis.imshow(picture, extent=(left, left + width, 0, 1), aspect="auto")
        edge = ([left, left, left + width, left + width], [0, 1, 1, 0])
        axis.plot(*edge, color="0.6", linewidth=0.5, clip_on=False)
    axis.set_xlim(low, high)


def as_picture(
    backbone: Backbone, payload: Shaped[np.ndarray, "..."]
) -> Shaped[np.ndarray, "h w 3"]:
    """One row's payload as its network is shown it: RGB uint8, a clip's frames side by side."""
    signal = backbone.signal
    paired = isinstance(signal, FramePairs) or (isinstance(signal, Clips) and signal.pairs)
    pictures = payload.reshape(-1, *payload.shape[-(4 if paired else 3) :])
    pictures = pictures[:: max(1, -(-len(pictures) // STRIP))]
    if paired and isinstance(backbone, FlowBackbone):
        way, bound = backbone.chosen.get("encode", "wheel"), backbone.chosen.get("bound", "frame")
        speed = None if bound == "frame" else float(bound)
        flows = backbone.flow.pairs(np.ascontiguousarray(pictures))
        pictures = np.stack(
            [encode(f, p[0], way=way, bound=speed) for f, p in zip(flows, pictures, strict=True)]
        )
    elif paired:
        pictures = pictures[:, 0]
    return np.concatenate(list(pictures), axis=1)


def _draw_sound(axis: Any, band: Band, signal: Waves) -> None:
    made = [as_spectrogram(band.backbone, wave) for wave in band.payloads]
    axis.set_ylim(0, 1)
    if not made:
        return
    low, high = min(one.min() for one in made), max(one.max() for one in made)
    step = min(np.diff(band.times), default=np.inf)
    span = min(signal.samples / signal.sample_rate, float(step))
    ends = axis.get_xlim()
    for time, one in zip(band.times, made, strict=True):
        if one.ndim == 1:
            at = time + np.linspace(0, span, len(one))
            axis.plot(at, 0.5 + one / max(abs(low), abs(high), 1e-6) / 2, color="C0", linewidth=0.3)
            continue
        extent = (time, time + span, 0, 1)
        axis.imshow(one[::-1], extent=extent, aspect="auto", vmin=low, vmax=high, cmap="magma")
        axis.plot([time, time], [-0.06, 0], color="black", linewidth=0.8, clip_on=False)
    axis.set_xlim(ends)


def as_spectrogram(
    backbone: Backbone, wave: Float32[np.ndarray, " samples"]
) -> Float32[np.ndarray, "..."]:
    """A window of sound as its network is shown it: (bands, time), low bands first, or a wave."""
    prepare = getattr(backbone, "prepare", None)
    if prepare is None:
        return log_mel(wave[None])[0].T if backbone.name == "logmel" else wave
    given = prepare(wave[None]).float().cpu().numpy()[0]
    if given.ndim == 1:
        return given
    if given.ndim == 3 and given.shape[0] == 3:  # an image, frequency upwards already
        return given.mean(axis=0)[::-1]
    return given.reshape(-1, given.shape[-1]).T


def _draw_cues(axis: Any, band: Band) -> None:
    lines, ends = 4, axis.get_xlim()
    axis.set_ylim(0, lines)
    for n, (time, text) in enumerate(zip(band.times, band.payloads, strict=True)):
        flat = " ".join(text.split())
        short = flat if len(flat) <= 48 else flat[:47] + "…"
        height = lines - 0.6 - n % lines
        axis.plot([time, time], [0, height + 0.3], color="C1", linewidth=0.8)
        late = time > ends[0] + 0.8 * (ends[1] - ends[0])
        side = "right" if late else "left"
        axis.text(time, height, f" {short} ", fontsize=8, va="center", ha=side, parse_math=False)
