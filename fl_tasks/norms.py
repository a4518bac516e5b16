"""FedBN: the normalisation layers of a site stay its own (Li et al. 2021, FedBN, Algorithm 1).

What a scanner or a hospital does to all its images alike, the norms take up; averaged, they fit nobody. So with
``plan.local_norms`` a site's norms (scales, shifts and running statistics, whatever the kind of layer) go on from its
own values of its last accepted round, and its model is judged with them. Everything else starts from the global model.

Unlike in the paper the site still sends trained minus global for every tensor, its norms included: a hospital that
has trained nothing, and the aggregator's own evaluation, need norms too, and theirs are then the mean of the sites'.
A site in its first round begins with them as well.
"""

from __future__ import annotations

from torch import nn

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def norm_names(module: nn.Module) -> frozenset[str]:
    """The names in ``state_dict`` of what belongs to normalisation layers."""
    return frozenset(
        f"{path}.{name}" if path else name
        for path, layer in module.named_modules()
        if isinstance(layer, NORMS)
        for name in layer.state_dict()
    )
