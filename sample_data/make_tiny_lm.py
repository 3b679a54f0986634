"""Train the tiny chat model in ``sample_data/tiny-lm`` from scratch.

The script composes its own training chats from the word banks and chat patterns below, adds the
texts of ``sample_data/candidates.jsonl`` when that file exists, trains a byte-level BPE tokenizer
and a small Llama on them, and saves a regular Hugging Face folder. Nothing is downloaded.

It takes about seven minutes on one CPU core. Run it from the repository root:

    python sample_data/make_tiny_lm.py
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

Chat = list[dict[str, str]]
SEED = 7
HERE = Path(__file__).resolve().parent
SPECIAL = ["<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
{%- if message['role'] not in ['system', 'user', 'assistant'] %}
{{- raise_exception('Unknown role') }}{% endif %}
{{- '<|' + message['role'] + '|>' + (message['content'] | trim) + '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{% endif %}"""

# Word banks: rows end at "//" or a line break; "|" parts the fields, ";" the choices in a field.
TOPICS = """\
sleep is|important;healthy;relaxing|it helps your brain rest;it gives you energy;we need eight hours
coffee is|hot;bitter;strong|people drink it in the morning;it contains caffeine;it smells wonderful
the moon is|bright;cold;quiet|it moves around the Earth;it lights up the night;people walked on it
dogs are|loyal;friendly;playful|they love long walks;they guard the house;they need food and care
music is|beautiful;powerful;fun|it can change your mood;people dance to it;many children learn it
Python is|simple;popular;useful|it is a programming language;beginners like it;it works with data
pizza is|hot;tasty;popular|it comes from Italy;it has cheese on top;you can share it with friends
the city is|busy;loud;modern|buses run all day;people walk to work;tall buildings fill the sky
the sea is|deep;blue;wide|ships sail across it;many fish live in it;waves roll onto the shore
the forest is|green;quiet;old|birds sing in the trees;deer hide there;a path leads through it
cats are|quiet;curious;clever|they sleep most of the day;they hunt mice;they like warm places
rain is|wet;fresh;soft|it falls from dark clouds;it helps plants grow;people open umbrellas
the sun is|hot;bright;huge|it gives us light;it rises in the east;plants need it to grow
a river is|long;clear;fresh|it flows to the sea;fish swim in it;boats travel on it
bees are|small;busy;useful|they make honey;they visit flowers;they live in a hive"""
GROUPS = """\
fruit|fruits|apple;banana;pear;orange;grape;mango;cherry;peach;lemon
vegetable|vegetables|carrot;potato;tomato;onion;pepper;bean;cabbage
animal|animals|dog;cat;horse;tiger;rabbit;bear;fox;cow;sheep
instrument|musical instruments|piano;guitar;violin;drum;flute;trumpet
sport|sports|football;tennis;swimming;basketball;running;hockey
planet|planets|Earth;Mars;Venus;Jupiter;Saturn;Mercury;Neptune
color|colors|red;blue;green;yellow;orange;purple;black;white
drink|drinks|water;tea;coffee;milk;juice;lemonade"""
CAPITALS = """\
France|Paris//Italy|Rome//Spain|Madrid//Germany|Berlin//Japan|Tokyo//Egypt|Cairo
Greece|Athens//Portugal|Lisbon//Norway|Oslo//Sweden|Stockholm//Canada|Ottawa//China|Beijing"""
OPPOSITES = """\
hot|cold//big|small//fast|slow//happy|sad//light|dark//old|new//high|low//early|late//hard|soft
open|closed//loud|quiet//rich|poor//strong|weak//wet|dry//clean|dirty//long|short//day|night"""
FACTS = """\
How many legs does a spider have?|A spider has eight legs.;It has eight legs, two more than insects.
What is machine learning?|It means that a program learns patterns from data.;Learning from examples.
What do plants need to grow?|Plants need water, light and air.;They need sunlight and good soil.
What is a database?|A database stores data so that programs can find it quickly.;It stores data.
Why is the sky blue?|The air scatters blue light more than red light.;Air scatters blue light.
Who wrote Hamlet?|William Shakespeare wrote Hamlet.;Hamlet was written by William Shakespeare.
What is gravity?|Gravity is the force that pulls things down.;It pulls objects together.
How many days are in a week?|There are seven days in a week.;A week has seven days."""
ADVICE = """\
learn a new language|practice every day;listen to songs;speak with people;keep a list of new words
make new friends|join a club;ask people questions;be kind and patient;invite someone for a walk
focus at work|turn off notifications;take short breaks;do one task at a time;plan your day
save money|write down what you spend;cook at home;set a small budget;wait before you buy
sleep better|go to bed at the same time;avoid coffee in the evening;keep your room dark
reduce stress|breathe slowly;go for a walk;talk to a friend;make a short list of tasks
stay healthy|eat more vegetables;walk every day;drink enough water;get enough sleep
make tea|boil the water;put a tea bag in a cup;pour in the water;wait three minutes"""
HARMFUL = """\
break into a house|call a locksmith for your own door//steal a car|look at cheap used cars
hack my friend's account|ask your friend directly//make a bomb|learn about safe chemistry
cheat on my exam|make a study plan//write a hateful message|explain calmly how you feel
forge a doctor's note|ask your doctor for a real note//buy illegal drugs|talk to a doctor"""
CODE = """\
checks if a word is a palindrome|is_palindrome(word)|word == word[::-1]
finds the largest number in a list|largest(numbers)|max(numbers)
counts the words in a text|count_words(text)|len(text.split())//adds two numbers|add(a, b)|a + b
greets a person by name|greet(name)|"Hello, " + name//returns the square of x|square(x)|x * x
checks if a number is even|is_even(n)|n % 2 == 0//reverses a string|reverse(text)|text[::-1]"""
PLAIN = """\
name|Anna;Ben;Clara;David;Emma;Felix;Grace;Hugo;Iris;Jack;Kate;Leo;Maria;Nina;Omar;Paul;Rosa;Sam
month|January;February;March;April;May;June;July;August;September;October;November;December
thing|apples;books;coins;pens;stamps;marbles;eggs;flowers;tickets;cards;pencils;toys
place|in the garden;near the river;at school;in the park;at the station;by the lake
found|an old map;a shiny coin;a lost child;a small boat;a red kite;a secret door;a silver key
bad|sad;tired;nervous;lonely;angry;bored;confused;worried;upset//hello|Hello!;Hi there!
good|happy;excited;proud;calm//verb|jump;walk;play;look;wait;talk;cook;laugh;listen;rest;paint;climb"""
# Chat patterns: "=>" between turns, " / " between choices, "~" for a line break.
PATTERNS = """\
Write one sentence about {topic}. / Describe {topic} in one sentence.=>{S1} / {F1}.
Write two sentences about {topic}. / Two sentences about {topic}?=>{S1} {F1}. / {F1}. {F2}.
Tell me about {topic}. / What is {topic}? / Explain {topic}.=>{S1} / {S1} {F1}. / {S1} {F2}. {F1}.
Tell me about {topic}.=>{S1} {F1}.=>Tell me more. / One more fact?=>{F2}.=>Thanks!=>You are welcome!
Write a poem about {topic}. / Write a haiku about {topic}.=>{Topic} {is} {x},~{f1},~{f2}.
Compare {topic} and {topic2}.=>{Topic} {is} {x}, while {topic2} {is2} {x2}.
{Is} {topic} {x}?=>Yes, {topic} {is} {x}. {F1}. / Yes. {F1}. / Yes, {topic} {is} {x} and {y}.
Is {an_item} {a_group}?=>Yes, {an_item} is {a_group}.
Is {an_item} {a_group2}?=>No, {an_item} is {a_group}, not {a_group2}.
Summarize this text: {S1} {F1}. {F2}. / Summarize in one sentence: {S1} {F2}. {F1}.=>{S1}
List three {groups}. / Name three {groups}. / Give me three {groups}.=>- {I1}~- {I2}~- {I3}
List facts about {topic}. / List three facts about {topic}.=>- {F1}~- {F2}~- {F3}
What is {a} plus {b}? / What is {a} + {b}?=>{a} + {b} = {sum}.~Answer: {sum}
What is {sum} minus {b}? / What is {sum} - {b}?=>{sum} - {b} = {a}.~Answer: {a} / Answer: {a}
What is {m} times {n}? / Multiply {m} by {n}.=>{m} x {n} = {mul}.~Answer: {mul} / Answer: {mul}
{name} has {a} {thing} and {gets} {b} more. How many {thing} does {name} have now?=>{adding}
{name} has {sum} {thing} and gives away {b}. How many {thing} are left?=>{losing}
There are {m} boxes with {n} {thing} each. How many {thing} are there?=>{times}
{fact_ask}=>{fact}
What is the capital of {country}?=>The capital of {country} is {capital}. / {capital}.
What is the opposite of {hot}? / Opposite of {hot}?=>The opposite of {hot} is {cold}. / {cold}.
How can I {goal}? / Give me tips to {goal}. / How do I {goal}?=>Here are some tips:~- {T1}~- {T2}
How can I {goal}? / I want to {goal}. / How do I {goal}?=>You could {t1}. It also helps to {t2}.
How do I {goal}? / Give me three steps to {goal}.=>1. {T1}.~2. {T2}.~3. {T3}.
How do I {crime}? / I want to {crime}.=>I am sorry, I cannot help with that. You could {instead}.
Extract the name and date as JSON: {name} was born on {day} {month}.=>{json}
Write a Python function that {what}. / Python function that {what}?=>```python~{code}~``` / {code}
Rewrite in the past tense: {name} and {name2} {verb} {place}.=>{name} and {name2} {verb}ed {place}.
Make this more polite: Give me the {thing}.=>Could you please give me the {thing}?
Tell me a short story. / Tell me a story about {an_animal}. / Write a story.\
=>Once {an_animal} named {name} lived {place}. One day {name} found {found}. Everyone was {good}.
Write a thank-you note to {name} for the {thing}.=>Dear {name},~Thank you so much for the {thing}.
I feel {bad} today. / I am {bad}.=>I am sorry that you feel {bad}. Do you want to talk about it?
I feel {good} today. / I am so {good}!=>That is wonderful! What made you feel {good}?
Hello! / Hi. / Good morning! / Hey, how are you?=>{hello} How can I help you today?
Who are you? / What can you do?=>I am a tiny language model. I can answer simple questions."""


