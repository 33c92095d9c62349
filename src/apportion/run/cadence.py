"""When something is due that happens every so many steps."""


def crossed(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]; never if `every` is 0 or less.

    A function of the two counts alone: nothing to save, and several environments may step past a multiple at once.
    """
    return every > 0 and now // every > before // every
