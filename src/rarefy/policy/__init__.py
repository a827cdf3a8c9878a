"""Token policies and the signals they learn from.

``tasks/``        problems at five levels with verifiers, partial credit and expert traces;
``train_policy``  how the shipped character policy was warmed up.
"""
