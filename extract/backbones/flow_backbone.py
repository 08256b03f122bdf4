"""What backbones on optical flow share: the choice of the flow, and what the recipe says of it.

Options: ``flow`` (farneback, dis, raft, gmflow, with a variant as in gmflow:scale2), and for a
network ``flow_weights`` (pretrained, a location or random:SEED) and ``fit`` (pad or resize).
"""

from collections.abc import Mapping
from typing import ClassVar

import cv2
import numpy as np

from mmf import MmfError
from mmf.extract.backbones.contract import Backbone, Setup
from mmf.extract.flow import FlowSetup, open_flow
from mmf.store.weights import WeightsMissing

OPTIONS: Mapping[str, str] = {"flow": "farneback", "flow_weights": "pretrained", "fit": "pad"}
_OF_NETWORKS = ("flow_weights", "fit")


class FlowBackbone(Backbone):
    """A backbone that looks at the flow between neighbouring frames."""

    modality: ClassVar[str] = "flow"
    options: ClassVar[Mapping[str, str]] = OPTIONS

    def __init__(self, setup: Setup):
        super().__init__(setup)
        location = self.chosen["flow_weights"]
        pin, at, path = location.partition("@") if location.startswith("sha256:") else ("", "", "")
        asked = FlowSetup(
            name=self.chosen["flow"],
            weights=path if at else location,
            fit=self.chosen["fit"],
            device=setup.device,
        )
        try:
            self.flow = open_flow(asked)
        except WeightsMissing as error:
            own = f"{error} Beside a network's own they are named by flow_weights=… in --feature."
            raise WeightsMissing(own) from error
        if pin not in ("", self.flow.weights):
            raise MmfError(
                f"the flow's weights in {path!r} are not those that the feature was made with: "
                f"{pin} then, {self.flow.weights} now. Put the same file there again."
            )
        self._say_what_counts()

    def _say_what_counts(self) -> None:
        """Let the recipe hold the weights' bytes, and nothing that a formula does not have."""
        if self.flow.weights is None:
            self.chosen = {k: v for k, v in self.chosen.items() if k not in _OF_NETWORKS}
            return
        self.chosen = {**self.chosen, "flow_weights": self.flow.weights}
        if self.flow.weights_path:
            self.option_paths = {"flow_weights": self.flow.weights_path}

    def flow_flops(self) -> float | None:
        """Operations of a row's flow; None where no one counted."""
        pairs = int(np.prod(self.signal.row_shape[:-4]))
        flops = self.flow.flops(*self.signal.row_shape[-3:-1])
        return None if flops is None else pairs * flops

    def flops_per_row(self) -> float | None:
        """Operations of one row; None where no one counted."""
        return self.flow_flops()

    def libraries(self) -> dict[str, str]:
        """Versions of what computes the rows."""
        return {**super().libraries(), "cv2": cv2.__version__, **self.flow.libraries()}
