"""The integral over noise levels: information of parts of a condition about each place of a latent, with its error.

With x_a = sqrt(sigmoid(a)) x + sqrt(sigmoid(-a)) eps at the log-SNR a, and e the noise that the denoiser predicts,

    I(x; part | rest) = 1/2 * integral over a of E_eps |e(x_a | rest) - e(x_a | rest and part)|^2

(Kong et al. 2024, arXiv 2310.07972, equation for the orthogonal estimator). The norm is a sum over places, so the
integrand at each place is a map. The standard estimator, |eps - e(x_a | rest)|^2 - |eps - e(x_a | rest and part)|^2, is
unbiased for the model's likelihood but noisier, and may be negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.errors import NonFinite
from sfumato.games.estimators.planning import LEAST_DRAWS
from sfumato.generation.trace import Trace
from sfumato.information.levels import Levels, drawn_levels, fitted_chances
from sfumato.information.patches import conditions_of
from sfumato.inputs.image import Picture
from sfumato.progress import Progress, silent

Estimator = Literal["orthogonal", "standard"]
ESTIMATORS: tuple[Estimator, ...] = ("orthogonal", "standard")
PILOT = 12
"""So many samples are spread evenly over log-SNR first; the others go where these found something."""
BLOCK = 8
"""After so many samples the error is looked at."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Contexts:
    """Conditions, and which two of them say what a part of the condition tells.

    Attributes:
        texts: Prompts or labels (context,); names, where pictures are given.
        terms: Of each part the place of the context without it and of that with it.
        branch: Whose rows of the recorded call the contexts stand in for.
        pictures: References (context,) instead of texts, None being no reference.
    """

    texts: tuple[str, ...]
    terms: tuple[tuple[int, int], ...]
    branch: str = "conditional"
    pictures: tuple[Picture | None, ...] = ()


