"""The boundary between prompt and response, and what ends a response."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from train_toys import CHATML, make_tokenizer

from prefdata.core.errors import PrefdataError
from prefdata.models.packing_tokens import Encoder

TURN = [{"role": "user", "content": "Tell me about tea"}]
PLAIN, CHAT = make_tokenizer(False), make_tokenizer(True)


def ids(encoder: Encoder, prompt: Any, response: str) -> list[int]:
    (first,), (second,) = encoder.prompts([prompt]), encoder.responses([response])
    assert first is not None
    return [*first.tolist(), *second.tolist()]


def test_chat_is_what_the_template_writes_up_to_the_end_of_turn() -> None:
    encoder = Encoder.make(CHAT, chat=True, whole_turn=False)
    whole = CHAT.apply_chat_template([*TURN, {"role": "assistant", "content": "Gladly."}], tokenize=False)
    assert CHAT.decode(ids(encoder, TURN, "Gladly.")) == whole.removesuffix("\n")
    assert encoder.end == (CHAT.eos_token_id,)


def test_whole_turn_is_what_a_scorer_sees() -> None:
    """Reward models are asked about rendered conversations, whose last token is the template's newline here."""
    encoder = Encoder.make(CHAT, chat=True, whole_turn=True)
    whole = CHAT.apply_chat_template([*TURN, {"role": "assistant", "content": "Gladly."}], return_dict=False)
    assert ids(encoder, TURN, "Gladly.") == whole


def test_plain_text_ends_with_eos_once() -> None:
    encoder = Encoder.make(PLAIN, chat=False, whole_turn=False)
    (plain,) = encoder.responses([" Gladly."])
    assert plain.tolist() == [*PLAIN(" Gladly.")["input_ids"], PLAIN.eos_token_id]


@pytest.mark.parametrize("text", ["Gladly.<|im_end|>", "Gladly.<|im_end|><|im_end|>"])
def test_end_is_not_doubled(text: str) -> None:
    encoder = Encoder.make(CHAT, chat=True, whole_turn=False)
    once, again = encoder.responses(["Gladly.", text])
    assert once.tolist() == again.tolist()
    assert once.tolist().count(CHAT.eos_token_id) == 1


def test_template_without_an_end_gets_eos() -> None:
    tokenizer = make_tokenizer(True)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    (got,) = Encoder.make(tokenizer, chat=True, whole_turn=False).responses(["Gladly."])
    assert got.tolist()[-1] == tokenizer.eos_token_id


def test_tokenizer_that_adds_bos_and_eos() -> None:
    """BOS stands once, before the prompt; the EOS that such a tokenizer puts after every text is not left in the middle."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer(False)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A <|endoftext|>", special_tokens=[("<|im_start|>", 1), ("<|endoftext|>", 0)]
    )
    got = ids(Encoder.make(tokenizer, chat=False, whole_turn=False), "tea", " rain")
    assert (got.count(1), got[0]) == (1, 1)
    assert (got.count(0), got[-1]) == (1, 0)


def test_conversation_without_a_template() -> None:
    with pytest.raises(PrefdataError, match="no chat template"):
        Encoder.make(PLAIN, chat=True, whole_turn=False)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ raise_exception('not today') }}", "fails on a plain exchange .not today"),
        ("{{ messages[0]['content'] }}", "leaves the assistant"),
    ],
)
def test_template_that_cannot_be_used(template: str, says: str) -> None:
    tokenizer = make_tokenizer(True)
    tokenizer.chat_template = template
    with pytest.raises(PrefdataError, match=says):
        Encoder.make(tokenizer, chat=True, whole_turn=False)


def test_template_that_refuses_a_conversation() -> None:
    tokenizer = make_tokenizer(True)
    tokenizer.chat_template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    encoder = Encoder.make(tokenizer, chat=True, whole_turn=False)
    good, bad, also = encoder.prompts([TURN, [{"role": "system", "content": "x"}, *TURN], TURN])
    assert bad is None
    assert good is not None
    assert also is not None
    assert np.array_equal(good, also)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_prompt_is_a_true_prefix_and_text_survives(prompt: str, response: str) -> None:
    """Whatever the texts, both responses of a pair stand behind the very same prompt tokens, and nothing is lost."""
    encoder = Encoder.make(PLAIN, chat=False, whole_turn=False)
    (first,), (one, other) = encoder.prompts([prompt]), encoder.responses([response, response + "!"])
    assert first is not None
    assert PLAIN.decode(first) == prompt
    assert PLAIN.decode(one[:-1]) == response
    assert one[-1] == other[-1] == PLAIN.eos_token_id
