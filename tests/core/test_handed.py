"""What stands left of the star: models under any name, one or several or left out, files of the user's, and the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prefdata.core import catalogue
from prefdata.core.errors import PrefdataError, Stopped
from prefdata.core.method import Wanted
from prefdata.core.store import Store
from tests.core.plugin_tools import Plug, mock, plug, respond, run, store

__all__ = ["plug", "store"]
TWO = """
@method(version=1, subject="response")
async def two(response: Response, critic: Ask, helper: "Ask | None" = None, seed: int = 0, *, word: str = "x") -> Score:
    '''Asks the critic, and the helper where there is one.'''
    said = await critic(response.prompt.messages)
    more = await helper(response.prompt.messages) if helper else None
    return Score(float(said.text), {"helper": more.text if more else None, "seed": seed})
"""
JURY = """
@method(version=1, subject="response")
async def jury(response: Response, asks: Mapping[str, Ask]) -> list[Score]:
    '''Every juror's score.'''
    return [Score(float((await ask(response.prompt.messages)).text), annotator=name) for name, ask in asks.items()]
"""
FILED = """
@method(version=1, subject="response")
def filed(response: Response, *, template: Path | None = None, more: tuple[Path, ...] = ()) -> Score:
    '''Reads files.'''
    return Score(float(len(template.read_text())) if template else 0.0)
"""


def score_rows(store: Store) -> list[tuple[Any, ...]]:
    return store.rows("SELECT annotator_id, annotator_kind, score FROM live_annotations ORDER BY 1, 3")


def test_the_catalogue_reads_the_types(plug: Plug) -> None:
    plug(
        "judges",
        "many",
        """
        import prefdata.core.protocols as protocols

        @method(version=1, subject="pair")
        async def many(
            pair: Pair, critic: Ask, weak: protocols.Policy, jury: Mapping[str, Ask], spare: Optional[Ask],
            boxes: "dict[str, Sandbox] | None",
            reward: Reward | None, seed: int, ask, last: Embed = None, *, n: int = 1,
        ) -> Verdict:
            '''Everything that can be handed in.'''
        """,
    )
    method = catalogue.find("judges", "many")
    assert method.models == {
        "critic": Wanted("critic", "ask"),
        "weak": Wanted("weak", "policy"),
        "jury": Wanted("jury", "ask", several=True),
        "spare": Wanted("spare", "ask", optional=True),
        "boxes": Wanted("boxes", "sandbox", several=True, optional=True),
        "reward": Wanted("reward", "reward", optional=True),
        "ask": Wanted("ask", "ask"),
        "last": Wanted("last", "embed", optional=True),
    }
    assert method.handed[0] == "pair"
    assert "seed" in method.handed


def test_models_under_any_name(plug: Plug, store: Store) -> None:
    plug("judges", "two", TWO)
    respond(store, {"p": ["x", "y"]})
    models = {"one": mock({"text": "3", "tokens_in": 10, "tokens_out": 0}, price={"input": 100_000, "output": 0}), "other": mock("hi")}
    (alone,) = run(store, {"judge": {"two": {"critic": "one"}}}, models=models, seed=7)
    (both,) = run(store, {"judge": {"two": {"critic": "one", "helper": "other"}}}, models=models, seed=7)
    assert (alone.done, both.done) == (2, 2)
    assert alone.key != both.key
    assert store.rows("SELECT annotator_id, scores FROM annotations ORDER BY 1") == [
        ("two:one", '{"helper":null,"seed":7}'),
        ("two:one", '{"helper":null,"seed":7}'),
        ("two:one:other", '{"helper":"hi","seed":7}'),
        ("two:one:other", '{"helper":"hi","seed":7}'),
    ]
    assert alone.cost == pytest.approx(1.0), "one paid call, booked to one of two equal rows"
    assert sorted(cost for (cost,) in store.rows("SELECT cost FROM outcomes WHERE key = ?", [alone.key])) == pytest.approx([0.0, 1.0])


def test_a_key_hangs_on_what_the_models_are(plug: Plug, store: Store) -> None:
    plug("judges", "two", TWO)
    respond(store, {"p": ["x"]})
    step = {"judge": {"two": {"critic": "one"}}}
    (first,) = run(store, step, models={"one": mock("3")})
    (same,) = run(store, step, models={"one": mock("3"), "unused": mock("4")})
    (other,) = run(store, step, models={"one": mock("4")})
    assert same.key == first.key
    assert same.had == 1
    assert other.key != first.key


def test_several_models_keep_their_votes_apart(plug: Plug, store: Store) -> None:
    plug("judges", "jury", JURY)
    respond(store, {"p": ["x"]})
    models = {"low": mock("1"), "high": mock("9"), "mid": mock("5")}
    keys = {}
    for asks in (["low", "high"], ["high", "low"], ["low", "high", "mid"], "mid"):
        (step,) = run(store, {"judge": {"jury": {"asks": asks}}}, models=models)
        keys[str(asks)] = step.key
        assert step.done == 1
    assert len(set(keys.values())) == 4
    assert score_rows(store) == [("jury:high", "llm", 9.0)] * 3 + [("jury:low", "llm", 1.0)] * 3 + [("jury:mid", "llm", 5.0)] * 2
    assert store.rows("SELECT id, kind, name FROM annotators ORDER BY 1") == [
        ("jury:high", "llm", "jury"), ("jury:low", "llm", "jury"), ("jury:mid", "llm", "jury"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, r"needs  critic: NAME .*\(low, high\)"),
        ({"critic": "lwo"}, "unknown model 'lwo'. Did you mean 'low'"),
        ({"critic": ["low", "high"]}, r"allowed: the name of one model: NAME"),
        ({"critic": 3}, "allowed: the name of one model"),
        ({"critic": "low", "helper": "hihg"}, "Did you mean 'high'"),
        ({"critic": "low", "word": 3}, "word"),
    ],
)
def test_bad_models_are_refused_before_anything_is_asked(plug: Plug, store: Store, given: dict[str, Any], words: str) -> None:
    plug("judges", "two", TWO)
    respond(store, {"p": ["x"]})
    with pytest.raises(PrefdataError, match=words):
        run(store, {"judge": {"two": given}}, models={"low": mock("1"), "high": mock("9")})
    assert store.value("SELECT count(*) FROM runs") == 0


@pytest.mark.parametrize(
    ("asks", "words"),
    [(None, r"needs  asks: \[NAME, NAME\]"), ([], "one or several"), (["low", "low"], "two names"), (["low", 1], "one or several")],
)
def test_bad_lists_of_models(plug: Plug, store: Store, asks: Any, words: str) -> None:
    plug("judges", "jury", JURY)
    respond(store, {"p": ["x"]})
    with pytest.raises(PrefdataError, match=words):
        run(store, {"judge": {"jury": {"asks": asks}}}, models={"low": mock("1")})


def test_a_recipe_without_models_says_so(plug: Plug, store: Store) -> None:
    plug("judges", "two", TWO)
    with pytest.raises(PrefdataError, match=r"unknown model 'gpt' of the step judge two\. Known: none"):
        run(store, {"judge": {"two": {"critic": "gpt"}}})


SCORER = """
@method(version=1, subject="response")
async def scorer(response: Response, strong: Policy, judge: Reward, *, policies: int = 1) -> Score:
    '''Reward minus log-probability per token.'''
    (logps,) = await strong.logps(response.prompt.messages, [response.text])
    (reward,) = await judge.scores(response.prompt.messages, [response.text])
    return Score(reward - logps.total / logps.tokens)
