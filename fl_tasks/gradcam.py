"""Which parts of an image speak for a class: Grad-CAM (Selvaraju et al. 2017, eqs. 1 and 2).

    alpha_k = 1/Z sum_ij d y_c / d A_k,ij          weight of feature map k for class c
    L_c     = ReLU(sum_k alpha_k A_k)              (h, w)

y_c is the logit of class c, A the last feature map (k, h, w), Z = h w. Behind pooling and one linear layer alpha is
the same for every image and stands in the exported graph (onnx_export.py): the mean spreads its weight over all
places, the maximum gives its own to one, and both sums over places are the weight itself. Elsewhere autograd says.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fl_tasks.models.parts import Parts, last_map, parts_of


def explained(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """(n, c, s, s) inputs -> (n, classes) logits and (n, classes, h, w) maps from 0 on; None: it has no feature map."""
    module.eval()
    with torch.enable_grad():
        logits, seen = _with_map(module, x.detach().requires_grad_())
        if seen.ndim != 4:
            return logits.detach(), None
        each = [_map_of(logits[:, index], seen) for index in range(logits.shape[1])]
    return logits.detach(), torch.stack(each, dim=1)


def closed_form(parts: Parts, features: Tensor) -> Tensor:
    """(n, k, h, w) feature maps -> (n, classes, h, w), the same as by autograd. ``parts`` has weights."""
    assert parts.weights is not None
    places = features.shape[2] * features.shape[3]
    return torch.relu(torch.einsum("ck,nkhw->nchw", parts.weights, features) / places)


def _with_map(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    parts = parts_of(module)
    if parts is None:
        return last_map(module, x)
    seen = parts.features(x)
    return parts.head(seen), seen


def _map_of(logit: Tensor, seen: Tensor) -> Tensor:
    """One class's maps, (n, h, w). Images do not meet in evaluation, so one backward pass serves them all."""
    (slope,) = torch.autograd.grad(logit.sum(), seen, retain_graph=True)
    alpha = slope.mean(dim=(2, 3), keepdim=True)
    return torch.relu((alpha * seen).sum(dim=1)).detach()
