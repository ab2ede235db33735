"""A dependency that is away: which one, known from whatever its driver raises."""

_KNOWN: dict[type[BaseException], str | None] = {
    # Refused and reset connections and passed deadlines, whichever driver lets them through.
    OSError: "a dependency",
}


class Unavailable(Exception):  # noqa: N818 - a state of the world, not a mistake
    """A dependency cannot be used now; the same work may succeed later."""

    def __init__(self, dependency: str, detail: str = "it does not answer") -> None:
        super().__init__(f"{dependency} is away: {detail}")
        self.dependency = dependency


def register(dependency: str | None, *errors: type[BaseException]) -> None:
    """Let errors of a driver mean that a dependency is away, or with None that it is not.

    Of several registered classes that an error belongs to the nearest counts.
    """
    _KNOWN.update(dict.fromkeys(errors, dependency))


def dependency_of(error: BaseException) -> str | None:
    """Return the dependency that an error says is away; None when it says something else."""
    if isinstance(error, Unavailable):
        return error.dependency
    for kind in type(error).__mro__:
        if kind in _KNOWN:
            return _KNOWN[kind]
    return None