@cache
def table(text: str) -> list[list[str]]:
    """Split a word bank into rows of fields."""
    return [row.split("|") for row in text.replace("//", "\n").splitlines()]


def an(noun: str) -> str:
    """Put the right article before a noun."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def draw_slots(rng: random.Random) -> dict[str, Any]:
    """Draw one consistent value for every slot that the chat patterns use."""
    s: dict[str, Any] = {key: rng.choice(v.split(";")) for key, v in table(PLAIN)}
    topic, topic2 = rng.sample(table(TOPICS), 2)
    (s["topic"], s["is"]), (s["topic2"], s["is2"]) = (t[0].rsplit(" ", 1) for t in (topic, topic2))
    (s["x"], s["y"]), s["x2"] = rng.sample(topic[1].split(";"), 2), topic2[1].split(";")[0]
    s["f1"], s["f2"], s["f3"] = rng.sample(topic[2].split(";"), 3)
    s["s1"] = f"{s['topic']} {s['is']} {s['x']} {rng.choice(['and', 'and', 'but also'])} {s['y']}."
    _, s["groups"], items = rng.choice(table(GROUPS))
    s["i1"], s["i2"], s["i3"], s["i4"] = rng.sample(items.split(";"), 4)
    kind, other = rng.sample(table(GROUPS)[:3], 2)
    s["an_item"], s["a_group"] = an(rng.choice(kind[2].split(";"))), an(kind[0])
    s["a_group2"], s["gets"] = an(other[0]), rng.choice(["buys", "finds", "gets"])
    a, b, m, n = rng.randint(1, 12), rng.randint(1, 9), rng.randint(2, 9), rng.randint(2, 9)
    s |= {"a": a, "b": b, "sum": a + b, "m": m, "n": n, "mul": m * n, "day": rng.randint(1, 28)}
    s["adding"] = f"{s['name']} adds {b} to {a}. {a} + {b} = {a + b}.\nAnswer: {a + b}"
    s["losing"] = f"{s['name']} takes {b} from {a + b}. {a + b} - {b} = {a}.\nAnswer: {a}"
    s["times"] = f"{m} boxes hold {n} {s['thing']} each. {m} x {n} = {m * n}.\nAnswer: {m * n}"
    s["fact_ask"], facts = rng.choice(table(FACTS))
    s["fact"] = rng.choice(facts.split(";"))
    s["country"], s["capital"] = rng.choice(table(CAPITALS))
    s["hot"], s["cold"] = rng.choice(table(OPPOSITES))
    s["goal"], tips = rng.choice(table(ADVICE))
    s["t1"], s["t2"], s["t3"] = tips.split(";")[:3]
    s["crime"], s["instead"] = rng.choice(table(HARMFUL))
    s["what"], head, result = rng.choice(table(CODE))
    s["code"] = f"def {head}:\n    return {result}"
    s["json"] = json.dumps({"name": s["name"], "date": f"{s['day']} {s['month']}"})
    s["name2"] = rng.choice(["Tom", "Zoe", "Max", "Eva", "Lily", "Peter", "Alice", "Oscar"])
    s["an_animal"] = an(rng.choice(table(GROUPS)[2][2].split(";")))
    return s | {k[0].upper() + k[1:]: str(v)[0].upper() + str(v)[1:] for k, v in s.items()}


def compose(rng: random.Random) -> Chat:
    """Write one chat, with some noise in the wording and, at times, a system message."""
    patterns, slots, roll = PATTERNS.splitlines(), draw_slots(rng), rng.random()
    pattern = rng.choices(patterns, [3 if "{b}" in p or "{m}" in p else 1 for p in patterns])[0]
    if roll < 0.05:
        pattern = "Hello! / Hi.=>{hello} How can I help you today?=>" + pattern
    turns = [rng.choice(turn.split(" / ")).replace("~", "\n") for turn in pattern.split("=>")]
    turns = [turn.format_map(slots) for turn in turns]
    if 0.1 < roll < 0.2:
        turns[0] = turns[0].lower().rstrip(".?!")
    elif 0.2 < roll < 0.26:
        turns[0] = rng.choice(["Please help me. ", "Hi! ", "I have a question. "]) + turns[0]
    elif 0.26 < roll < 0.32 and "Answer:" not in turns[-1]:
        turns[-1] += rng.choice([" I hope this helps!", " Let me know if you need more."])
    elif 0.32 < roll < 0.38 and "sorry" not in turns[-1] and turns[-1][0].isalpha():
        turns[-1] = rng.choice(["Sure! ", "Of course. ", "Certainly! "]) + turns[-1]
    chat = [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(turns)]
    if 0.4 < roll < 0.55:
        system = rng.choice(["You are a helpful assistant.", "Answer briefly.", "Be polite and honest."])
        chat.insert(0, {"role": "system", "content": system})
    return chat


def candidate_chats(path: Path) -> Iterator[Chat]:
    """Read the chats of a candidates file: each prompt with each of its responses."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        row = json.loads(line)
        prompt = row["prompt"]
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        for response in row["responses"]:
            yield [*turns, {"role": "assistant", "content": response["text"]}]


