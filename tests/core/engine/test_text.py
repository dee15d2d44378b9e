"""Prompts through a CLIP text encoder, against diffusers' pipeline, the network's own layers, and formulas written out here."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import sfumato_resources
from sfumato.engine.prompts import ChunkBreak, Embedding, Text, parse
from sfumato.engine.text.clip import ClipTextEncoder, clip_internals, encode
from sfumato.engine.text.tokens import CHUNK_LIMIT, chunks, token_count
from sfumato.engine.text.weights import mean_restored, towards_empty
from sfumato.errors import BadValueError, ModelFileError, ModelMissingError

PLAIN = "a red circle on a blue background"
LONG = " ".join(["a red circle on a blue background"] * 15)  # 105 tokens
WIDTH = 128


def load_model() -> Any:
    return CLIPTextModel.from_pretrained(sfumato_resources.embedded_model() / "text_encoder", local_files_only=True, dtype=torch.float32)


def load_tokenizer() -> Any:
    return CLIPTokenizer.from_pretrained(sfumato_resources.embedded_model() / "tokenizer", local_files_only=True)


def pipeline(model: Any, tokenizer: Any) -> Any:
    """diffusers' pipeline with its text side only."""
    parts = dict.fromkeys(("vae", "unet", "scheduler", "safety_checker", "feature_extractor"))
    return StableDiffusionPipeline(text_encoder=model, tokenizer=tokenizer, requires_safety_checker=False, **parts)


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer()


@pytest.fixture
def batches(model: Any) -> Iterator[list[int]]:
    """The sizes of the batches that the network was given."""
    sizes: list[int] = []
    handle = model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    yield sizes
    handle.remove()


def context(model: Any, tokenizer: Any, text: str, **options: Any) -> torch.Tensor:
    """The tensor of a prompt without a schedule."""
    ((tensor, found),) = encode(model, tokenizer, parse(text), **options)
    assert set(found) == {"pooled_output"}
    assert isinstance(tensor, torch.Tensor)
    return tensor


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """The ids of the words alone."""
    found: list[int] = tokenizer(text)["input_ids"]
    return found[1:-1]


def by_hand(model: Any, tokenizer: Any, words: list[int]) -> torch.Tensor:
    """One chunk through the network: start, words, end, end ..., [1,77,D]."""
    ids = [tokenizer.bos_token_id, *words] + [tokenizer.eos_token_id] * (76 - len(words))
    with torch.no_grad():
        hidden = model(torch.tensor([ids])).last_hidden_state
    assert isinstance(hidden, torch.Tensor)
    return hidden


@pytest.mark.parametrize("text", ["", PLAIN, "A  Red\ncircle, très joli: 日本 🎨!", "a " * 75, "a: b; c, (d", "<|endoftext|> a"])
def test_unweighted_text_is_what_the_pipeline_of_diffusers_gives_to_the_bit(model: Any, tokenizer: Any, text: str) -> None:
    with torch.no_grad():
        expected, _ = pipeline(model, tokenizer).encode_prompt(text, "cpu", 1, False)
    assert torch.equal(context(model, tokenizer, text), expected)
    assert torch.equal(context(model, tokenizer, text, weighting="a1111"), expected)


