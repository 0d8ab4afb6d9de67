"""Run-time type checks of the tests: beartype, taking an int where a float is asked (PEP 484).

jaxtyping's import hook puts `jaxtyping.jaxtyped` on every function of the program. It binds the
arguments of each call and checks them twice, for its error messages: 15 us a call, and up to half
of the time of tests that make many small things. beartype alone, inside jaxtyping's context where
there are arrays, whose axes must agree, does the same checks in 2 us.
"""

import dataclasses
import functools
import inspect
import typing
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_jaxtyped = jaxtyping.jaxtyped


def jaxtyped(target: Any = None, **named: Any) -> Any:
    """In place of jaxtyping's decorator, which is left to what is no plain function."""
    if target is None:
        return functools.partial(jaxtyped, **named)
    if inspect.isclass(target):
        if dataclasses.is_dataclass(target) and "__init__" in vars(target):
            target.__init__ = jaxtyped(target.__init__, **named)
        return target
    if not inspect.isfunction(target) or inspect.isgeneratorfunction(target):
        return _jaxtyped(target, **named)
    return _checked(target)


def _checked(function: Any) -> Any:
    checking = check(function)
    holds_arrays = any(map(_holds_arrays, function.__annotations__.values()))

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if jaxtyping.config.jaxtyping_disable:
            return function(*args, **kwargs)
        if not holds_arrays:
            return checking(*args, **kwargs)
        with _jaxtyped("context"):
            return checking(*args, **kwargs)

    return call


def _holds_arrays(annotation: Any) -> bool:
    """Also of what is not known yet: a text."""
    is_array = inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray)
    inside = typing.get_args(annotation)
    return is_array or isinstance(annotation, str) or any(map(_holds_arrays, inside))


jaxtyping.jaxtyped = jaxtyped
