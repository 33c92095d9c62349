"""How good a fit is on the episodes held out, and what its reward would pay an agent for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from apportion.data import batches, clips
from apportion.data.clips import Clips, Pool
from apportion.rewards.demo_losses import progress_loss, success_loss
from apportion.rewards.losses import rrd_loss
from apportion.stats import auroc
from apportion.train.fit_session import FitSession, labels


def validate(session: FitSession) -> dict[str, float]:
    """val/loss, lower is better, the method's own on whole clips without noise; val/auroc where there are failures.

    The loss counts the clips that the method learns from, artificial failures in their share; AUROC is of real
    episodes only. Empty where nothing is held out.
    """
    held = session.held
    if held is None:
        return {}
    loss, weights, scores, success = 0.0, 0.0, [], []
    for clip, weight, real in _clips(session, held):
        value, score = _judge(session, clip)
        loss, weights = loss + weight * value, weights + weight
        if real:
            scores.append(score)
            success.append(bool(clip.success[0]))
    out = {"val/loss": loss / weights} if weights else {}
    if 0 < sum(success) < len(success):
        ones = np.ones((1, len(scores)))
        out["val/auroc"] = float(auroc(ones, np.array(scores), np.array(success))[0])
    return out


def _clips(session: FitSession, held: Pool) -> Iterator[tuple[Clips, float, bool]]:
    """Each held-out episode, whole; of each success one artificial failure, the same at every validation."""
    config = session.config
    order = np.random.default_rng(config.seed).permutation(len(held))[: config.val_episodes]
    share = config.artificial_share if config.artificial else 0.0
    for i in order.tolist():
        one = Pool(**{**vars(held), **{n: x[[i]] for n, x in vars(held).items() if isinstance(x, np.ndarray)}})
        won = bool(one.success[0])
        counts = config.failures or won
        yield clips.whole(one, np.zeros(1, np.int64)), (1 - share if won else 1.0) * counts, True
        if share and won and (one.tasks > 1 or config.artificial != ("other_instructions",)):
            rng = np.random.default_rng([config.seed, i])
            yield clips.draw(one, 1, config.artificial, 1.0, rng), share, False


@torch.no_grad()
def _judge(session: FitSession, clip: Clips) -> tuple[float, float]:
    """The loss on a whole clip, and the score by which it is ranked."""
    config, reward, steps = session.config, session.reward, int(clip.length[0])
    state = np.arange(steps if config.decomposes else steps + 1)[None]
    label = None if config.decomposes else labels(config, clip, state)
    batch = batches.gather(session.columns, clip, state, reward.window, session.grippers, label=label)
    batch = batch.to(session.device)
    out = reward.outputs(batch, reward.net)
    if config.method == "progress":
        return float(progress_loss(out, batch.label)[0]), float(out[0, -1])
    if config.method == "success":
        return float(success_loss(out, batch.label)[0]), float(out[0, -1])
    loss, _ = rrd_loss(out, batch.value / reward.scale, batch.length, target=config.target)
    return float(loss), float(out.sum() * reward.scale)


def survival(model_rewards: np.ndarray) -> str | None:
    """What is wrong with a raw reward whose mean over the steps of successes is above 0; None where it is not.

    `model_rewards` (steps,): of the training successes that end the episode, without the bonus.
    """
    mean = float(model_rewards.mean()) if len(model_rewards) else 0.0
    if mean <= 0:
        return None
    return (
        f"warning: a step of a successful episode is worth {mean:+.3g} in the mean, and success ends the episode: an "
        "agent paid by this reward gains by NOT finishing. Use it as a potential (--form potential), or do not let "
        "success end its episodes"
    )
