"""Token policies and the signals they learn from.

``tasks/``        problems at five levels with verifiers, partial credit and expert traces;
``diffusion``     masked diffusion over a canvas: the loss, and the sampler that fills it;
``train_policy``, ``train_diffusion_policy``  how the shipped policies were warmed up.
"""
