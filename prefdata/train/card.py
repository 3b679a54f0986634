"""README.md of a trained model: what it was trained on, how, what came out, how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SHOWN = ("loss", "accuracy", "ranking_accuracy", "margin", "chosen_shift", "rejected_shift", "chosen_reward", "rejected_reward")

_HOUSEKEEPING = ("log_every", "eval_every", "save_every", "cache_dir", "resume")

_POLICY = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({folder!r})
tokenizer = AutoTokenizer.from_pretrained({folder!r})
```"""

_REWARD = """```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained({folder!r}, num_labels=1)
tokenizer = AutoTokenizer.from_pretrained({folder!r})
{lines}
reward = model(**inputs).logits[0, 0].item()  # higher is better; compare within one prompt only
```"""
_CHAT = (
    'inputs = tokenizer.apply_chat_template([{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}], '
    'return_tensors="pt", return_dict=True)'
)
_PLAIN = 'inputs = tokenizer(prompt + response + (tokenizer.eos_token or ""), return_tensors="pt")'


def model_card(result: Mapping[str, Any]) -> str:
    """The card from the contents of training.json."""
    reward = result["objective"] == "reward"
    folder = result["out"]
    usage = _REWARD.format(folder=folder, lines=_CHAT if result["chat"] else _PLAIN) if reward else _POLICY.format(folder=folder)
    if result["settings"]["lora"]:
        usage += "\n\nThis folder holds a LoRA adapter; the calls above need `peft` and the base model at its path."
    parts = [
        _front_matter(result),
        f"# {'Reward model' if reward else 'Policy'} trained with {result['objective']}",
        f"Trained by [prefdata](https://pypi.org/project/prefdata/) from `{result['model']}` on {result['rows']['train']} "
        f"pairs of `{result['export']}`.",
        "## Use\n\n" + usage,
        "## Results\n\n" + _results(result),
        "## Data\n\n" + _data(result),
        "## Settings\n\n" + _settings(result),
        "![training](training.png)",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(result: Mapping[str, Any]) -> str:
    tags = ["prefdata", str(result["objective"])]
    pipeline = "text-classification" if result["objective"] == "reward" else "text-generation"
    lines = ["---", "library_name: transformers", f"pipeline_tag: {pipeline}", "tags:", *(f"- {tag}" for tag in tags), "---"]
    return "\n".join(lines)


def _results(result: Mapping[str, Any]) -> str:
    start, end = result["start"], result["metrics"]
    where = (
        f"on {result['rows'].get(result['held_out'], 0)} held-out pairs ({result['held_out']})"
        if result["held_out"]
        else "on the training pairs of the first and the last step (no held-out split)"
    )
    rows = [f"| {name} | {_number(start.get(name))} | {_number(end.get(name))} |" for name in _SHOWN if name in end]
    return f"Measured {where}; means over pairs.\n\n| | before | after |\n|---|---|---|\n" + "\n".join(rows)


def _data(result: Mapping[str, Any]) -> str:
    lines = [f"- {split}: {count} pairs used" for split, count in result["rows"].items()]
    lines += [f"- left out: {count} {reason}" for reason, count in result["dropped"].items()]
    lines.append(f"- export fingerprint (SHA-256 over its files): `{result['export_fingerprint']}`")
    lines += [f"- {note}" for note in result["notes"]]
    return "\n".join(lines)


def _settings(result: Mapping[str, Any]) -> str:
    settings = {**{f"{result['objective']}: {k}": v for k, v in result["params"].items()}, **result["settings"]}
    rows = [f"| {name} | {value} |" for name, value in settings.items() if value not in (None, []) and name not in _HOUSEKEEPING]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    paper = f"\n\nMethod: {result['paper']}." if result["paper"] else ""
    return "| setting | value |\n|---|---|\n" + "\n".join(rows) + f"\n\n{versions}.{paper}"


def _number(value: Any) -> str:
    return "-" if value is None else f"{round(value, 4) + 0.0:.4f}"
