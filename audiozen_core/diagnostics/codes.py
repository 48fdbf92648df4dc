"""The kinds of finding and error: a stable code, a title and an explanation for each.

A code never changes its meaning and is never used again for something else. Those of a configuration (`AZ1…`) are in
`audiozen_core.diagnostics.config_codes`, which adds them to the same table.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of finding.

    Attributes:
        code: such as `AZ101`.
        title: what is wrong, in a few words.
        explanation: why it is wrong and what to do, in Markdown.
    """

    code: str
    title: str
    explanation: str


TABLE: dict[str, Code] = {}


def define(code: str, title: str, explanation: str) -> str:
    """Adds a kind of finding to the table.

    Returns:
        The code.

    Raises:
        ValueError: if the code is taken.
    """
    if code in TABLE:
        raise ValueError(f"{code} is taken by {TABLE[code].title!r}")
    TABLE[code] = Code(code, title, dedent(explanation).strip())
    return code


define(
    "AZ000",
    "error",
    """
    An error without a code of its own. The message says what to do.
    """,
)

# ---------------------------------------------------------------------------------------------- components

define(
    "AZ200",
    "component that can't be used",
    """
    A `path` does not lead to a component that can be used. The message says why.
    """,
)
MISSING_EXTRA = define(
    "AZ201",
    "missing package",
    """
    The component needs a package that AudioZEN does not install by default. The message has the pip command.
    """,
)
define(
    "AZ202",
    "path that can't be read",
    """
    A `path` is the name of an installed component (`sdnn`), that with its distribution (`acme-losses:sdr`), or a dotted
    import (`torch.optim.RAdam`; `trainer.Trainer` for the `trainer.py` beside the TOML file). It is not a file name
    and has no brackets.
    """,
)
define(
    "AZ203",
    "unknown component",
    """
    No installed distribution has a component of that name for this section. `audiozen plugins` lists all of them. Name
    a class of your own with its module: `model.Model` for the class `Model` in the `model.py` beside the TOML.
    """,
)
CLASH = define(
    "AZ204",
    "two components with one name",
    """
    Two installed distributions have a component of that name. Write which one you mean: `distribution:name`.
    """,
)
define(
    "AZ205",
    "no such module",
    """
    The module of a dotted `path` can't be found. AudioZEN looks in the folder of the TOML file, in its parent folder,
    and then among the installed packages.
    """,
)
define(
    "AZ206",
    "no such class or function",
    """
    The module of a dotted `path` exists, but has nothing of that name.
    """,
)
define(
    "AZ207",
    "import that fails",
    """
    The module of a `path` raises an error, or ends the program, while it is imported. The lines below the message show
    where in the module that happens.
    """,
)
define(
    "AZ208",
    "path to a module",
    """
    A `path` names a class or a function in a module, not the module: `torch.optim.Adam`, not `torch.optim`.
    """,
)
define(
    "AZ209",
    "unknown distribution",
    """
    In `distribution:name`, no distribution of that name is installed.
    """,
)
define(
    "AZ210",
    "component that can't be built",
    """
    The arguments fit the signature, but the component itself refused them, or `meta.device` is not available. The
    message has the error that it raised; `--traceback` shows the whole traceback.
    """,
)

# ---------------------------------------------------------------------------------------------- plugins

IMPORT_TAKES_TOO_LONG = define(
    "AZ220",
    "import that takes too long",
    """
    `audiozen plugins doctor` gave up on the import of a component; `--timeout` says after how many seconds. An import
    should neither load data nor wait for anything.
    """,
)
IMPORT_ENDS_PROCESS = define(
    "AZ221",
    "import that ends the process",
    """
    The process in which `audiozen plugins doctor` imports components ended during this import, by a signal (such as
    a segmentation fault) or by `os._exit`. A run that names the component would end in the same way.
    """,
)
OTHER_VERSION = define(
    "AZ222",
    "plugin for another version",
    """
    A plugin requires a version of AudioZEN other than the installed one.
    """,
)
UNKNOWN_GROUP = define(
    "AZ223",
    "unknown entry point group",
    """
    A distribution registers a component in an entry point group that AudioZEN does not read, most often a misspelt
    one. `audiozen plugins --help` lists the groups.
    """,
)
BAD_METADATA = define(
    "AZ224",
    "metadata that can't be read",
    """
    The metadata of an installed distribution can't be read, so none of its components are found.
    """,
)
IMPORTS_NOT_STARTED = define(
    "AZ225",
    "imports that can't be checked",
    """
    The process in which `audiozen plugins doctor` imports components did not start, so no import has been checked.
    """,
)

# ---------------------------------------------------------------------------------------------- running

define(
    "AZ300",
    "data that can't be used",
    """
    An audio file is missing or empty, is not audio, or has an unexpected sample rate; or a data set has no items.
    """,
)
define(
    "AZ400",
    "checkpoint that can't be used",
    """
    A checkpoint can't be written, found or trusted. The message says why. No part of it has been used.
    """,
)
define(
    "AZ401",
    "no checkpoint",
    """
    There is no checkpoint of that name, or no checkpoint to resume from.
    """,
)
define(
    "AZ402",
    "damaged checkpoint",
    """
    A checkpoint is incomplete, or its files have changed since they were written. No part of it has been used.
    """,
)
define(
    "AZ403",
    "state that can't be stored",
    """
    Something in the state of a model, an optimiser or a hook is of a type that checkpoints can't store. They store
    tensors, numbers, strings, booleans, None, and lists, tuples and dicts of these. The message names the owner.
    """,
)
define(
    "AZ404",
    "checkpoint that can't be written",
    """
    The disk is full or can't be written. The earlier checkpoints still exist and are intact.
    """,
)
define(
    "AZ500",
    "run that can't continue",
    """
    A run can't start or continue: its folder already has a run, there is nothing to resume, or the loss is NaN. The
    message says what to do.
    """,
)
HOOK = define(
    "AZ600",
    "hook that is wrong",
    """
    A hook raised an error, has the name of no known hook, or takes an argument that its hook does not pass.
    """,
)
