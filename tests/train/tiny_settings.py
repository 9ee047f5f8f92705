"""Overrides that make a run of `examples/tiny*.yaml` small."""

TWO_STEPS = (
    "train.max_steps=2",
    "train.optimiser={learning_rate: 1.0e-3}",
    "train.prompts_per_rollout_batch=2",
    "train.groups_per_rollout=1",
    "train.micro_batch_size=2",
    "train.evaluation.num_prompts=2",
)
