from hypothesis import settings

# How long an example takes says nothing about whether it is right, and machines have other things to do.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
