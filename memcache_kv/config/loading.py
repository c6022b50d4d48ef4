"""How settings are read from flags, environment and file.

A flag wins over an environment variable (`MEMCACHE_KV_` and the long flag's name). A variable wins over the file given
with --config: TOML, whose keys are the long flags' names, or a memcached.conf. The file wins over the default.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from memcache_kv.compiled import PURE_VARIABLE
from memcache_kv.config.options import OPTIONS, SASL_FILE_VARIABLE, SETTING_FIELDS, VARIABLE_PREFIX, Option
from memcache_kv.config.settings import ITEMS_ON_THEIR_WAY, STANDARD_INPUT, TLS_PREFIXES, Settings, split_class_prefix
from memcache_kv.errors import EX_USAGE, ConfigError

CONFIG_VARIABLE = f"{VARIABLE_PREFIX}CONFIG"
"""The variable that names the file if --config does not."""
PORT_FILE_VARIABLE = "MEMCACHED_PORT_FILENAME"
"""memcached's own variable: the file that the server writes its actual ports to."""
SERVICE_NAME = re.compile(r".*(_SERVICE_|_PORT_)")
SERVICE_VALUE = re.compile(r"(tcp|udp|sctp)://")
"""Variables like these are set by Kubernetes in every container, once a Service is called memcache-kv."""
DEBUG_VERBOSITY = 2
"""The number of -v that --debug stands for."""


def load_settings(
    flags: Mapping[str, Any],
    config: Path | None,
    environ: Mapping[str, str] = os.environ,
    warn: Callable[[str], None] = lambda text: None,
) -> Settings:
    """Merge flags, environment, file and defaults into one Settings.

    flags: by their long names, each a text, a switch or a list; config: the file, if there is one; environ: the
    environment variables; warn: called with a line about each part of these that is ignored.

    If several sources have a setting, only the value that wins is checked. Raises ConfigError, whose text is one line.
    """
    sources = (
        ("command line", flags),
        ("environment", _from_environment(environ, warn)),
        ("--config", _from_file(config, warn)),
    )
    values: dict[str, Any] = {}
    for option in OPTIONS:
        for source, name_value in sources:
            if option.name in name_value:
                values[SETTING_FIELDS[option.name]] = _converted(option, name_value[option.name], source)
                break
    _warn_of_ineffective(values, warn)
    add_implied(values, environ)
    settings = Settings(**values)
    check_together(settings)
    return settings


def _warn_of_ineffective(values: Mapping[str, Any], warn: Callable[[str], None]) -> None:
    """Warn of settings that have an effect only together with others."""
    for field in ("fsync", "on_rotate", "rotate_seconds", "ready_needs_journal"):
        if field in values and "journal" not in values:
            warn(f"--{field.replace('_', '-')} has no effect without --journal DIR, which keeps the data on disk")
    for field in ("admin_tls", "admin_token_file", "ready_needs_journal"):
        if field in values and "admin_listen" not in values:
            warn(f"--{field.replace('_', '-')} has no effect without --admin-listen ADDR")
    if "memory_file" in values and "journal" in values:
        warn("--memory-file has no effect with --journal, which keeps the items at any stop")
    if "preload_strict" in values and "preload" not in values:
        warn("--preload-strict has no effect without --preload FILE")


