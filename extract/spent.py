"""What the lanes of a job spent their time on: computing rows, or waiting for the decoder."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Forward:
    """The forward passes of one feature."""

    rows: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0  # of the lane's thread

    def __add__(self, other: "Forward") -> "Forward":
        return Forward(
            rows=self.rows + other.rows,
            seconds=self.seconds + other.seconds,
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
        )

    def __sub__(self, other: "Forward") -> "Forward":
        return Forward(
            rows=self.rows - other.rows,
            seconds=self.seconds - other.seconds,
            cpu_seconds=self.cpu_seconds - other.cpu_seconds,
        )

    def busy(self, device: str) -> float:
        """Seconds that the device worked: a CPU's own, whatever else runs beside; else all."""
        return self.cpu_seconds if device == "cpu" else self.seconds


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Where the time of lanes went, from each lane's first row to its end."""

    lanes: int = 0
    seconds: float = 0.0  # of all lanes
    waited: float = 0.0  # of those, for the decoder
    decoder_cpu_seconds: float = 0.0
    forward: Mapping[str, Forward] = field(default_factory=dict)  # by feature

    def __add__(self, other: "Spent") -> "Spent":
        names = {**self.forward, **other.forward}
        return Spent(
            lanes=self.lanes + other.lanes,
            seconds=self.seconds + other.seconds,
            waited=self.waited + other.waited,
            decoder_cpu_seconds=self.decoder_cpu_seconds + other.decoder_cpu_seconds,
            forward={
                name: self.forward.get(name, Forward()) + other.forward.get(name, Forward())
                for name in names
            },
        )

    @property
    def forward_all(self) -> Forward:
        """The forward passes of all features together."""
        return sum(self.forward.values(), Forward())

    @property
    def limit(self) -> str:
        """The side that the other one waited for; '' where nothing was done."""
        if not self.seconds:
            return ""
        return "decoding" if self.waited > self.forward_all.seconds else "the forward pass"
