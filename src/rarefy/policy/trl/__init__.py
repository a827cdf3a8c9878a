"""The methods of :mod:`rarefy.policy` as subclasses of TRL's ``GRPOTrainer``.

    - from trl import GRPOTrainer
    + from rarefy.policy.trl import PACSTrainer as GRPOTrainer

The rest of a script stays: model, rewards, configuration, data set, vLLM, adapters. Each trainer
takes the method's own objective as ``objective=``, with the options of our loop, and learns by the
same function of tensors. Needs ``pip install 'rarefy[policy]'``; nothing else imports this package.

``trainer``   :class:`ObjectiveTrainer`: any objective and sampler of :mod:`rarefy.policy`;
``methods``   the trainers by name;
``bridge``    what objectives and samplers see of TRL's trainer.
"""

from rarefy.policy.trl.methods import (
    AHPOTrainer,
    DLERTrainer,
    DRMGRPOTrainer,
    GHPOTrainer,
    PACSTrainer,
    VSPOTrainer,
)
from rarefy.policy.trl.trainer import ObjectiveTrainer

__all__ = [
    "AHPOTrainer",
    "DLERTrainer",
    "DRMGRPOTrainer",
    "GHPOTrainer",
    "ObjectiveTrainer",
    "PACSTrainer",
    "VSPOTrainer",
]
