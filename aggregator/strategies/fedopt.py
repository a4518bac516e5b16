"""Server optimisers: the mean delta is taken as a negative gradient by FedAvgM, FedAdagrad, FedAdam and FedYogi.

What they remember lies beside the model in float32; the arithmetic is in float64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from aggregator.strategies.fedavg import FedAvg
from aggregator.strategies.options import option
from aggregator.strategy import Piece, Stepped, Sums

MOMENTUM, SECOND_MOMENT = "momentum", "second_moment"
ADAPTIVE = "Reddi et al. 2021, https://arxiv.org/abs/2003.00295"


@dataclass(frozen=True)
class FedAvgM(FedAvg):
    """FedAvg with server momentum (Hsu et al. 2019, section 4), with D_t the weighted mean delta:

        m_t = beta m_{t-1} + D_t,    m_0 = 0
        w_{t+1} = w_t + eta m_t

    This is torch.optim.SGD(lr=eta, momentum=beta) on the gradient -D_t. beta = 0 and eta = 1 is FedAvg.
    """

    name: ClassVar[str] = "fedavgm"
    summary: ClassVar[str] = "FedAvg with momentum at the server"
    source: ClassVar[str] = "Hsu et al. 2019, https://arxiv.org/abs/1909.06335"
    server_lr: float = option(1.0, "eta, the server's step size.", within="(0, inf)")
    server_momentum: float = option(0.9, "beta, how much of the last step is kept.", within="[0, 1)")

    @property
    def server_state(self) -> Mapping[str, float]:
        return {MOMENTUM: 0.0}

    def step(self, piece: Piece, change: Sums) -> Stepped:
        momentum = self.server_momentum * piece.state[MOMENTUM].astype(np.float64) + change
        return piece.base + self.server_lr * momentum, {MOMENTUM: momentum}


@dataclass(frozen=True)
class _Adaptive(FedAvg, ABC):
    """Reddi et al. 2021, Algorithm 2, with D_t the weighted mean delta (an increment to w, so its sign is +):

        m_t = beta1 m_{t-1} + (1 - beta1) D_t,    m_0 = 0
        v_t by the subclass,                      v_0 = tau^2
        w_{t+1} = w_t + eta m_t / (sqrt(v_t) + tau)

    There is no bias correction in it. All operations are elementwise.
    """

    server_lr: float = option(0.01, "eta, the server's step size.", within="(0, inf)")
    beta1: float = option(0.9, "How much of the mean of deltas is kept.", within="[0, 1)")
    tau: float = option(
        0.001, "Adaptivity: the smaller, the more each parameter has its own rate.", within="(0, inf)"
    )

    @property
    def server_state(self) -> Mapping[str, float]:
        return {MOMENTUM: 0.0, SECOND_MOMENT: self.tau**2}

    @abstractmethod
    def second_moment(self, before: Sums, square: Sums) -> Sums:
        """v_t from v_{t-1} and D_t^2, all (n,)."""

    def step(self, piece: Piece, change: Sums) -> Stepped:
        momentum = self.beta1 * piece.state[MOMENTUM].astype(np.float64) + (1.0 - self.beta1) * change
        second = self.second_moment(piece.state[SECOND_MOMENT].astype(np.float64), change * change)
        moved = piece.base + self.server_lr * momentum / (np.sqrt(second) + self.tau)
        return moved, {MOMENTUM: momentum, SECOND_MOMENT: second}


@dataclass(frozen=True)
class FedAdagrad(_Adaptive):
    """v_t = v_{t-1} + D_t^2. With beta1 = 0 this is torch.optim.Adagrad(lr=eta, eps=tau) begun at tau^2."""

    name: ClassVar[str] = "fedadagrad"
    summary: ClassVar[str] = "FedAvg with Adagrad at the server"
    source: ClassVar[str] = ADAPTIVE
    beta1: float = option(0.0, "How much of the mean of deltas is kept.", within="[0, 1)")

    def second_moment(self, before: Sums, square: Sums) -> Sums:
        return before + square


@dataclass(frozen=True)
class FedAdam(_Adaptive):
    """v_t = beta2 v_{t-1} + (1 - beta2) D_t^2. It is torch.optim.Adam but for the bias correction and v_0."""

    name: ClassVar[str] = "fedadam"
    summary: ClassVar[str] = "FedAvg with Adam at the server"
    source: ClassVar[str] = ADAPTIVE
    beta2: float = option(0.99, "How much of the mean of squares is kept.", within="[0, 1)")

    def second_moment(self, before: Sums, square: Sums) -> Sums:
        return self.beta2 * before + (1.0 - self.beta2) * square


@dataclass(frozen=True)
class FedYogi(_Adaptive):
    """v_t = v_{t-1} - (1 - beta2) D_t^2 sign(v_{t-1} - D_t^2): as Adam's, but it forgets no faster than it learns."""

    name: ClassVar[str] = "fedyogi"
    summary: ClassVar[str] = "FedAvg with Yogi at the server"
    source: ClassVar[str] = ADAPTIVE
    beta2: float = option(0.99, "How much of the mean of squares is kept.", within="[0, 1)")

    def second_moment(self, before: Sums, square: Sums) -> Sums:
        return before - (1.0 - self.beta2) * square * np.sign(before - square)