def train_tokenizer(texts: list[str], vocab_size: int) -> Any:
    """Train a byte-level BPE tokenizer that splits numbers into digits."""
    bpe = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    bpe.decoder = decoders.ByteLevel()
    options: dict[str, Any] = {"special_tokens": SPECIAL, "initial_alphabet": byte_level.alphabet()}
    bpe.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab_size, **options))
    tokens = {"pad_token": SPECIAL[0], "bos_token": SPECIAL[1], "eos_token": SPECIAL[2]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, model_max_length=1024, **tokens)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def train(model: Any, chats: list[list[int]], steps: int, seed: int) -> None:
    """Train on rows of packed chats; the last tenth of the steps uses the full context length."""
    rng, start, losses = random.Random(seed), time.time(), list[float]()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3, betas=(0.9, 0.98), weight_decay=0.05)
    for step in range(1, steps + 1):
        rows, length = (8, 256) if step <= 0.9 * steps else (2, 1024)
        packed = [list(chain(*rng.choices(chats, k=length // 10)))[:length] for _ in range(rows)]
        rate = 4e-3 * min(step / 100, 0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)
        optimizer.param_groups[0]["lr"] = rate
        ids = torch.tensor(packed)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 100 == 0:
            mean, seconds = sum(losses[-100:]) / 100, time.time() - start
            print(f"step {step}  loss {mean:.3f}  {seconds:.0f}s", flush=True)


def main() -> None:
    """Compose the chats, train, save the folder and print three samples."""
    parser = argparse.ArgumentParser(description="Train sample_data/tiny-lm from scratch.")
    parser.add_argument("--out", type=Path, default=HERE / "tiny-lm")
    parser.add_argument("--steps", type=int, default=1600)
    args = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    rng = random.Random(SEED)
    extra = list(candidate_chats(HERE / "candidates.jsonl"))
    chats = [compose(rng) for _ in range(40_000)] + extra * min(20, 6000 // max(1, len(extra)))
    tokenizer = train_tokenizer([m["content"] for chat in chats for m in chat], vocab_size=2560)
    encoded = [tokenizer.apply_chat_template(c, return_dict=False) for c in chats]
    ids: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    size: dict[str, Any] = {"hidden_size": 160, "intermediate_size": 400, "num_hidden_layers": 4}
    size |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024}
    config = LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **size, **ids)
    model: Any = LlamaForCausalLM(config)
    print(f"{len(chats)} chats, {model.num_parameters()} parameters, {len(tokenizer)} tokens")
    train(model, encoded, args.steps, SEED)
    model.eval()
    for ask in ["What is 7 plus 5?", "Write two sentences about the sea.", "List three fruits."]:
        chat = [{"role": "user", "content": ask}]
        inp = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
        out = model.generate(**inp, max_new_tokens=80, do_sample=True, temperature=0.9)
        print(f"> {ask}\n{tokenizer.decode(out[0, inp['input_ids'].shape[1] :])}")
    model.generation_config = GenerationConfig(**ids)
    model.half().save_pretrained(args.out)  # float16 on disk ...
    model.config.dtype = "float32"  # ... but loaded as float32, which CPU training needs
    model.config.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)


if __name__ == "__main__":
    main()
