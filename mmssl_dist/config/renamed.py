"""Settings that have been renamed: a job with an old key still loads, and a warning names the new key."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mmssl_dist.errors import ConfigError

_logger = logging.getLogger(__name__)


def _same(value: Any) -> Any:
    return value


def _bytes_to_gb(value: Any) -> Any:
    """GB of a number of bytes; what is not a number stays, for the schema to refuse."""
    return value / 1e9 if isinstance(value, int) and not isinstance(value, bool) else value


@dataclass(frozen=True)
class Renaming:
    """One setting and its former name.

    Attributes:
        old, new: dotted paths.
        convert: the new setting's value from the old one's, where the unit changed as well.
    """

    old: str
    new: str
    convert: Callable[[Any], Any] = _same


RENAMINGS = (
    Renaming("partition.metis_gigabytes", "partition.metis_gb"),
    Renaming("storage.cache_bytes", "storage.cache_gb", _bytes_to_gb),
    Renaming("losses.adversarial.candidates", "losses.candidates"),
)


def with_current_names(tree: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A copy of ``tree`` in which every renamed setting has its present name; logs a warning for each.

    The paths below ``search.space`` are settings too.

    Args:
        source: of the tree, for the messages.

    Raises:
        ConfigError: a setting is given under both of its names.
    """
    result = dict(tree)
    for renaming in RENAMINGS:
        result = _renamed(result, tuple(renaming.old.split(".")), renaming, source)
        result = _renamed(result, ("search", "space", renaming.old), renaming, source)
    return result


def current_setting(path: str, value: object, source: str) -> tuple[str, object]:
    """Present path and value of one setting given by its dotted ``path``; logs a warning for a former
    name."""
    for renaming in RENAMINGS:
        if path == renaming.old:
            _warn(source, renaming.old, renaming.new)
            return renaming.new, renaming.convert(value)
    return path, value


def _warn(source: str, old: str, new: str) -> None:
    _logger.warning("%s: %s is now called %s; please rename it", source, old, new)


def _renamed(tree: dict[str, Any], old: tuple[str, ...], renaming: Renaming, source: str) -> dict[str, Any]:
    if not _contains(tree, old):
        return tree
    # Below ``search.space`` a setting is one key with dots in it, elsewhere a path of keys.
    in_space = old[0] == "search"
    new = (*old[:-1], renaming.new) if in_space else tuple(renaming.new.split("."))
    # Which of the two is meant can't be known, and taking either would silently ignore the other.
    if _contains(tree, new):
        problem = f"{'.'.join(old)}: the former name of {'.'.join(new)}, which is given too. Remove it"
        raise ConfigError((problem,), source)
    _warn(source, ".".join(old), ".".join(new))
    # A searched value is a range or a list, which only a renaming without a change of unit can take over
    convert = _same if in_space else renaming.convert
    return _moved(tree, old, new, convert)


def _contains(tree: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    node: object = tree
    for key in path:
        if not isinstance(node, Mapping) or key not in node:
            return False
        node = node[key]
    return True


def _moved(
    tree: Mapping[str, Any], old: tuple[str, ...], new: tuple[str, ...], convert: Callable[[Any], Any]
) -> dict[str, Any]:
    result = dict(tree)
    node = result
    for key in old[:-1]:
        # Copied on the way down: the caller's tree is not changed.
        node[key] = dict(node[key])
        node = node[key]
    value = convert(node.pop(old[-1]))
    node = result
    for key in new[:-1]:
        node[key] = dict(node.get(key) or {})
        node = node[key]
    node[new[-1]] = value
    return result
