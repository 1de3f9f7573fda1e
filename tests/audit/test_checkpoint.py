"""Checkpoints and notes as their specifications have them, and what does not pass for one."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oracle.audit.signer import Signer, sign_note
from oracle.verifier.checkpoint import BadNote, Checkpoint, Note, Trust, Verifier, VerifierKey, introduction

# The example of Go's golang.org/x/mod/sumdb/note, which defined the format.
PETER_SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# The example of c2sp.org/tlog-checkpoint.
SOFA = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"


def test_the_note_of_the_reference_implementation_is_read_and_made_byte_for_byte() -> None:
    note = Note.of(PETER_NOTE)
    assert note.is_signed_by(Verifier.of(PETER_VKEY))
    signer = Signer.of(PETER_SKEY)
    assert (signer.verifier.vkey, signer.skey) == (PETER_VKEY, PETER_SKEY)
    assert sign_note(note.text, [signer]) == PETER_NOTE


def test_the_checkpoint_of_the_specification_is_read_and_made_byte_for_byte() -> None:
    checkpoint = Checkpoint.of(SOFA)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.text == SOFA
    assert Checkpoint.of(SOFA + "an extension\n").extensions == ("an extension",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "o\n1\n",
        SOFA.replace("20852163", "020852163"),
        SOFA.replace("20852163", "-1"),
        SOFA.replace("20852163", "9" * 19),
        SOFA.replace("CsUY", "CsU"),
        SOFA.replace("2I=", "2J="),
        SOFA.replace("example.com/behind-the-sofa", ""),
        SOFA + "\nx\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(BadNote):
        Checkpoint.of(text)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\n— name\n",
        "text\n\n- name x08go/ZJ\n",
        "text\n\n— name AAAA\n",
        "te\x00xt\n\n— name x08go/ZJkuBS\n",
        PETER_NOTE.removesuffix("\n"),
        "x" * 200_000 + PETER_NOTE,
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(BadNote):
        Note.of(note)


@given(st.integers(0, len(PETER_NOTE) - 1), st.characters(exclude_categories=["Cs"]))
@example(len(PETER_NOTE) - 3, "N")  # the same bytes to a base64 decoder that does not look at the rest of the last one
def test_a_note_changed_anywhere_is_not_signed_any_more(place: int, character: str) -> None:
    changed = PETER_NOTE[:place] + character + PETER_NOTE[place + 1 :]
    with contextlib.suppress(BadNote):
        assert changed == PETER_NOTE or not Note.of(changed).is_signed_by(Verifier.of(PETER_VKEY))


@pytest.mark.parametrize("vkey", ["", "x", "a+b", PETER_VKEY.replace("c7", "c8"), PETER_VKEY[:-4], "a b" + PETER_VKEY])
def test_what_is_no_key_is_refused(vkey: str) -> None:
    with pytest.raises(BadNote):
        Verifier.of(vkey)


ORIGIN = "alias-oracle/test"
FIRST, SECOND, THIRD, OTHER = (Signer.new(ORIGIN) for _ in range(4))


def chain() -> list[VerifierKey]:
    first = VerifierKey(FIRST.verifier.vkey, 0, None)
    keys = [first]
    for old, new, size in ((FIRST, SECOND, 10), (SECOND, THIRD, 20)):
        text = introduction(ORIGIN, old.verifier, new.verifier, size)
        keys.append(VerifierKey(new.verifier.vkey, size, sign_note(text, [old, new])))
    return keys


def note(size: int, *signers: Signer, origin: str = ORIGIN) -> str:
    return sign_note(Checkpoint(origin, size, bytes(32)).text, signers)


@pytest.mark.parametrize("trusted", [FIRST, SECOND, THIRD])
def test_a_chain_of_keys_is_followed_from_any_of_them(trusted: Signer) -> None:
    trust = Trust(ORIGIN, chain(), [trusted.verifier.vkey])
    for size, signer in ((1, FIRST), (10, FIRST), (11, SECOND), (20, SECOND), (21, THIRD)):
        assert trust.open(note(size, signer)).size == size
    for size, signer in ((11, FIRST), (10, SECOND), (21, SECOND), (5, OTHER)):
        with pytest.raises(BadNote, match="not signed by the key"):
            trust.open(note(size, signer))
    with pytest.raises(BadNote, match="another log"):
        trust.open(note(5, FIRST, origin="alias-oracle/other"))


def test_a_broken_chain_ends_where_it_is_broken() -> None:
    keys = chain()
    text = introduction(ORIGIN, FIRST.verifier, SECOND.verifier, 10)
    for statement in (None, "x", sign_note(text, [SECOND]), sign_note(text, [FIRST]), sign_note(text, [OTHER, SECOND])):
        broken = [keys[0], keys[1]._replace(statement=statement), keys[2]]
        assert len(Trust(ORIGIN, broken, [FIRST.verifier.vkey]).believed) == 1
        assert len(Trust(ORIGIN, broken, [THIRD.verifier.vkey]).believed) == 2
    moved = [keys[0], keys[1]._replace(from_size=5), keys[2]]
    assert len(Trust(ORIGIN, moved, [FIRST.verifier.vkey]).believed) == 1, "the size is part of what was signed"
    with pytest.raises(BadNote, match="none of the keys"):
        Trust(ORIGIN, keys, [OTHER.verifier.vkey])
