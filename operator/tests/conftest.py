"""Property tests judge results, not speed: the machine may be busy with a cluster."""

from hypothesis import HealthCheck, settings

settings.register_profile("polyglot", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("polyglot")
