"""Images and other files in payloads: recognised in every shape, said in a few words."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

from asynctrack._common import payload
from asynctrack._reading.decoding.media import (
    _DATA,
    _INSIDE,
    _KINDS,
    _NAMED,
    Media,
    in_words,
    media_of,
    raster_type,
)
from tests.property.strategies import json_like, thorough
from tests.reading import pictures


def found(value: Any) -> Media:
    """What is recognised."""
    media = media_of(value)
    assert media is not None
    return media


@pytest.mark.parametrize("value", pictures.IMAGES.values(), ids=pictures.IMAGES)
def test_an_image_in_every_shape(value: Any) -> None:
    """An image is one in the shape of every vendor, and its bytes come back."""
    media = found(value)
    assert (str(media), media.content()) == (pictures.WORDS, pictures.PNG)
    assert raster_type(media.head()) == "png"


@pytest.mark.parametrize(("value", "words"), pictures.OTHERS.values(), ids=pictures.OTHERS)
def test_other_files(value: Any, words: str) -> None:
    """Audio, video, documents and addresses are said alike; so is what is not what it says."""
    assert str(found(value)) == words


@pytest.mark.parametrize("value", pictures.NONE.values(), ids=pictures.NONE)
def test_what_is_none(value: Any) -> None:
    """Texts, and blocks in which something is not as it should be, are shown as they are."""
    assert media_of(value) is None
    if not isinstance(value, list):
        assert in_words({"x": [value]}) == {"x": [value]}


def test_as_langchain_logs_it() -> None:
    """What a message of LangChain becomes when it is stored is recognised, bytes as well."""
    blocks = [
        {"image": {"format": "png", "source": {"bytes": pictures.PNG}}},
        {"type": "media", "mime_type": "image/png", "data": pictures.PNG},
        {"type": "image", "base64": pictures.encoded(pictures.PNG)},
    ]
    stored = json.loads(payload.encode({"x": HumanMessage(content=blocks)}))["x"]["content"]
    assert [str(found(one)) for one in stored] == [pictures.WORDS] * 3


def test_a_payload_in_words() -> None:
    """Data is replaced wherever it is, and nothing else; the payload itself stays as it is."""
    question = {"type": "text", "text": "What is it?"}
    value = {
        "deep": [[{"content": [question, *pictures.IMAGES.values()]}]],
        "address": pictures.OTHERS["openai url"][0],
        "number": 7,
    }
    before = copy.deepcopy(value)
    said = in_words(value)
    assert value == before
    text = json.dumps(said)
    assert pictures.encoded(pictures.PNG)[:40] not in text and len(text) < 4_000
    assert said["deep"][0][0]["content"][0] == question
    assert said["deep"][0][0]["content"][4]["image_url"] == {"url": pictures.WORDS, "detail": "low"}
    assert (said["address"], said["number"]) == (value["address"], 7)
    assert in_words(pictures.IMAGES["data URL"], lambda media: media.kind) == "image"


@pytest.mark.parametrize("value", [
    {"type": "image", "base64": pictures.encoded(pictures.PNG)[:101] + "!?"},
    {"type": "image", "base64": "A" * 2_000 + "<script>"},
    {"type": "image", "base64": "YWJjZ"},
])  # fmt: skip
def test_what_cannot_be_decoded(value: Any) -> None:
    """What only begins like base64 has no content."""
    media = media_of(value)
    assert media is None or media.content() is None


def test_a_hundred_megabytes_at_once() -> None:
    """An image of any size is said in no time: nothing is decoded for that."""
    huge = pictures.encoded(pictures.PNG).rstrip("=") + "A" * 134_000_000
    for value in ({"type": "image", "base64": huge}, "data:image/png;base64," + huge):
        begin = time.thread_time()
        assert str(found(value)) in ("image, 100 MB, png", "image, 101 MB, png")
        assert time.thread_time() - begin < 2


def test_any_depth() -> None:
    """A payload of any depth is walked as far as that is sound."""
    value: Any = "data:image/png;base64," + pictures.encoded(pictures.PNG)
    for _ in range(5_000):
        value = [value]
    assert in_words(value) is not None
    block: Any = {}
    for _ in range(5_000):
        block = {"type": "non_standard", "value": block}
    assert media_of(block) is None


_names = st.sampled_from(
    [*_INSIDE, *_NAMED, *_DATA, "url", "file_id", "format", "mime_type", "$type"]
)
_texts = st.sampled_from(
    ["data:", "data:image/png;base64,", "YWJjZA==", "=", "\ud800", "", "bytes"]
)
_blocks = st.recursive(
    json_like | _texts,
    lambda inner: st.dictionaries(_names, inner, max_size=4).flatmap(
        lambda fields: st.sampled_from([None, *_KINDS]).map(
            lambda kind: fields if kind is None else {**fields, "type": kind}
        )
    ),
    max_leaves=8,
)


@thorough
@given(_blocks)
def test_whatever_a_block_holds(value: Any) -> None:
    """Nothing makes it raise, and what it says is short unless it is an address."""
    media = media_of(value)
    if media is not None:
        assert len(str(media)) < 200 or media.address
        media.content()
        media.head()
    in_words(value)
