"""How the teacher's distribution is rewritten: the stop, and a token that is spelt otherwise."""

from __future__ import annotations

import pytest
import torch

from harness.training.distill.alignment import AlignedAnswer, AnswerToken, AnswerTokens, TokenPair
from harness.training.distill.consistency import _with_stop
from harness.training.distill.soft_targets import _rewrite_spelling, _rewrite_stop

NATIVE_STOP, STUDENT_STOP = 7, 8


def aligned(*, control: bool, student_word: int = 1) -> AlignedAnswer:
    """The words "ab" as one token and a stop, on both sides; pairs inside and at the stop."""
    student = (AnswerToken(3, student_word, 1, 2), AnswerToken(4, STUDENT_STOP, 2, 3))
    native = (AnswerToken(5, 1, 1, 2), AnswerToken(6, NATIVE_STOP, 2, 3))
    stop = TokenPair(1, 1, "stop")
    return AlignedAnswer(
        AnswerTokens("ab", "", student),
        AnswerTokens("ab", "", native),
        (TokenPair(0, 0, "inside"), stop),
        stop,
        control,
    )


@pytest.mark.parametrize("control", [True, False])
def test_a_stop_of_text_is_mapped_at_the_end_alone_and_a_control_token_everywhere(control):
    answer = aligned(control=control)
    ids = torch.tensor([[NATIVE_STOP, 1], [NATIVE_STOP, 1]])
    _rewrite_stop(answer, ids)
    assert ids.tolist() == [[STUDENT_STOP if control else NATIVE_STOP, 1], [STUDENT_STOP, 1]]
    row = torch.log_softmax(torch.arange(10.0), -1)
    inside, end = (_with_stop(row, answer, pair) for pair in answer.pairs)
    assert torch.equal(inside, row) is not control
    assert end[STUDENT_STOP].exp() == pytest.approx(
        float(row[[NATIVE_STOP, STUDENT_STOP]].exp().sum())
    )


def test_another_spelling_gets_no_more_than_the_teacher_gives_to_its_own():
    """The text's probability along the row may exceed what this position gives to the token."""
    answer = aligned(control=True, student_word=2)
    for label, moved in ((0.5, 0.1), (0.04, 0.04)):
        ids = torch.tensor([[1, 3, -1], [7, 3, -1]])
        probabilities = torch.tensor([[0.1, 0.9, 0.0], [0.6, 0.4, 0.0]])
        _rewrite_spelling(answer, ids, probabilities, [label, 1.0], None, 10)
        assert ids[0].tolist() == [1, 3, 2]
        assert probabilities[0].tolist() == pytest.approx([0.1 - moved, 0.9, moved])
        assert (probabilities >= 0).all()