def test_pooled_output_is_the_network_s_own_for_the_first_chunk_whatever_the_weights(model: Any, tokenizer: Any) -> None:
    with torch.no_grad():
        expected = model(torch.tensor([tokenizer(PLAIN, padding="max_length")["input_ids"]])).pooler_output
    for text in (PLAIN, "a (red circle on:1.4) a blue background", f"{PLAIN} BREAK sea"):
        ((_, options),) = encode(model, tokenizer, parse(text), skip=2)
        torch.testing.assert_close(options["pooled_output"], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("skip", [2, 3])
def test_clip_skip_is_an_earlier_layer_s_output_through_the_final_norm(model: Any, tokenizer: Any, skip: int) -> None:
    seen: list[torch.Tensor] = []

    def note(module: Any, args: Any, output: Any) -> None:
        seen.append(output if isinstance(output, torch.Tensor) else output[0])

    handles = [layer.register_forward_hook(note) for layer in model.encoder.layers]
    by_hand(model, tokenizer, ids_of(tokenizer, PLAIN))
    for handle in handles:
        handle.remove()
    earlier, norm = seen[-skip], model.final_layer_norm
    centred = earlier - earlier.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(context(model, tokenizer, PLAIN, skip=skip), normed.detach(), rtol=0, atol=2e-5)
    assert torch.equal(context(model, tokenizer, PLAIN, skip=skip, final_norm=False), earlier)


def test_clip_skip_0_and_1_are_the_last_layer(model: Any, tokenizer: Any) -> None:
    assert torch.equal(context(model, tokenizer, PLAIN, skip=0), context(model, tokenizer, PLAIN, skip=1))


@pytest.mark.parametrize("skip", [-1, 4])
def test_a_clip_skip_past_the_layers_says_how_many_there_are(model: Any, tokenizer: Any, skip: int) -> None:
    with pytest.raises(BadValueError, match="has 3 layers"):
        context(model, tokenizer, PLAIN, skip=skip)


def test_a_long_prompt_is_its_chunks_of_75_words_encoded_apart_and_put_in_a_row(model: Any, tokenizer: Any) -> None:
    ids = ids_of(tokenizer, LONG)
    expected = torch.cat([by_hand(model, tokenizer, ids[:75]), by_hand(model, tokenizer, ids[75:])], dim=1)
    assert len(ids) == 105
    torch.testing.assert_close(context(model, tokenizer, LONG), expected, rtol=0, atol=1e-5)


def test_break_ends_a_chunk(model: Any, tokenizer: Any) -> None:
    expected = torch.cat([by_hand(model, tokenizer, ids_of(tokenizer, words)) for words in ("a red sky", "a blue sea")], dim=1)
    torch.testing.assert_close(context(model, tokenizer, "a red sky BREAK a blue sea"), expected, rtol=0, atol=1e-5)


def test_breaks_in_a_row_or_at_the_ends_make_no_empty_chunks(model: Any, tokenizer: Any) -> None:
    assert context(model, tokenizer, "BREAK a sky BREAK BREAK a sea BREAK").shape == (1, 2 * 77, WIDTH)
    assert context(model, tokenizer, "BREAK").shape == (1, 77, WIDTH)


def test_a_weight_moves_a_word_along_the_line_from_the_empty_prompt(model: Any, tokenizer: Any) -> None:
    plain, empty = by_hand(model, tokenizer, ids_of(tokenizer, PLAIN)), by_hand(model, tokenizer, [])
    expected = plain.clone()
    for position, weight in ((2, 1.5), (3, 1.5), (6, 1 / 1.1)):  # red, circle, blue
        expected[0, position] = empty[0, position] + weight * (plain[0, position] - empty[0, position])
    found = context(model, tokenizer, "a (red circle:1.5) on a [blue] background")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    unweighted = [at for at in range(77) if at not in (2, 3, 6)]
    torch.testing.assert_close(found[0, unweighted], plain[0, unweighted], rtol=0, atol=1e-5)


def test_a_weight_of_one_leaves_the_very_bits() -> None:
    encoded, empty = torch.randn(2, 77, 8), torch.randn(77, 8)
    weights = torch.ones(2, 77)
    weights[0, 5] = 1.1
    found = towards_empty(encoded, weights, empty)
    same = (found == encoded).all(-1)
    assert same.sum() == 2 * 77 - 1
    assert not same[0, 5]


def test_weight_zero_is_the_empty_prompt_at_that_place(model: Any, tokenizer: Any) -> None:
    found = context(model, tokenizer, "a (red:0) circle")
    torch.testing.assert_close(found[0, 2], by_hand(model, tokenizer, [])[0, 2], rtol=0, atol=1e-5)


def test_the_other_weighting_multiplies_and_restores_the_mean_of_a_chunk(model: Any, tokenizer: Any) -> None:
    plain = by_hand(model, tokenizer, ids_of(tokenizer, PLAIN))
    weighted = plain.clone()
    weighted[0, 2] *= 1.3
    found = context(model, tokenizer, "a (red:1.3) circle on a blue background", weighting="a1111")
    torch.testing.assert_close(found, weighted * (plain.mean() / weighted.mean()), rtol=1e-4, atol=1e-4)
    assert found.mean().item() == pytest.approx(plain.mean().item(), rel=1e-3)


def test_a_chunk_whose_mean_becomes_nothing_is_not_scaled() -> None:
    encoded = torch.tensor([[[1.0], [1.0]]])
    assert torch.equal(mean_restored(encoded, torch.tensor([[1.0, -1.0]])), torch.tensor([[[1.0], [-1.0]]]))


def test_a_schedule_gives_an_entry_a_stage_with_its_part_of_the_sampling(model: Any, tokenizer: Any) -> None:
    first, second = encode(model, tokenizer, parse("a [red:green:0.25] circle"))
    assert (first[1]["start_percent"], first[1]["end_percent"]) == (0.0, 0.25)
    assert (second[1]["start_percent"], second[1]["end_percent"]) == (0.25, 1.0)
    for (found, _), text in ((first, "a red circle"), (second, "a green circle")):
        torch.testing.assert_close(found, by_hand(model, tokenizer, ids_of(tokenizer, text)), rtol=0, atol=1e-5)


def test_chunks_go_through_the_network_together_and_equal_ones_once(model: Any, tokenizer: Any, batches: list[int]) -> None:
    context(model, tokenizer, "a red circle BREAK a sea BREAK a (red:1.2) circle")
    assert batches == [3]  # circle, sea, and the empty prompt for the weight
    encode(model, tokenizer, parse("[a:b:0.5] BREAK a sea"))
    assert batches == [3, 3]
    context(model, tokenizer, PLAIN)
    assert batches == [3, 3, 1]


def test_a_half_precision_encoder_gives_its_own_numbers_as_float32(tokenizer: Any) -> None:
    half = load_model().to(torch.bfloat16)
    found = context(half, tokenizer, PLAIN)
    assert found.dtype == torch.float32
    assert torch.equal(found, by_hand(half, tokenizer, ids_of(tokenizer, PLAIN)).float())


def test_both_layouts_of_the_text_model_are_known(tokenizer: Any) -> None:
    config = CLIPTextConfig(vocab_size=871, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                            projection_dim=16, bos_token_id=869, eos_token_id=870, pad_token_id=870)  # fmt: skip
    nested = CLIPTextModelWithProjection(config).eval()
    assert clip_internals(nested) == clip_internals(nested.text_model)
    ((tensor, options),) = encode(nested, tokenizer, parse(PLAIN))
    assert (tuple(tensor.shape), tuple(options["pooled_output"].shape)) == ((1, 77, 32), (1, 16))


# Textual inversion


def vectors(rows: int, width: int = WIDTH) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(rows)) * 0.1


