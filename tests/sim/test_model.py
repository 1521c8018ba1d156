"""The pieces of the simulated model: profiles, tokenizer, steering, output."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairqueue_sim import FinishReason, UnknownProfileError, load_profile, profile_names
from fairqueue_sim.model_output import EOS_TOKEN, ModelOutput, output_end
from fairqueue_sim.steering import UNSTEERED, Steering, parse_steering
from fairqueue_sim.tokenizer import count_tokens, tokenize


def output(steering: Steering = UNSTEERED, *, seed: int = 1, mean: float = 0, style: str = "random") -> ModelOutput:
    return ModelOutput.draw(steering, "numbered" if style == "numbered" else "random", Random(seed), mean)


def test_the_measured_profile_has_the_published_numbers() -> None:
    profile = load_profile("a10g-llama2-7b")
    assert profile.kv_tokens == 10_000
    # The cost profile's own values: 37.2 ms at 19 sequences, 46.7 ms at 78; the fit is within a tenth.
    for sequences, resident, milliseconds in ((19, 7300, 37.2), (78, 7500, 46.7)):
        step = profile.step_seconds(sequences, resident, 0) - profile.overhead_seconds
        assert step * 1000 == pytest.approx(milliseconds, rel=0.1)


def test_an_unknown_profile_is_answered_with_those_that_exist() -> None:
    assert profile_names() == sorted(profile_names())
    assert {"a10g-llama2-7b", "a100-llama2-13b", "tiny"} <= set(profile_names())
    with pytest.raises(UnknownProfileError, match=", ".join(profile_names())):
        load_profile("a100")


PROFILE = """
kv_tokens = 5000
prefill_budget_tokens = 2048
max_total_tokens = 4096
decode_base_seconds = 0.01
decode_per_sequence_seconds = 0
decode_per_kv_token_seconds = 0
prefill_per_token_seconds = 0.0001
overhead_seconds = 0.001
mean_output_tokens = 100
rules = "vllm"
"""


def test_a_profile_of_ones_own_is_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(PROFILE)
    profile = load_profile(str(path))
    assert (profile.name, profile.kv_tokens, profile.rules) == ("mine", 5000, "vllm")
    assert profile.step_seconds(2, 100, 10) == pytest.approx(0.012)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("kv_tokens = 5000", ""), r"missing required field `kv_tokens`: the fields are name, description, kv_tokens"),
        (("kv_tokens = 5000", "kv_tokens = 'many'"), r"Expected `int`, got `str` - at `\$.kv_tokens`"),
        (("kv_tokens = 5000", "kv_tokens = 5"), "kv_tokens 5: must be 64 or more"),
        (("decode_base_seconds = 0.01", "decode_base_seconds = 0"), "decode_base_seconds 0: must be 1e-06 or more"),
        (("decode_base_seconds = 0.01", "decode_base_seconds = nan"), "decode_base_seconds nan: must be 1e-06 or more"),
        (('"vllm"', '"ollama"'), "Invalid enum value 'ollama'"),
        (("overhead", "over-head"), "missing required field `overhead_seconds`"),
        (('rules = "vllm"', "speed = 3"), "has no field speed: there are name, description"),
        (("kv_tokens = 5000", "kv_tokens"), "is no TOML"),
    ],
)
def test_what_is_wrong_with_a_profile_is_said_in_a_line(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(PROFILE.replace(*change))
    with pytest.raises(UnknownProfileError, match=said) as caught:
        load_profile(str(path))
    assert "\n" not in str(caught.value)


def test_a_profile_that_is_not_there_is_named() -> None:
    with pytest.raises(UnknownProfileError, match="can't be read: No such file"):
        load_profile("gone.toml")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("hello", 1), (" hello" * 60, 60), ("What is deep learning?", 5), ("[[eos=4]]", 7), ("a  b", 3)],
    ids=str,
)
def test_tokens_are_short_words_and_single_signs(text: str, tokens: int) -> None:
    assert count_tokens(text) == tokens


@given(st.text(max_size=200))
def test_tokens_cover_the_text_without_gaps(text: str) -> None:
    tokens = tokenize(text)
    assert len(tokens) == count_tokens(text)
    assert "".join(token.text for token in tokens) == text
    assert [token.start for token in tokens] == [0, *(token.stop for token in tokens)][: len(tokens)]
    assert all(3 <= token.id < 1000 for token in tokens)


def test_all_marks_are_read() -> None:
    marks = (
        "[[eos=4]][[fail=3]][[die=2]][[slow=100]][[prefill=500]][[spec=3]][[word=hi]][[utf8=1]][[merge=4]][[empty=1]]"
    )
    assert parse_steering(f"a {marks} [[nan=1]] b") == Steering(
        eos=4,
        fail=3,
        die=2,
        step_seconds=0.1,
        prefill_seconds=0.5,
        tokens_per_step=3,
        word="hi",
        utf8=True,
        nan=True,
        merge=4,
        empty=True,
    )


@pytest.mark.parametrize("text", ["plain", "[[eos=x]]", "[[eos=0]]", "[[eos=]]", "[[other=1]]", "[eos=1]", "[[eos=1"])
def test_what_is_no_mark_is_text(text: str) -> None:
    assert parse_steering(text) == UNSTEERED


def test_the_same_draw_gives_the_same_output() -> None:
    assert output(seed=3).text(50) == output(seed=3).text(50) != output(seed=4).text(50)


def test_random_outputs_contain_what_is_hard_to_parse() -> None:
    text = "".join(output(seed=seed).text(400) for seed in range(3))
    assert all(odd in text for odd in ('"', "\\", "\n", "\u65e5\u672c", "\U0001f600", "data:"))


@given(st.integers(1, 10_000), st.integers(1, 3000))
def test_the_json_of_a_token_is_its_text(seed: int, number: int) -> None:
    token = output(seed=seed).token(number)
    assert json.loads(token.json) == token.text


def test_lengths_are_drawn_around_the_mean() -> None:
    lengths = [output(seed=seed, mean=100).eos_at or 0 for seed in range(2000)]
    assert sum(lengths) / len(lengths) == pytest.approx(100, rel=0.1)
    assert min(lengths) >= 1
    assert output(mean=0).eos_at is None


def test_a_mark_sets_the_length_whatever_the_mean() -> None:
    chosen = output(Steering(eos=7), mean=100)
    assert chosen.eos_at == 7
    assert chosen.token(7) is EOS_TOKEN
    assert chosen.text(7) == chosen.text(6)


def test_bytes_of_a_character_are_held_back_until_its_last() -> None:
    chosen = output(Steering(utf8=True))
    assert [chosen.token(number).text for number in (2, 3, 4)] == ["h", "", "\u00e9"]
    assert chosen.text(24) == " h\u00e9llo \u65e5\u672c \U0001f600 end"


@pytest.mark.parametrize(
    ("stop", "eos", "expected"),
    [
        (["word3"], None, (3, FinishReason.STOP)),
        (["2 word3"], None, (3, FinishReason.STOP)),
        (["word9", "word2"], None, (2, FinishReason.STOP)),
        (["word9"], 4, (4, FinishReason.EOS)),
        (["never"], None, (None, FinishReason.EOS)),
    ],
)
def test_the_first_stop_sequence_ends_an_output(
    stop: list[str], eos: int | None, expected: tuple[int | None, FinishReason]
) -> None:
    chosen = replace(output(style="numbered"), eos_at=eos)
    assert output_end(chosen, stop, 20) == expected
