"""The kinds of finding about a configuration, `AZ100` to `AZ199`."""

from __future__ import annotations

from audiozen_core.diagnostics.codes import TABLE, Code, define

__all__ = ["TABLE", "Code"]

CONFIG = define(
    "AZ100",
    "configuration with errors",
    """
    A TOML file has errors. Each finding has its own code.
    """,
)

# ---------------------------------------------------------------------------------------------- sections and keys

UNKNOWN_SECTION = define(
    "AZ101",
    "unknown section",
    """
    A table at the top level of the file that AudioZEN does not know, most often a misspelt one. The known sections are
    `meta`, `trainer`, `acoustics`, `model`, `loss_function`, `optimizer`, `lr_scheduler`, `dataset` (or
    `train_dataset`), `validate_dataset`, `test_dataset`, `predict_dataset` and `[[hooks]]`. `model`, `loss_function`,
    `optimizer` and `lr_scheduler` may have a suffix, as in `model_g`.
    """,
)
UNKNOWN_KEY = define(
    "AZ102",
    "unknown key",
    """
    A key that its section does not have. The arguments of a component belong in its `args`:

        [optimizer]
        path = "torch.optim.Adam"
        [optimizer.args]
        lr = 1e-3
    """,
)
MISSING_SECTION = define(
    "AZ103",
    "missing section",
    """
    A section that the mode needs is missing. Training needs `meta`, `trainer`, `model`, `optimizer`,
    `loss_function` and `dataset`; validation, test and prediction need `meta`, `trainer`, `model` and the data set of
    that mode (`validate_dataset`, `test_dataset`, `predict_dataset`).
    """,
)
MISSING_KEY = define(
    "AZ104",
    "missing key",
    """
    A section lacks a key that has no default, such as `path` of a component or `save_dir` of `[meta]`.
    """,
)
WRONG_TYPE = define(
    "AZ105",
    "wrong type",
    """
    A value of a type that its key does not take, such as a string instead of a number. An integer is accepted for a
    floating-point number, but not the other way round; `true` is not a number.
    """,
)
BAD_VALUE = define(
    "AZ106",
    "value not allowed",
    """
    A value of the right type that its key does not take: a number out of range, or a word that is not a choice.
    """,
)
NUMBERS_DISAGREE = define(
    "AZ107",
    "numbers that disagree",
    """
    Numbers that do not fit together. A window may not be longer than the transform (`win_length <= n_fft`), nor the hop
    longer than the window (`hop_length <= win_length`), because samples between two windows would be lost.
    """,
)
NO_PARTNER = define(
    "AZ108",
    "section without its partner",
    """
    An optimiser takes the parameters of the model with the same suffix, and a scheduler controls the optimiser with the
    same suffix: `optimizer_g` needs `model_g`, `lr_scheduler_g` needs `optimizer_g`.
    """,
)
TWO_SPELLINGS = define(
    "AZ109",
    "one thing under two names",
    """
    A file that sets the same thing under two names, such as `loss` and `loss_function`, or `dataset` and
    `train_dataset`. Keep one of them.
    """,
)
OLD_SPELLING = define(
    "AZ110",
    "old spelling",
    """
    A name of earlier versions. It still works; the new name is in the message.
    """,
)
ARGS_DROPPED = define(
    "AZ111",
    "inherited arguments dropped",
    """
    A file that `extends` another, or a `--set`, changes the `path` of a component. The inherited `args` are dropped,
    because they belong to the old component. Give the arguments of the new component in the same
    file.
    """,
)
KIND_CHANGED = define(
    "AZ112",
    "table replaced by a value",
    """
    A file that `extends` another gives a single value where the other has a table, or the other way round. The new
    value replaces the old one; nothing is merged.
    """,
)
DATALOADER_IGNORED = define(
    "AZ113",
    "data loader that would be ignored",
    """
    Several training sets are joined into one, which has one data loader: the table `dataloader` of the first. Another
    of them may leave its own out, or repeat that of the first. Validation, test and prediction sets are not joined, and
    each has a data loader of its own.
    """,
)

# ---------------------------------------------------------------------------------------------- reading a file