@pytest.mark.parametrize("rows", [1, 3])
def test_an_embedding_is_what_diffusers_makes_of_it_by_a_longer_tokenizer_and_matrix(model: Any, tokenizer: Any, rows: int) -> None:
    edited = pipeline(load_model(), load_tokenizer())
    edited.load_textual_inversion({"<style>": vectors(rows) if rows > 1 else vectors(1)[0]})
    with torch.no_grad():
        expected, _ = edited.encode_prompt("a red circle, <style>, on blue", "cpu", 1, False)
    found = context(model, tokenizer, "a red circle, embedding:style, on blue", embedding=lambda name: vectors(rows))
    assert torch.equal(found, expected)


def test_an_embedding_changes_neither_tokenizer_nor_network(model: Any, tokenizer: Any) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    context(model, tokenizer, "a embedding:style", embedding=lambda name: vectors(2))
    with pytest.raises(RuntimeError, match="expanded size"):
        context(model, tokenizer, "a embedding:style", embedding=lambda name: Shrinking(vectors(2)))
    assert len(tokenizer) == 871
    assert not clip_internals(model).token_embedding._forward_hooks
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Shrinking:
    """Vectors that fail while the network runs."""

    def __init__(self, honest: torch.Tensor) -> None:
        self.ndim, self.shape = honest.ndim, honest.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.zeros(3)


def test_an_embedding_has_a_weight_like_a_word(model: Any, tokenizer: Any) -> None:
    plain = context(model, tokenizer, "a embedding:style", embedding=lambda name: vectors(2))
    empty = by_hand(model, tokenizer, [])
    expected = plain.clone()
    expected[0, 2:4] = empty[0, 2:4] + 0.5 * (plain[0, 2:4] - empty[0, 2:4])
    found = context(model, tokenizer, "a (embedding:style:0.5)", embedding=lambda name: vectors(2))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_another_thread_that_encodes_meanwhile_sees_nothing_of_an_embedding(model: Any, tokenizer: Any) -> None:
    plain = context(model, tokenizer, PLAIN)
    found: list[torch.Tensor] = []

    def meanwhile(module: Any, args: Any) -> None:
        if threading.current_thread() is threading.main_thread() and not found:
            other = threading.Thread(target=lambda: found.append(context(model, tokenizer, PLAIN)))
            other.start()
            other.join()

    handle = clip_internals(model).layers[0].register_forward_pre_hook(meanwhile)
    context(model, tokenizer, "embedding:style", embedding=lambda name: vectors(3))
    handle.remove()
    assert torch.equal(found[0], plain)


def test_a_missing_embedding_is_named(model: Any, tokenizer: Any) -> None:
    with pytest.raises(ModelMissingError, match="no embedding 'style'"):
        context(model, tokenizer, "a embedding:style, b")


def test_an_embedding_of_another_width_says_both_widths(model: Any, tokenizer: Any) -> None:
    with pytest.raises(ModelFileError, match=r"\[2, 768\].*\[n, 128\]"):
        context(model, tokenizer, "embedding:style", embedding=lambda name: vectors(2, 768))


# Tokens and chunks