@dataclass(frozen=True)
class Sampled:
    """What every sample said.

    Attributes:
        levels: All levels that could be drawn.
        places: The level of each sample (sample,).
        weights: By which a sample's densities are multiplied in the mean over samples (sample,).
        densities: 1/2 |difference|^2 of each term at each place (sample, term, y, x), in nats per log-SNR.
        calls: How many calls of the denoiser were made.
        drawn: Whether levels and noise were; where they were not, nothing is known of an error.
    """

    levels: Levels
    places: NDArray[np.int64]
    weights: Floats
    densities: NDArray[np.float32]
    calls: int
    drawn: bool = True

    @property
    def maps(self) -> Floats:
        """Nats at each place (term, y, x)."""
        return np.asarray(np.einsum("s,styx->tyx", self.weights, self.densities.astype(np.float64)) / len(self.weights))

    @property
    def map_errors(self) -> Floats:
        """Standard error of `maps`."""
        return self._error(self.weights[:, None, None, None] * self.densities.astype(np.float64))

    @property
    def totals(self) -> Floats:
        """Nats of each term (term,)."""
        return np.asarray(self.maps.sum((-2, -1)))

    @property
    def errors(self) -> Floats:
        """Standard error of `totals`."""
        return self._error(self.weights[:, None] * self.densities.astype(np.float64).sum((-2, -1)))

    def sum_and_error(self, terms: int | None = None) -> tuple[float, float]:
        """Nats of the first so many terms (of all) together, with the standard error."""
        summed = self.weights * self.densities[:, :terms].astype(np.float64).sum((1, 2, 3))
        return float(summed.mean()), float(self._error(summed))

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the standard errors; NaN where nothing was drawn."""
        return 2 * (len(self.weights) - 1) / 3 if self.drawn else math.nan

    def over_levels(self, edges: Floats) -> Floats:
        """Nats of each term that come from each interval of log-SNR (term, interval)."""
        snr = self.levels.log_snr[self.places]
        weighed = self.weights[:, None] * self.densities.astype(np.float64).sum((-2, -1))  # (sample, term)
        inside = (snr[:, None] >= edges[:-1]) & (snr[:, None] < edges[1:])  # (sample, interval)
        return np.asarray(weighed.T @ inside / len(self.weights))

    def _error(self, weighed: Floats) -> Floats:
        """Standard error of the mean over samples, by the differences of neighbouring levels.

        Levels are drawn evenly, so how the integrand runs over them is no error, although samples differ by it. An
        error from n samples has about 2 (n - 1) / 3 degrees of freedom (von Neumann 1941); fewer than 5 give none.
        """
        if not self.drawn or len(weighed) < LEAST_DRAWS:
            return np.full(weighed.shape[1:], np.nan)
        steps = np.diff(weighed[np.argsort(self.places, kind="stable")], axis=0)
        return np.asarray(np.sqrt((steps**2).mean(0) / 2 / len(weighed)))


def sample(
    trace: Trace,
    latent: torch.Tensor,
    contexts: Contexts,
    levels: Levels,
    *,
    samples: int,
    until: float | None = None,
    estimator: Estimator = "orthogonal",
    adapt: bool = True,
    seed: int = 0,
    rows: int = 32,
    progress: Progress = silent,
) -> Sampled:
    """Noise a latent and ask the denoiser under every context, with the same noise for all.

    Args:
        trace: With a recorded call, which is repeated with other samples, conditions and timesteps.
        latent: Clean, (1, channel, y, x).
        contexts: What is asked.
        levels: That can be drawn.
        samples: Most samples.
        until: Stop once the standard error of the sum over terms is at most this share of it.
        estimator: See the module.
        adapt: Draw levels where the first samples found something; else evenly over log-SNR.
        seed: Of levels and noise.
        rows: Most rows of the denoiser's batch.
        progress: Told about every sample.

    Raises:
        NonFinite: The denoiser's output is NaN or infinite.
    """
    asking = _Asking(trace, latent, contexts, estimator, rows)
    chance = np.random.default_rng(seed)
    noise = torch.Generator().manual_seed(seed)
    even = levels.width / levels.width.sum()
    first = min(samples, PILOT) if adapt else samples
    drawn: list[int] = []
    expected = np.zeros(len(even))
    found: list[NDArray[np.float32]] = []

    def look(chances: Floats, count: int) -> bool:
        """Whether that is enough."""
        nonlocal expected
        for place in drawn_levels(chances, count, chance).tolist():
            found.append(asking(float(levels.timesteps[place]), noise))
            drawn.append(place)
            expected = expected + chances
            progress("noise samples", len(drawn), samples)
            if until is not None and len(drawn) >= PILOT and len(drawn) % BLOCK == 0:
                total, error = so_far().sum_and_error()
                if error <= until * abs(total):
                    return True
                progress("on the way to the wanted error, %", round(100 * (until * total / error) ** 2), 100)
        return False

    def so_far() -> Sampled:
        at = np.array(drawn)
        return Sampled(levels, at, levels.width[at] * len(at) / expected[at], np.stack(found), asking.calls)

    if not look(even, first) and samples > first:
        sums = np.array([one.sum(dtype=np.float64) for one in found])
        look(fitted_chances(levels, np.array(drawn), sums), samples - first)
    return so_far()


def along(trace: Trace, contexts: Contexts, levels: Levels, *, rows: int = 32, progress: Progress = silent) -> Sampled:
    """Ask about the latents of the run itself, at each recorded step: nothing is drawn.

    Args:
        trace: Of one image, with its calls recorded.
        contexts: What is asked.
        levels: The timesteps of the recorded steps.
        rows: Most rows of the denoiser's batch.
        progress: Told about every step.
    """
    channels = trace.model.channels
    found, places = [], []
    calls = {call.timestep: call.step for call in reversed(trace.calls)}
    asking = None
    for place, timestep in enumerate(levels.timesteps.tolist()):
        step = calls[timestep]
        sample = trace.call(step).sample[trace.branches.rows(contexts.branch, len(trace.images))]
        asking = asking or _Asking(trace, sample[:, :channels], contexts, "orthogonal", rows)
        found.append(asking.about(timestep, sample[:, :channels], None, step))
        places.append(place)
        progress("steps", place + 1, len(levels.timesteps))
    weights = levels.width * len(places)
    return Sampled(levels, np.array(places), weights, np.stack(found), asking.calls if asking else 0, drawn=False)


class _Asking:
    """Asks the denoiser about one noised latent under every context."""

    def __init__(self, trace: Trace, latent: torch.Tensor, contexts: Contexts, estimator: Estimator, rows: int) -> None:
        self._trace, self._latent, self._contexts, self._rows = trace, latent, contexts, rows
        self._orthogonal = estimator == "orthogonal"
        model = trace.model
        if contexts.pictures:
            self._conditions, self._pooled = conditions_of(model, contexts.pictures), {}
        else:
            self._conditions, self._pooled = model.encode(contexts.texts), model.pooled(contexts.texts)
        self._first = min(call.step for call in trace.calls)
        recorded = trace.call(self._first).sample[trace.branches.rows(contexts.branch, len(trace.images))][:1]
        self._beside = recorded[:, latent.shape[1] :]  # what a denoiser takes beside the latent, such as a mask
        self.calls = 0

    def __call__(self, timestep: float, generator: torch.Generator) -> NDArray[np.float32]:
        """The density of every term at every place (term, y, x), of the latent with new noise."""
        latent = self._latent
        signal, spread = (level.to(latent) for level in self._trace.model.levels(timestep))
        eps = torch.randn(latent.shape, generator=generator).to(latent)
        return self.about(timestep, signal * latent + spread * eps, eps)

    def about(
        self, timestep: float, noisy: torch.Tensor, eps: torch.Tensor | None, step: int | None = None
    ) -> NDArray[np.float32]:
        """The same of a latent that has noise already; what the noise was is needed by the standard estimator.

        What else the denoiser is given is as at a recorded step, such as what a ControlNet found there; at the first.
        """
        step = self._first if step is None else step
        predicted = torch.cat(
            [
                self._predicted(step, timestep, noisy, slice(start, start + self._rows))
                for start in range(0, len(self._conditions), self._rows)
            ]
        )  # (context, channel, y, x)
        if not torch.isfinite(predicted).all():
            raise NonFinite(f"the denoiser's output became NaN or infinite at timestep {timestep:g}; try float32")
        lower, upper = (predicted[[term[side] for term in self._contexts.terms]] for side in (0, 1))
        if self._orthogonal or eps is None:
            density = (lower - upper).square().sum(1)
        else:
            density = ((eps - lower).square() - (eps - upper).square()).sum(1)
        return np.asarray((density / 2).double().cpu().numpy(), np.float32)

    def _predicted(self, step: int, timestep: float, noisy: torch.Tensor, chosen: slice) -> torch.Tensor:
        """The noise that the denoiser predicts under some contexts (context, channel, y, x)."""
        model = self._trace.model
        output = self._trace.replay(
            step,
            branch=self._contexts.branch,
            sample=torch.cat([noisy, self._beside], 1),
            condition=self._conditions[chosen],
            pooled={name: value[chosen] for name, value in self._pooled.items()},
            timestep=timestep,
        )
        self.calls += output.shape[0]
        signal, spread = (level.to(noisy).float() for level in model.levels(timestep))
        clean = model.clean(output[:, : noisy.shape[1]].float(), noisy.float(), timestep)
        return (noisy.float() - signal * clean) / spread
