"""The laws applied to memories: predict, plan, measure."""

from assocmem.capacity.measuring import interval, measure
from assocmem.capacity.planning import Plan, plan
from assocmem.capacity.signs import SignReport, antipodal_error, sign_report
from assocmem.capacity.tables import CapacityTable, Point
from assocmem.features.noise import noisy_keys
from assocmem.laws.prediction import predicted_error

__all__ = [
    "CapacityTable",
    "Plan",
    "Point",
    "SignReport",
    "antipodal_error",
    "interval",
    "measure",
    "noisy_keys",
    "plan",
    "predicted_error",
    "sign_report",
]
