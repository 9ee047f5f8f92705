"""Samplers: schedulers that are policies, for flow models (`flow-sde`, `cps`) and for diffusion models (`ddim-sde`)."""
