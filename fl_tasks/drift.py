"""SCAFFOLD's client: gradients corrected for the drift of one site (Karimireddy et al. 2020, Algorithm 1).

    g_k     = grad f_i(y_{k-1})                      the site's own gradient at step k
    y_k     = y_{k-1} - eta (g_k - c_i + c)          line 10: what the optimizer is given is corrected
    c_i+    = c_i - c + (x - y_K) / (K eta)          line 12, option II
    update  : y_K - x  and  c_i+ - c_i

``x`` is the global model, ``c`` the aggregator's control variate (it comes with the model), ``c_i`` the site's (it
never leaves it; its growth does). All have the shapes of the model's parameters; what is no parameter (running
statistics, frozen weights) has a control variate of zero.

Put line 10 into line 12, and c_i+ is the mean of g_1 .. g_K: under plain SGD option II *is* the mean of the
uncorrected gradients on the way, and that is how it is computed here. The two agree to rounding for plain SGD with a
constant rate; but (x - y_K) / (K eta) measures a gradient only there. Momentum, a rate that changes, weight decay and
above all AdamW (the chest X-ray recipe), whose steps are of size eta whatever the gradient, would put something into
c_i that the next round could not subtract from a gradient. So, whatever the optimizer:

* the correction is applied to the gradient, before the optimizer sees it. Where the mean of the sites' gradients is
  zero, c is zero, c_i is the site's gradient and AdamW is given zero in the mean: the federation's optimum is a point
  of rest for every site. A correction of AdamW's steps would keep the bias that normalised steps have when sites
  differ (Wang et al. 2021, Local Adaptivity in Federated Learning);
* decoupled weight decay (AdamW's) and SGD's, which torch adds inside the optimizer, are the same for all sites and
  are no part of g; a proximal term is in the loss, so it is.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fl_protocol.tensors import TensorSpec
from fl_tasks.params import Params


class Drift:
    """One site's control variate over one round. Call :meth:`correct` between backward and step."""

    def __init__(self, module: nn.Module, control: Params, own: Params) -> None:
        """``control`` is c, ``own`` is c_i; tensors that they lack are zero."""
        self._own = own
        self._weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        self._shift = {
            name: _as(weight, control.get(name)) - _as(weight, own.get(name))
            for name, weight in self._weights.items()
        }
        self._sum = {name: torch.zeros_like(weight) for name, weight in self._weights.items()}
        self._steps = 0

    @torch.no_grad()
    def correct(self) -> None:
        """Note the gradients of this step, then add c - c_i to them. What has no gradient takes no step."""
        self._steps += 1
        for name, weight in self._weights.items():
            if weight.grad is not None:
                self._sum[name] += weight.grad
                weight.grad += self._shift[name]

    def next_own(self, spec: TensorSpec) -> np.ndarray:
        """c_i+ of one tensor of the model; after no step at all it is c_i."""
        if spec.name in self._weights and self._steps:
            mean: np.ndarray = (self._sum[spec.name] / self._steps).cpu().numpy()
            return mean
        return self._before(spec)

    def growth(self, spec: TensorSpec) -> np.ndarray:
        """c_i+ - c_i of one tensor of the model."""
        grown: np.ndarray = self.next_own(spec) - self._before(spec)
        return grown

    def _before(self, spec: TensorSpec) -> np.ndarray:
        held = self._own.get(spec.name)
        return np.zeros(spec.shape, np.float32) if held is None else held


def _as(weight: Tensor, values: np.ndarray | None) -> Tensor:
    if values is None:
        return torch.zeros_like(weight)
    return torch.from_numpy(np.array(values, dtype=np.float32)).to(weight.device)
