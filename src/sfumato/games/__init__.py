"""Games: players that can be taken away, a value of what is left, an estimator of what each player is worth.

Players, values and estimators know nothing of each other, so any of them goes with any other.
"""

from sfumato.games.axioms import Axioms, check_axioms
from sfumato.games.estimators import ESTIMATORS, default_estimator, plan
from sfumato.games.estimators.planning import Estimate, Plan
from sfumato.games.playing import Played, Value, play

__all__ = [
    "ESTIMATORS",
    "Axioms",
    "Estimate",
    "Plan",
    "Played",
    "Value",
    "check_axioms",
    "default_estimator",
    "plan",
    "play",
]
