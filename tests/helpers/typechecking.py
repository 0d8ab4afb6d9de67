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
from collections.abc import Iterator
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
    parts = [part for hint in target.__annotations__.values() for part in _parts(hint)]
    # Names that are imported for type checkers only; jaxtyping takes them for `Any`.
    if any(isinstance(part, str | typing.ForwardRef) for part in parts):
        return _jaxtyped(target, **named)
    return _checked(target, holds_arrays=any(map(_is_array, parts)))


def _checked(function: Any, *, holds_arrays: bool) -> Any:
    checking = check(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if jaxtyping.config.jaxtyping_disable:
            return function(*args, **kwargs)
        if not holds_arrays:
            return checking(*args, **kwargs)
        with _jaxtyped("context"):
            return checking(*args, **kwargs)

    return call


def _parts(hint: Any) -> Iterator[Any]:
    """A hint and all hints inside it."""
    yield hint
    if typing.get_origin(hint) is not typing.Literal:
        for inner in typing.get_args(hint):
            yield from _parts(inner)


def _is_array(hint: Any) -> bool:
    return inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)


jaxtyping.jaxtyped = jaxtyped
