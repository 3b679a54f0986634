"""README.md of a trained model: what it was trained on, how, what came out, how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SHOWN = ("loss", "accuracy", "ordered", "ranking_accuracy", "margin", "chosen_shift", "rejected_shift", "chosen_reward", "rejected_reward")

_HOUSEKEEPING = ("log_every", "eval_every", "save_every", "cache_dir", "resume")

_POLICY = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({folder!r})
tokenizer = AutoTokenizer.from_pretrained({folder!r})
```"""

_REWARD = """```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained({folder!r}, num_labels={outputs})
tokenizer = AutoTokenizer.from_pretrained({folder!r})
{lines}
"""
_READ_ONE = """reward = model(**inputs).logits[0, 0].item()  # higher is better; compare within one prompt only
```"""
_READ_MANY = """outputs = model(**inputs).logits[0].tolist()
```"""
_FROZEN = """```python
from prefdata.train.frozen import RewardHead

head = RewardHead({folder!r})  # reads the frozen model, too, from where it lay in training
rewards = head.rewards([(prompt, response)])
```"""
_CHAT = (
    'inputs = tokenizer.apply_chat_template([{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}], '
    'return_tensors="pt", return_dict=True)'
)
_PLAIN = 'inputs = tokenizer(prompt + response + (tokenizer.eos_token or ""), return_tensors="pt")'


def model_card(result: Mapping[str, Any], head: Mapping[str, Any] | None = None) -> str:
    """The card from the contents of training.json and, of a reward model whose numbers want explaining, of head.json."""
    reward = result["kind"] == "reward"
    folder = result["out"]
    usage = _usage(result, head) if reward else _POLICY.format(folder=folder)
    if result["settings"]["lora"]:
        usage += "\n\nThis folder holds a LoRA adapter; the calls above need `peft` and the base model at its path."
    parts = [
        _front_matter(result),
        f"# {'Reward model' if reward else 'Policy'} trained with {result['objective']}",
        f"Trained by [prefdata](https://pypi.org/project/prefdata/) from `{result['model']}` on {result['rows']['train']} "
        f"{result['unit']} of `{result['export']}`.",
        "## Use\n\n" + usage,
        "## Results\n\n" + _results(result),
        "## Data\n\n" + _data(result),
        "## Settings\n\n" + _settings(result),
        "![training](training.png)",
    ]
    return "\n\n".join(parts) + "\n"


def _usage(result: Mapping[str, Any], head: Mapping[str, Any] | None) -> str:
    """How to score with the model."""
    if head is None:
        return _REWARD.format(folder=result["out"], outputs=1, lines=_CHAT if result["chat"] else _PLAIN) + _READ_ONE
    names = ", ".join(head["outputs"])
    how = (
        "It gives a single response no reward: of two, take `general_preference` of their outputs (see its docstring)."
        if head["readout"] is None
        else f"The reward is their sum in the weights {head['readout']}; higher is better, compare within one prompt only."
    )
    text = f"A response gets {len(head['outputs'])} numbers: {names}. {how}" if len(head["outputs"]) > 1 else ""
    if "features" in head:
        return _FROZEN.format(folder=result["out"]) + (f"\n\n{text}" if text else "")
    lines = _CHAT if result["chat"] else _PLAIN
    return _REWARD.format(folder=result["out"], outputs=len(head["outputs"]), lines=lines) + _READ_MANY + f"\n\n{text}"


def _front_matter(result: Mapping[str, Any]) -> str:
    tags = ["prefdata", str(result["objective"])]
    pipeline = "text-classification" if result["kind"] == "reward" else "text-generation"
    lines = ["---", "library_name: transformers", f"pipeline_tag: {pipeline}", "tags:", *(f"- {tag}" for tag in tags), "---"]
    return "\n".join(lines)


def _results(result: Mapping[str, Any]) -> str:
    start, end = result["start"], result["metrics"]
    where = (
        f"on {result['rows'].get(result['held_out'], 0)} held-out {result['unit']} ({result['held_out']})"
        if result["held_out"]
        else f"on the training {result['unit']} of the first and the last step (no held-out split)"
    )
    rows = [f"| {name} | {_number(start.get(name))} | {_number(end.get(name))} |" for name in _SHOWN if name in end]
    return f"Measured {where}; means over {result['unit']}.\n\n| | before | after |\n|---|---|---|\n" + "\n".join(rows)


def _data(result: Mapping[str, Any]) -> str:
    lines = [f"- {split}: {count} {result['unit']} used" for split, count in result["rows"].items()]
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
