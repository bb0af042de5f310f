"""The parts of a recipe: what is pruned, how masks soften, tighten and grow, what is learned beside the weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nmsim.sparsity.moment import Moment
from nmsim.specfile import Count, Spec

Stage = Literal["FF", "BP", "WU"]
STAGES: tuple[Stage, ...] = ("FF", "BP", "WU")
Operand = Literal["weight", "activation", "gradient"]
Direction = Literal["in", "out"]
Search = Literal["magnitude", "random", "transposable", "permuted", "wanda", "sparsegpt"]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Prune(Spec):
    """One pruned operand of one product."""

    stage: Stage
    operand: Operand
    direction: Direction = Field(
        description="channel axis along which groups run: `in` is the reduction axis of FF, `out` that of BP"
    )
    refresh: Annotated[int, Field(ge=0)] = Field(
        default=1, description="steps between two mask searches; 0: one, where the recipe starts"
    )
    mask: Search = Field(default="magnitude", description="what the kept elements are chosen by")
    renew: Count = Field(
        default=100, description="permuted: steps between two searches of the order of channels, from the start on"
    )
    within: bool = Field(default=False, description="searched on the weight that FF uses, so it keeps a part of that")


class Decay(Spec):
    """Pruned weights keep a share beta of their value, which falls from 1 at the start and is exactly 0 from `end` on.

    With t the share of that time which has passed: linear 1 - t, cosine (1 + cos pi t) / 2, exponential floor ** t,
    dropped at `end`, where it would have reached `floor`. `rate` sets the pace instead, as published runs do: beta is
    1 - rate u or exp(-rate u) after u changes, and is dropped at `end` at the latest.
    """

    kind: Literal["decay"]
    shape: Literal["linear", "exponential", "cosine"] = "linear"
    end: Moment = Field(description="from here on beta is 0 and the forward product is sparse")
    every: Count = Field(default=1, description="steps between two changes of beta")
    floor: Share = Field(default=0.01, description="exponential: the beta at which the rest is dropped")
    rate: Positive | None = Field(default=None, description="linear, exponential: fall of beta at each change")


class Sigmoid(Spec):
    """PDP: mask values sigmoid((w² - t²) / tau), t between the weakest kept and the strongest pruned weight."""

    kind: Literal["sigmoid"]
    tau: Positive = Field(default=1e-4, description="temperature, in units of w²")
    ramp: Moment = Field(
        default=0.0, description="the share pruned rises linearly from 0 to its final value until here"
    )
    end: Moment = Field(description="from here on the mask is hard")
    channels: bool = Field(default=False, description="mask values for whole output channels, by their mean w²")


class Choice(Spec):
    """MaskLLM: a learned choice among the C(m, n) masks of each group by Gumbel softmax."""

    kind: Literal["choice"]
    end: Moment = Field(description="from here on the most likely candidate is the mask")
    temperature: tuple[Positive, Positive] = Field(default=(4.0, 0.05), description="at the start and the end")
    scale: tuple[Positive, Positive] = Field(default=(100.0, 500.0), description="factor on logits, start and end")
    prior: Literal["none", "magnitude", "wanda", "sparsegpt"] = "magnitude"
    prior_strength: Annotated[float, Field(ge=0)] = 3.0
    regularizer: Annotated[float, Field(ge=0)] = Field(
        default=1e-5, description="coefficient on the sum of (W * mask)², falling linearly to 0"
    )
    rate_factor: Positive = Field(default=10.0, description="learning rate of the logits over that of weights")
    spread: Positive = Field(default=0.01, description="standard deviation of the first logits")
    weights: Literal["frozen", "trained"] = "frozen"


class Structure(Spec):
    """The pattern n:m becomes stricter in equal frames between start and `end`; the last frame has n:m itself.

    stepwise: m-1, m/2, m/4 ... n of m. geometric: 8n:8m, 4n:4m, 2n:2m, n:m. densify: n:8m, n:4m, n:2m, n:m.
    halving: m-1, then ceil(m/2^u) of m.
    """

    kind: Literal["stepwise", "geometric", "densify", "halving"]
    end: Moment = 1.0


class Growth(Spec):
    """RigL and SRigL: every `every` steps the weakest weights are dropped and others grown by their gradient."""

    every: Count = 100
    end: Moment = Field(default=0.75, description="no update from here on")
    fraction: Share = Field(default=0.3, description="share of the kept weights replaced at first; falls by a cosine")
    constant_fan_in: bool = Field(default=True, description="SRigL: every neuron keeps equally many inputs")
    salience: Positive = Field(default=0.3, description="a neuron with a smaller share of salient weights is removed")
    ablate: bool = Field(default=True, description="whether neurons are removed")


class Adapters(Spec):
    """Low-rank adapters y += x L R / rank on pruned linear layers, trained from `start` on."""

    rank: Count
    start: Moment


class Quantize(Spec):
    """Weights of pruned layers are rounded to `format` before the forward product, with a straight-through gradient."""

    format: Literal["int8", "int4", "fp8_e4m3", "fp8_e5m2"]
    order: Literal["prune_first", "quantize_first"] = "prune_first"
