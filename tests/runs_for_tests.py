"""Small runs, over in a second, whose settings tests start from."""

from apportion.config import DQNConfig, OnlineConfig, RewardConfig, SACConfig

TINY = OnlineConfig(
    env="envs_for_tests:Clock",
    reward=RewardConfig(rrd_batch_size=8, rrd_sample_size=4, r_hidden=(8,)),
    agent=SACConfig(hidden=(8,)),
    steps=200,
    warmup=50,
    timesteps=2,
    train_batches=2,
    batch_size=8,
    buffer_size=500,
    eval_every=100,
    test_rollouts=2,
    log_every=50,
    save_freq=100,
)
PIXELS = OnlineConfig(
    env="films_for_tests:Planes",
    reward=RewardConfig(rrd_batch_size=8, rrd_sample_size=4),
    agent=DQNConfig(),
    steps=80,
    warmup=40,
    timesteps=8,
    train_batches=1,
    batch_size=4,
    buffer_size=500,
    eval_every=80,
    test_rollouts=3,
    log_every=40,
    save_freq=80,
)
