"""The largest value of a function on a sphere, climbed from many starts at once.

A step goes from x towards the point of the sphere that the gradient g points at, and back onto it:

    x' = P(x + γ (P(g) - x)),    P(v) = r v / ‖v‖

the conditional gradient of Frank and Wolfe (1956), which needs no learning rate; with γ = 1 it is
the generalised power method (Journée, Nesterov, Richtárik and Sepulchre, JMLR 2010). A start whose
value would not rise stays where it is and halves its γ, so values never fall; of a linear function
the first step arrives. It is a local search: another start may end higher.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

_SMALLEST = 1e-3  # γ at which a start has arrived


def ascend(
    function: Callable[[Float[Tensor, "N E"]], Float[Tensor, " N"]],
    start: Float[Tensor, "N E"],
    radius: float,
    steps: int,
) -> tuple[Float[Tensor, "N E"], Float[Tensor, " N"]]:
    """Where each start arrives on the sphere of this radius, and the function's values there.

    Row n of the values depends on row n of the points alone. The mean over steps of the work is a
    forward and a backward pass over all N.
    """

    def project(v: Tensor) -> Tensor:
        return v * (radius / torch.linalg.vector_norm(v, dim=1, keepdim=True).clamp_min(1e-30))

    def climb(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value = function(x)
            (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient

    x = project(start)
    value, gradient = climb(x)
    size = torch.ones_like(value)
    for _ in range(steps):
        new = project(x + size[:, None] * (project(gradient) - x))
        risen, its = climb(new)
        better = risen > value
        x = torch.where(better[:, None], new, x)
        gradient = torch.where(better[:, None], its, gradient)
        value = torch.where(better, risen, value)
        size = torch.where(better, (1.5 * size).clamp_max(1), size / 2)
        if bool((size < _SMALLEST).all()):
            break
    return x, value