UNREADABLE = define(
    "AZ120",
    "file that cannot be read",
    """
    The file does not exist, is a folder, or may not be read.
    """,
)
NOT_UTF8 = define(
    "AZ121",
    "not UTF-8",
    """
    A TOML file is text in UTF-8. Save it in that encoding; editors call it "UTF-8" or "UTF-8 without BOM".
    """,
)
BYTE_ORDER_MARK = define(
    "AZ122",
    "byte order mark",
    """
    The file begins with three invisible bytes, a byte order mark, which TOML does not allow. Save the file as "UTF-8",
    not as "UTF-8 with BOM".
    """,
)
EMPTY = define(
    "AZ123",
    "empty file",
    """
    The file has no keys, only blank lines or comments.
    """,
)
TOO_DEEP = define(
    "AZ125",
    "nested too deeply",
    """
    Tables and arrays may be nested 64 levels deep.
    """,
)
NOT_TOML = define(
    "AZ126",
    "not valid TOML",
    """
    The text breaks the rules of TOML. Strings stand in quotes, `true` and `false` are lower case, there is no `None`
    (leave the key out), and each key may be set once. See https://toml.io for all rules.
    """,
)

# ---------------------------------------------------------------------------------------------- composition

BAD_OVERRIDE = define(
    "AZ130",
    "override that cannot be read",
    """
    An override has the form `--set key=value`, such as `--set optimizer.args.lr=3e-4`. The value is TOML; a bare
    word is a string. Entries of an array are named by their index, from 0:
    `--set validate_dataset.0.args.limit=10`.
    """,
)
UNKNOWN_OVERRIDE = define(
    "AZ131",
    "override of an unknown key",
    """
    `--set` changes a key that the file has. To add one, put a plus sign before it: `--set +model.args.max_delay=32`.
    """,
)
BAD_EXTENDS = define(
    "AZ132",
    "`extends` that cannot be followed",
    """
    `extends` names a TOML file, or a list of them, relative to the file that it stands in. Files may not extend each
    other in a circle.
    """,
)
BAD_REFERENCE = define(
    "AZ133",
    "reference that leads nowhere",
    """
    `${acoustics.sr}` stands for the value of another key, `${env:DATA_ROOT}` for a variable of the environment,
    `${env:DATA_ROOT:-/data}` for one with a default, and `${here}` for the folder of the TOML file in which it stands.
    Write `$${` for the characters `${` themselves.
    """,
)
REFERENCE_CYCLE = define(
    "AZ134",
    "references in a circle",
    """
    A value refers to itself through other values.
    """,
)

# ---------------------------------------------------------------------------------------------- components

UNKNOWN_ARGUMENT = define(
    "AZ140",
    "unknown argument",
    """
    The `args` of a component have a name that it does not take. It is an error, because otherwise a misspelt
    `weight_decay` would train without weight decay.
    """,
)
MISSING_ARGUMENT = define(
    "AZ141",
    "missing argument",
    """
    A component has a parameter without a default, and its `args` lack it.
    """,
)
INJECTED_ARGUMENT = define(
    "AZ142",
    "argument that AudioZEN passes itself",
    """
    Some arguments can't come from a TOML file: `params` of an optimiser, `optimizer` of a scheduler, `components` of a
    trainer. AudioZEN passes them; leave them out.
    """,
)
POSITIONAL_ONLY = define(
    "AZ143",
    "argument by position only",
    """
    A component takes an argument only by position, but a TOML file gives arguments by name. Write a function that
    takes it by name and calls the component, and name that function in `path`.
    """,
)
WRONG_ARGUMENT_TYPE = define(
    "AZ144",
    "argument of the wrong type",
    """
    The value of an argument does not fit its annotation. An integer fits a `float`; an array fits a `list`, a
    `tuple` or a `set`; a table fits a `dict` or a dataclass; a string fits a `Path`.
    """,
)
NOT_CALLABLE = define(
    "AZ145",
    "path to something that can't be called",
    """
    A `path` names a class, or a function that builds something. This one names something else.
    """,
)
WRONG_KIND = define(
    "AZ146",
    "component of another kind",
    """
    A trainer is a subclass of `BaseTrainer`, a model of `torch.nn.Module`, an optimiser of `torch.optim.Optimizer`, a
    data set of `torch.utils.data.Dataset`. This one is not.
    """,
)
ABSTRACT = define(
    "AZ147",
    "abstract class",
    """
    The class has abstract methods and can't be built. Name one of its subclasses.
    """,
)
IMPORT_PRINTS = define(
    "AZ148",
    "import that prints",
    """
    The module of a component writes to the standard output while it is imported. The output is suppressed, because it
    would disturb programs that read the output of AudioZEN.
    """,
)