"""


def test_other_models_than_those_that_are_asked(plug: Plug, store: Store) -> None:
    """2 - (-1 - 3)/2 = 4."""
    plug("judges", "scorer", SCORER)
    respond(store, {"p": ["x"]})
    models = {"lm": {"kind": "mock", "logps": [-1, -3]}, "rm": {"kind": "mock", "rewards": 2}}
    step = {"judge": {"scorer": {"strong": "lm", "judge": "rm"}}}
    (done,) = run(store, step, models=models)
    assert (done.done, done.calls) == (1, None)
    assert score_rows(store) == [("scorer:rm:lm", "reward_model", 4.0)]
    (planned,) = run(store, step, models={**models, "rm": {"kind": "mock", "rewards": 3}}, plan=True)
    assert (planned.missing, planned.calls) == (1, None), "another script is another model, and no calls are paid"


def test_a_model_that_cannot_do_it_is_refused(plug: Plug, store: Store) -> None:
    plug("judges", "scorer", SCORER)
    models = {"lm": {"kind": "openai", "model": "x", "base_url": "http://localhost:1/v1"}, "rm": {"kind": "mock", "rewards": 2}}
    with pytest.raises(PrefdataError, match="cannot be used as 'policy'"):
        run(store, {"judge": {"scorer": {"strong": "lm", "judge": "rm"}}}, models=models)


def test_an_unknown_type_left_of_the_star_is_refused(plug: Plug, store: Store) -> None:
    path = plug(
        "judges",
        "odd",
        """
        @method(version=1, subject="response")
        def odd(response: Response, oracle: int) -> Score:
            '''Wants what nobody has.'''
        """,
    )
    with pytest.raises(PrefdataError, match=r"'oracle' stands left of the star") as caught:
        run(store, {"judge": "odd"})
    assert str(path) in str(caught.value)


def test_a_file_counts_by_its_text(plug: Plug, store: Store, tmp_path: Path) -> None:
    plug("judges", "filed", FILED)
    respond(store, {"p": ["x"]})
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("ab")
    two.write_text("ab")
    (first,) = run(store, {"judge": {"filed": {"template": str(one)}}})
    (same,) = run(store, {"judge": {"filed": {"template": str(two)}}})
    assert same.key == first.key
    assert same.had == 1
    two.write_text("abc")
    (changed,) = run(store, {"judge": {"filed": {"template": str(two)}}})
    (listed,) = run(store, {"judge": {"filed": {"template": str(two), "more": [str(one)]}}})
    one.write_text("other")
    (again,) = run(store, {"judge": {"filed": {"template": str(two), "more": [str(one)]}}})
    assert len({first.key, changed.key, listed.key, again.key}) == 4
    assert [row[2] for row in score_rows(store)] == [2.0, 3.0, 3.0, 3.0]


def test_a_file_is_looked_for_beside_the_recipe(plug: Plug, store: Store, tmp_path: Path) -> None:
    import prefdata

    plug("judges", "filed", FILED)
    respond(store, {"p": ["x"]})
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "own.txt").write_text("abcd")
    recipe = tmp_path / "recipes" / "r.yaml"
    recipe.write_text("steps:\n  - judge: {filed: {template: own.txt}}\n")
    assert prefdata.run(recipe, store).steps[0].done == 1
    assert score_rows(store)[0][2] == 4.0
    recipe.write_text("steps:\n  - judge: {filed: {template: won.txt}}\n")
    with pytest.raises(PrefdataError, match=r"filed: template is 'won.txt'; allowed: the path of a file that is there"):
        prefdata.run(recipe, store)


def test_prompt_files_are_part_of_the_key(plug: Plug, store: Store) -> None:
    path = plug(
        "judges",
        "texts",
        """
        @method(version=1, subject="response", prompt_file=("prompts/a.txt", "prompts/b.txt"))
        def texts(response: Response) -> Score:
            '''Has two prompt files.'''
            return Score(1.0)
        """,
    )
    respond(store, {"p": ["x"]})
    with pytest.raises(PrefdataError, match=r"no prompt file '.*a\.txt'"):
        run(store, {"judge": "texts"})
    folder = path.parent / "prompts"
    folder.mkdir()
    (folder / "a.txt").write_text("one")
    (folder / "b.txt").write_text("two")
    keys = {run(store, {"judge": "texts"})[0].key}
    (folder / "b.txt").write_text("TWO")
    keys.add(run(store, {"judge": "texts"})[0].key)
    (folder / "a.txt").write_text("oneT")
    (folder / "b.txt").write_text("WO")
    keys.add(run(store, {"judge": "texts"})[0].key)
    assert len(keys) == 3


def test_an_unreadable_reply_fails_its_row_and_is_paid_for(plug: Plug, store: Store) -> None:
    plug(
        "judges",
        "reads",
        """
        from prefdata.core.verdicts import number

        @method(version=1, subject="response")
        async def reads(response: Response, ask: Ask) -> Score:
            '''Reads a number.'''
            return Score(number((await ask(response.prompt.messages)).text, 1, 5))
        """,
    )
    respond(store, {"p": ["x"]})
    models = {"m": mock({"text": "I'd rather not.", "tokens_in": 10, "tokens_out": 0}, price={"input": 100_000, "output": 0})}
    (step,) = run(store, {"judge": {"reads": {"ask": "m"}}}, models=models)
    assert (step.failed, step.cost) == (1, pytest.approx(1.0))
    note, cost = store.rows("SELECT note, cost FROM outcomes")[0]
    assert note == 'the reply holds no score from 1 to 5: "I\'d rather not."'
    assert cost == pytest.approx(1.0)


def test_what_a_task_group_raises_is_the_rows_failure_and_a_stop_stops_the_run(plug: Plug, store: Store) -> None:
    plug(
        "judges",
        "grouped",
        """
        @method(version=1, subject="response")
        async def grouped(response: Response, ask: Ask) -> Score:
            '''Asks twice at the same time.'''
            async with asyncio.TaskGroup() as group:
                for number in range(2):
                    group.create_task(ask(response.prompt.messages, sample=number))
            return Score(1.0)
        """,
    )
    respond(store, {"p": ["x", "y", "z"]})
    (step,) = run(store, {"judge": {"grouped": {"ask": "m"}}}, models={"m": mock({"fail": "out of order"})})
    assert step.failed == 3
    assert {note for (note,) in store.rows("SELECT note FROM outcomes")} == {"out of order"}
    paid = mock({"text": "1", "tokens_in": 10, "tokens_out": 0}, price={"input": 100_000, "output": 0})
    with pytest.raises(Stopped):
        run(store, {"judge": {"grouped": {"ask": "m"}}}, models={"m": paid}, budget=0.5)
    assert store.value("SELECT count(*) FROM outcomes") == 3
    assert store.value("SELECT state FROM runs ORDER BY started DESC LIMIT 1") == "stopped"


def test_the_command_line_names_the_models(plug: Plug) -> None:
    from prefdata.cli.methods import as_dict, as_markdown, recipe_line

    plug("judges", "two", TWO)
    plug("judges", "jury", JURY)
    two, jury = catalogue.find("judges", "two"), catalogue.find("judges", "jury")
    assert recipe_line(two) == "- judge: {two: {critic: MODEL}}"
    assert recipe_line(jury) == "- judge: {jury: {asks: [MODEL, MODEL]}}"
    assert as_dict(two)["models"][1] == {"name": "helper", "use": "ask", "several": False, "optional": True}
    text = as_markdown()
    assert "Models: critic, helper (may be left out)" in text
    assert "Models: asks (several)" in text
