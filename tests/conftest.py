"""Settings of hypothesis for the whole suite: no deadlines, since the first example compiles; the same examples."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "assocmem", deadline=None, derandomize=True, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("assocmem")