def add_implied(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Add the fields that follow from the given ones."""
    values["port_given"] = "port" in values
    if values.get("udp_port") and "port" not in values:
        values["port"] = values["udp_port"]
    values["detail_enabled"] = "stats_delimiter" in values
    if values.get("debug") or values.get("log_level") == "debug":
        values["verbose"] = max(values.get("verbose", 0), DEBUG_VERBOSITY)
    if environ.get(PORT_FILE_VARIABLE):
        values["port_file"] = Path(environ[PORT_FILE_VARIABLE])
    _add_login(values, environ)
    if "extended" in values:
        from memcache_kv.config.suboptions import read_suboptions  # a long table that only -o needs

        defaults = Settings()
        found = read_suboptions(
            values["extended"],
            values.get("max_item_size", defaults.max_item_size),
            values.get("slab_min_size", defaults.slab_min_size),
        )
        values.update(found)


def _add_login(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Add what -Y and -S imply: like in memcached, one alone allows only its own protocol, and both allow both."""
    text, binary = "auth_file" in values, bool(values.get("enable_sasl"))
    if binary and not text and environ.get(SASL_FILE_VARIABLE):
        values["auth_file"] = Path(environ[SASL_FILE_VARIABLE])
    if text != binary:
        values.setdefault("binding_protocol", "ascii" if text else "binary")


def check_together(settings: Settings) -> None:
    """Raise ConfigError if some of the settings exclude each other."""
    if settings.max_item_size > settings.memory_limit // 2:
        raise ConfigError("Cannot set item size limit higher than 1/2 of memory max.", EX_USAGE)
    if settings.connection_memory_bytes < ITEMS_ON_THEIR_WAY * settings.max_item_size:
        raise ConfigError(f"--connection-memory must be at least {ITEMS_ON_THEIR_WAY} times the item size of -I")
    if settings.enable_sasl:
        _check_sasl(settings)
    elif settings.auth_file is not None:
        if settings.binding_protocol != "ascii":
            raise ConfigError(
                "ERROR: You cannot allow the BINARY protocol while using ascii authentication tokens.", EX_USAGE
            )
        if settings.udp_port:
            raise ConfigError("Cannot use UDP with ascii authentication enabled (-U 0 to disable)", EX_USAGE)
    if settings.cluster_node and settings.cluster_file is not None:
        raise ConfigError("--cluster-node and --cluster-file exclude each other: put the nodes into the file")
    if settings.cluster_node:
        from memcache_kv.config.cluster import parse_nodes

        try:
            parse_nodes(settings.cluster_node)
        except ConfigError as error:
            raise ConfigError(f"--cluster-node: {error}") from None
    if settings.preload.count(STANDARD_INPUT) > 1:
        raise ConfigError("--preload - can be given only once: standard input has one end")
    for text in (*settings.listen, *settings.line_listen, *settings.simple_listen, *settings.http_listen):
        _, address = split_class_prefix(text)
        if address.startswith(TLS_PREFIXES) and not settings.enable_ssl:
            raise ConfigError(f"'{address.partition(':')[0]}' option is valid only when SSL is enabled", EX_USAGE)
    for text in settings.admin_listen:
        if split_class_prefix(text)[0]:
            raise ConfigError(f"--admin-listen: {text} has a class, but there are no commands to choose from")
        if text.startswith(TLS_PREFIXES) and not settings.admin_tls:
            raise ConfigError(f"--admin-listen: '{text.partition(':')[0]}' is valid only with --admin-tls")


def _check_sasl(settings: Settings) -> None:
    if settings.binding_protocol == "ascii":
        raise ConfigError("ERROR: You cannot allow the ASCII protocol while using SASL.", EX_USAGE)
    if settings.udp_port:
        raise ConfigError("ERROR: Cannot enable UDP while using binary SASL authentication.", EX_USAGE)
    if settings.auth_file is None:
        raise ConfigError(f"-S needs a users file: name it with -Y or with {SASL_FILE_VARIABLE}", EX_USAGE)


def _converted(option: Option, value: Any, source: str) -> Any:
    try:
        if option.many:
            texts = value if isinstance(value, list) else [value]
            return tuple(part for text in texts for part in str(text).split(",") if part)
        return option.convert(str(value))
    except ConfigError as error:
        raise ConfigError(f"{source}, {option.name}: {error}", error.status) from None


def _from_environment(environ: Mapping[str, str], warn: Callable[[str], None]) -> dict[str, str]:
    """Return the settings among the variables by their long names, without the variables that Kubernetes sets."""
    known = {option.variable: option.name for option in OPTIONS}
    ours = {name: value for name, value in environ.items() if name.startswith(VARIABLE_PREFIX)}
    for other in (CONFIG_VARIABLE, PURE_VARIABLE):
        ours.pop(other, None)
    foreign = [
        name
        for name, value in ours.items()
        if SERVICE_VALUE.match(value) or (name not in known and SERVICE_NAME.match(name))
    ]
    if foreign:
        warn(f"ignored {len(foreign)} variables of a Kubernetes Service, such as {min(foreign)}")
    for name in foreign:
        del ours[name]
    for name in ours:
        if name not in known:
            raise ConfigError(f"environment: {name} is not a setting; --help lists the settings")
    return {known[name]: value for name, value in ours.items()}


def _from_file(path: Path | None, warn: Callable[[str], None]) -> dict[str, Any]:
    """Return the settings of a file by their long names. Its content says whether it is TOML or a memcached.conf."""
    if path is None:
        return {}
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"--config: can't read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"--config: {path} is not TOML: {error}") from None
    from memcache_kv.config import memcached_conf  # only here, like tomllib

    if memcached_conf.is_memcached_conf(text):
        parser = memcached_conf.FileFlags()
        add_options(parser)
        return memcached_conf.parse_memcached_conf(text, str(path), parser, warn)
    return _from_toml(text, path)


def _from_toml(text: str, path: Path) -> dict[str, Any]:
    import tomllib

    try:
        values = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or a number too long
        raise ConfigError(f"--config: {path} is not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"--config: {path} is nested too deeply") from None
    values = {name.replace("_", "-"): value for name, value in values.items()}
    unknown = values.keys() - {option.name for option in OPTIONS}
    if unknown:
        raise ConfigError(f"--config: {path}: {min(unknown)!r} is not a setting; --help lists the settings")
    return values


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting to a parser. It leaves the values as text, for `load_settings` to convert."""
    for option in OPTIONS:
        names = ([f"-{option.short}"] if option.short else []) + [f"--{option.name}"]
        common: dict[str, Any] = {"dest": option.name, "help": option.help, "default": argparse.SUPPRESS}
        if option.name == "verbose":
            parser.add_argument(*names, action="count", **common)
        elif option.is_switch:
            parser.add_argument(*names, action="store_true", **common)
        elif option.many:
            parser.add_argument(*names, action="append", metavar=option.metavar, **common)
        else:
            parser.add_argument(*names, metavar=option.metavar, **common)
