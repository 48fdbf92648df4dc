"""The kinds of finding about a configuration, `AZ100` to `AZ199`."""

from __future__ import annotations

from audiozen_core.diagnostics.codes import TABLE, Code, define

__all__ = ["TABLE", "Code"]

CONFIG = define(
    "AZ100",
    "configuration with errors",
    """
    What is wrong with a TOML file; each finding has a code of its own.
    """,
)

# ---------------------------------------------------------------------------------------------- sections and keys

UNKNOWN_SECTION = define(
    "AZ101",
    "unknown section",
    """
    A table at the top of the file that no part of AudioZEN reads, most often a misspelt one. The known sections are
    `meta`, `trainer`, `acoustics`, `model`, `loss_function`, `optimizer`, `lr_scheduler`, `dataset` (or
    `train_dataset`), `validate_dataset`, `test_dataset`, `predict_dataset` and `[[hooks]]`. `model`, `loss_function`,
    `optimizer` and `lr_scheduler` may have a suffix, as in `model_g`.
    """,
)
UNKNOWN_KEY = define(
    "AZ102",
    "unknown key",
    """
    A key that its section does not have. The arguments of a component belong into its `args`:

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
    A section that the mode needs is not there. Training needs `meta`, `trainer`, `model`, `optimizer`,
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
    A value of a type that its key does not take: a string where a number is wanted, a table where a string is.
    An integer will do where a floating-point number is wanted, but not the other way round; `true` is no number.
    """,
)
BAD_VALUE = define(
    "AZ106",
    "value not allowed",
    """
    A value of the right type that its key does not take: a number out of range, a word that is none of the choices.
    """,
)
NUMBERS_DISAGREE = define(
    "AZ107",
    "numbers that disagree",
    """
    Numbers that are right one by one but not together: a window may not be longer than the transform
    (`win_length <= n_fft`), nor the hop longer than the window (`hop_length <= win_length`), for samples between two
    windows would be lost.
    """,
)
NO_PARTNER = define(
    "AZ108",
    "section without its partner",
    """
    An optimiser takes the parameters of the model with the same suffix, and a scheduler steers the optimiser with the
    same suffix: `optimizer_g` needs `model_g`, `lr_scheduler_g` needs `optimizer_g`.
    """,
)
TWO_SPELLINGS = define(
    "AZ109",
    "one thing under two names",
    """
    A file that says the same thing under two names, such as `loss` and `loss_function`, or `dataset` and
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
    A file that `extends` another, or a `--set`, changes the `path` of a component. Arguments of the old component
    would not fit the new one, so the inherited `args` are dropped. Give the arguments of the new component in the same
    file.
    """,
)
KIND_CHANGED = define(
    "AZ112",
    "table replaced by a value",
    """
    A file that `extends` another gives a single value where the other has a table, or the other way round. The new one
    replaces all of the old one; nothing is merged.
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
    There is no such file, it is a folder, or the rights to read it are missing.
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
    The file holds no key at all, only blanks or comments.
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
    The text breaks the rules of TOML. Strings stand in quotes, `true` and `false` are written small, there is no `None`
    (leave the key out), and each key may be set once. See https://toml.io for all of them.
    """,
)

# ---------------------------------------------------------------------------------------------- composition

BAD_OVERRIDE = define(
    "AZ130",
    "override that cannot be read",
    """
    An override has the form `--set key=value`, such as `--set optimizer.args.lr=3e-4`. The value is TOML; a bare
    word is taken as a string. Entries of an array are named by their index, from 0:
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
    `extends` names a TOML file, or a list of such, relative to the file that says so. Files may not extend each other
    in a circle.
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
    A value refers to itself, by way of others.
    """,
)

# ---------------------------------------------------------------------------------------------- components

UNKNOWN_ARGUMENT = define(
    "AZ140",
    "unknown argument",
    """
    The `args` of a component hold a name that it does not take. Nothing is passed over in silence: a misspelt
    `weight_decay` would otherwise train without one.
    """,
)
MISSING_ARGUMENT = define(
    "AZ141",
    "missing argument",
    """
    A component has a parameter without a default, and its `args` do not give it.
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
    A component takes an argument by its position alone, and a TOML file gives arguments by name. Write a function that
    takes it by name and calls the component, and name that function in `path`.
    """,
)
WRONG_ARGUMENT_TYPE = define(
    "AZ144",
    "argument of the wrong type",
    """
    The value of an argument does not fit its annotation. An integer will do for a `float`; an array for a `list`,
    `tuple` or `set`; a table for a `dict` or a dataclass; a string for a `Path`.
    """,
)
NOT_CALLABLE = define(
    "AZ145",
    "path to something that can't be called",
    """
    A `path` names a class, or a function that builds something. What it leads to here is neither.
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
    The class leaves methods to its subclasses and can't be built itself. Name one of the subclasses.
    """,
)
IMPORT_PRINTS = define(
    "AZ148",
    "import that prints",
    """
    The module of a component writes to the standard output while it is imported. That is held back, as it would get
    between the lines of a program that reads our output.
    """,
)