@pytest.mark.parametrize(("weighted", "lengths"), [(7, [70, 7]), (8, [75, 3]), (5, [75])])
def test_a_short_weighted_group_moves_whole_into_the_next_chunk_a_long_one_is_split(
    tokenizer: Any, weighted: int, lengths: list[int]
) -> None:
    pieces = (Text("a " * 70), Text("b " * weighted, 1.2))
    found = [chunk.ids.index(tokenizer.eos_token_id) - 1 for chunk in chunks(pieces, tokenizer, len)]
    assert found == lengths


def test_vectors_of_a_short_embedding_stay_together(tokenizer: Any) -> None:
    first, second = chunks((Text("a " * 70), Embedding("style")), tokenizer, lambda name: 6)
    assert not first.rows
    assert [(row.position, row.row) for row in second.rows] == [(at + 1, at) for at in range(6)]


pieces_of_any_kind = st.lists(
    st.one_of(
        st.builds(Text, st.text(st.characters(codec="utf-8"), max_size=30), st.floats(0, 2)),
        st.builds(Text, st.integers(0, 200).map(lambda words: "a " * words), st.floats(0, 2)),
        st.just(ChunkBreak()),
        st.builds(Embedding, st.sampled_from(["x", "yy"]), st.floats(0, 2)),
    ),
    max_size=8,
)


@given(pieces=pieces_of_any_kind)
def test_no_token_is_lost_or_moved_on_the_way_into_chunks(tokenizer: Any, pieces: list[Any]) -> None:
    expected: list[tuple[Any, float]] = []
    for piece in pieces:
        if isinstance(piece, Text):
            expected += [(token, piece.weight) for token in ids_of(tokenizer, piece.text)]
        elif isinstance(piece, Embedding):
            expected += [((piece.name, row), piece.weight) for row in range(len(piece.name))]
    found = []
    for chunk in chunks(pieces, tokenizer, len):
        assert len(chunk.ids) == len(chunk.weights) == 77
        assert chunk.ids[0] == tokenizer.bos_token_id
        assert (chunk.ids[-1], chunk.weights[0], chunk.weights[-1]) == (tokenizer.eos_token_id, 1.0, 1.0)
        places = {row.position: (row.name, row.row) for row in chunk.rows}
        contents = [(places.get(at, token), weight) for at, (token, weight) in enumerate(zip(chunk.ids, chunk.weights, strict=True))]
        while len(contents) > 1 and contents[-1] == (tokenizer.eos_token_id, 1.0) and 76 not in places:
            contents.pop()
        found += contents[1:]
    assert found == expected


def test_the_token_count_leaves_out_start_end_and_padding(tokenizer: Any) -> None:
    assert token_count("", tokenizer) == (0, 1)
    assert token_count(PLAIN, tokenizer) == (7, 1)
    assert token_count("a (red:1.3) circle BREAK embedding:style", tokenizer) == (4, 2)
    assert token_count("a (red:1.3) circle", tokenizer, dialect="comfy") == (3, 1)
    assert token_count(LONG, tokenizer) == (105, 2)
    assert token_count(f"[a:{PLAIN}:0.5]", tokenizer) == (7, 1)


def test_counting_tokens_imports_no_torch() -> None:
    code = "import sys, sfumato.engine.text.tokens; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_half_a_character_is_refused_in_words(tokenizer: Any) -> None:
    with pytest.raises(BadValueError, match="half of a character"):
        token_count("a \ud83c sky", tokenizer)


def test_a_prompt_of_too_many_chunks_is_refused_with_their_number(tokenizer: Any) -> None:
    assert token_count("a " * 75 * CHUNK_LIMIT, tokenizer).chunks == CHUNK_LIMIT
    with pytest.raises(BadValueError, match=f"takes {CHUNK_LIMIT + 1} chunks"):
        token_count("a " * (75 * CHUNK_LIMIT + 1), tokenizer)


def test_a_long_prompt_makes_the_tokenizer_log_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    token_count(LONG, load_tokenizer())  # it warns once, so a fresh one
    assert not caplog.records


# The adapter of a family


def test_the_adapter_reads_the_dialect_it_is_told(model: Any, tokenizer: Any) -> None:
    encoder = ClipTextEncoder(tokenizer)
    ((ours, _),) = encoder.encode(model, "a [red] circle", dialect="sfumato")
    ((comfy, _),) = encoder.encode(model, "a [red] circle", dialect="comfy")
    assert torch.equal(ours, context(model, tokenizer, "a [red] circle"))
    assert torch.equal(comfy, context(model, tokenizer, r"a \[red\] circle"))
    with pytest.raises(BadValueError, match="no prompt dialect 'a1111'"):
        encoder.encode(model, PLAIN, dialect="a1111")


def test_the_adapter_counts_tokens(tokenizer: Any) -> None:
    assert ClipTextEncoder(tokenizer).count(PLAIN) == 7
