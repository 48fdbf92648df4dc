"""The names that other toolkits use for the sections, keys and arguments of AudioZEN.

A synonym is never accepted in a TOML file. Synonyms only improve suggestions where similar spelling would mislead: `fs`
means `sr`, and `val_dataset` means `validate_dataset`.
"""

from __future__ import annotations

from collections.abc import Collection

from audiozen_core.kinds import SECTIONS

# The synonyms of the keys and arguments of AudioZEN. The synonyms of sections are in `kinds`. Case, `-` and `_` are
# ignored.
_KEYS = {
    # [meta]
    "save_dir": "output_dir output_folder out_dir exp_dir expdir log_dir logdir run_dir work_dir workdir save_folder "
    "save_path default_root_dir result_dir results_dir",
    "id": "name exp_name exp_id experiment_name experiment_id run_name run_id version",
    "seed": "random_seed torch_seed manual_seed rng_seed seed_everything",
    "use_amp": "amp fp16 bf16 precision mixed_precision auto_mix_prec",
    "use_deterministic_algorithms": "deterministic cudnn_deterministic",
    "device": "accelerator gpu gpus ngpu cuda use_cuda devices",
    "import_from": "python_path pythonpath sys_path import_path",
    # [acoustics]
    "sr": "fs sample_rate samplerate sampling_rate samp_rate",
    "n_fft": "nfft fft_size fft_len fft_length num_fft fft_bins",
    "hop_length": "hop hop_size hop_len frame_shift shift n_shift stride",
    "win_length": "win win_len win_size window_length window_size window_len frame_length frame_size n_win",
    "window": "window_fn window_type win_type win_fn",
    # dataloader
    "batch_size": "bs batch batch_size_per_gpu per_gpu_batch_size",
    "num_workers": "workers n_workers nj num_worker n_jobs",
    "collate_fn": "collate collator",
    # [trainer.args]
    "max_epochs": "epochs epoch num_epochs n_epochs nb_epochs number_of_epochs total_epochs",
    "max_steps": "steps num_steps n_steps iterations max_iters total_steps",
    "clip_grad_norm_value": "clip_grad grad_clip clip max_norm max_grad_norm gradient_clip_val gradient_clip grad_norm "
    "clip_grad_norm grad_clip_norm",
    "gradient_accumulation_steps": "accumulate_grad_batches accum_grad accumulation_steps grad_accumulation_factor "
    "accumulate accum_steps",
    "patience": "early_stopping early_stop early_stopping_patience early_stop_patience",
    "validation_interval": "check_val_every_n_epoch val_interval valid_interval eval_interval validate_every "
    "eval_every",
    "log_interval": "log_every_n_steps log_every logging_steps print_freq",
    "max_num_checkpoints": "save_top_k keep_nbest_models num_to_keep keep_last_n max_keep save_total_limit",
    "save_ckpt_interval": "every_n_epochs save_every save_interval checkpoint_interval save_freq",
    "save_ckpt_interval_steps": "save_steps every_n_train_steps ckpt_interval_steps",
    "save_ckpt_minutes": "ckpt_interval_minutes",
    "save_max_score": "greater_is_better maximize monitor_mode",
    "metrics": "metric val_metrics eval_metrics",
}

# Words that resemble an argument of AudioZEN, but mean something that AudioZEN does not have.
_UNSUPPORTED = """
valcheckinterval validationintervalsteps evalsteps minepochs minsteps maxtime checkpointdir ckptdir plotlr
"""
WITHOUT_COUNTERPART = frozenset(_UNSUPPORTED.split())


def fold(name: str) -> str:
    """Returns the name in lower case, without `-` and `_`."""
    return name.lower().replace("-", "").replace("_", "")


SYNONYMS = {**{name: kind.synonyms[name] for name, kind in SECTIONS.items() if name in kind.synonyms}, **_KEYS}
"""The synonyms of each section, key and argument. If a word has several meanings, the first known name is used."""

_MEANINGS: dict[str, list[str]] = {}
for _name, _others in SYNONYMS.items():
    for _other in _others.split():
        _MEANINGS.setdefault(fold(_other), []).append(_name)


def meaning(word: str, known: Collection[str]) -> str | None:
    """Returns the known name that corresponds to a word of another toolkit, or None.

    Example:
        >>> meaning("val_dataset", ["dataset", "validate_dataset"]), meaning("fs", ["lr"])
        ('validate_dataset', None)
    """
    return next((name for name in _MEANINGS.get(fold(word), ()) if name in known), None)
