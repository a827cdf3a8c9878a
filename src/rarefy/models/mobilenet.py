"""MobileNet v1 and v2 and EfficientNet-Lite0: the networks whose 1 x 1 convolutions go sparse.

    v1    3 x 3 depthwise, 1 x 1                           ReLU6 after each
    v2    1 x 1 to t C, k x k depthwise, 1 x 1 (linear)    + x where the shape stays

Modules are named as torchvision names MobileNet v2's, so that its state dict loads.

Source: Howard et al. 2017; Sandler et al. 2018; the EfficientNet-Lite model card (0: no
squeeze-excite, ReLU6, stem and head of fixed width). Departures: v1 with ReLU6, as its released
models have; EfficientNet-Lite pads evenly. ``cache_aware`` is Elsen et al. 2020's idea, its table
our own: see :func:`mobilenet_v2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2))


class Stage(NamedTuple):
    """``n`` inverted residuals of ``c`` channels, the first with stride ``s``."""

    t: int
    c: int
    n: int
    s: int
    k: int = 3


_V2 = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)

# What the narrower expansions of the last stages save goes into three more blocks of 160 channels,
# where a block is cheapest.
_CACHE_AWARE = tuple(s._replace(n=6) if s.c == 160 else s for s in _V2)

_LITE0 = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1),
)

# Sixteen pixels of as many channels fill a first cache of 32 KB.
_CACHED_CHANNELS = 512


class MobileNet(nn.Module):
    """A chain of convolutions, the mean over the picture, and a linear head.

    Attributes
    ----------
    features, classifier : nn.Sequential
    """

    def __init__(self, features: Sequence[nn.Module], channels: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(channels, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(n, classes)`` of images ``(n, channels, height, width)``."""
        return self.classifier(self.features(x).mean((2, 3)))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, and project back, around a shortcut where shapes allow."""

    def __init__(
        self, inputs: int, outputs: int, *, hidden: int, stride: int = 1, size: int = 3
    ) -> None:
        super().__init__()
        expand = [] if hidden == inputs else [_convolution(inputs, hidden, 1)]
        self.conv = nn.Sequential(
            *expand,
            _convolution(hidden, hidden, size, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, inputs, h, w)`` to ``(n, outputs, h / stride, w / stride)``."""
        return x + self.conv(x) if self.shortcut else self.conv(x)


def mobilenet_v1(
    width: float = 1.0,
    *,
    classes: int = 1000,
    channels: int = 3,
    pairs: Sequence[tuple[int, int]] | None = None,
    stem_stride: int = 2,
) -> MobileNet:
    """Build MobileNet v1; its weights come from torch's global generator, as any layer's.

    Parameters
    ----------
    width : float, default 1.0
        Factor on every layer's channels, rounded to multiples of 8.
    classes : int, default 1000
    channels : int, default 3
        Of the images.
    pairs : sequence of (output channels, stride), optional
        The depthwise and 1 x 1 pairs, for networks on small images; the paper's 13 by default.
    stem_stride : int, default 2
        Of the first convolution.

    Returns
    -------
    MobileNet

    Raises
    ------
    ValueError
        If width, classes or channels is not positive.

    Examples
    --------
    >>> sum(p.numel() for p in mobilenet_v1().parameters())
    4231976
    """
    _check(width, classes, channels)
    pairs = (*_V1, (1024, 1)) if pairs is None else pairs
    inputs = rounded(32 * width)
    features = [_convolution(channels, inputs, 3, stride=stem_stride)]
    for base, stride in pairs:
        outputs = rounded(base * width)
        depthwise = _convolution(inputs, inputs, 3, stride=stride, groups=inputs)
        features.append(nn.Sequential(*depthwise, *_convolution(inputs, outputs, 1)))
        inputs = outputs
    return MobileNet(features, inputs, classes)


def mobilenet_v2(
    width: float = 1.0,
    *,
    cache_aware: bool = False,
    classes: int = 1000,
    channels: int = 3,
    stages: Sequence[Stage] | None = None,
    stem_stride: int = 2,
) -> MobileNet:
    """Build MobileNet v2.

    Parameters
    ----------
    width : float, default 1.0
        Factor on every layer's channels, rounded to multiples of 8; the last convolution keeps
        at least 1280.
    cache_aware : bool, default False
        Cap expansions at 512 channels, of which 16 pixels fill a first cache of 32 KB, and spend
        what that saves on three more blocks of 160 channels.
    classes, channels, stem_stride
        As for :func:`mobilenet_v1`.
    stages : sequence of Stage, optional
        For networks on small images; the paper's seven by default.

    Returns
    -------
    MobileNet

    Raises
    ------
    ValueError
        If width, classes or channels is not positive.

    Examples
    --------
    >>> sum(p.numel() for p in mobilenet_v2().parameters())
    3504872
    """
    _check(width, classes, channels)
    if stages is None:
        stages = _CACHE_AWARE if cache_aware else _V2
    return _inverted(
        [stage._replace(c=rounded(stage.c * width)) for stage in stages],
        stem=rounded(32 * width),
        head=max(1280, rounded(1280 * width)),
        cap=_CACHED_CHANNELS if cache_aware else None,
        classes=classes,
        channels=channels,
        stem_stride=stem_stride,
    )


def efficientnet_lite0(*, classes: int = 1000, channels: int = 3) -> MobileNet:
    """Build EfficientNet-Lite0: MobileNet v2's blocks with some 5 x 5 windows.

    Parameters
    ----------
    classes, channels
        As for :func:`mobilenet_v1`.

    Returns
    -------
    MobileNet

    Examples
    --------
    >>> sum(p.numel() for p in efficientnet_lite0().parameters())
    4652008
    """
    _check(1.0, classes, channels)
    return _inverted(
        _LITE0, stem=32, head=1280, cap=None, classes=classes, channels=channels, stem_stride=2
    )


def rounded(channels: float) -> int:
    """Nearest multiple of 8, at least 8, and not below nine tenths of ``channels``.

    Examples
    --------
    >>> rounded(32 * 0.75), rounded(11)
    (24, 16)
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def _inverted(
    stages: Sequence[Stage],
    *,
    stem: int,
    head: int,
    cap: int | None,
    classes: int,
    channels: int,
    stem_stride: int,
) -> MobileNet:
    features: list[nn.Module] = [_convolution(channels, stem, 3, stride=stem_stride)]
    inputs = stem
    for stage in stages:
        for block in range(stage.n):
            hidden = stage.t * inputs
            features.append(
                InvertedResidual(
                    inputs,
                    stage.c,
                    hidden=hidden if cap is None else max(inputs, min(hidden, cap)),
                    stride=stage.s if block == 0 else 1,
                    size=stage.k,
                )
            )
            inputs = stage.c
    return MobileNet([*features, _convolution(inputs, head, 1)], head, classes)


def _convolution(
    inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


def _check(width: float, classes: int, channels: int) -> None:
    for name, value in (("width", width), ("classes", classes), ("channels", channels)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
