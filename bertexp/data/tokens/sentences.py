"""Sentence boundaries."""

from __future__ import annotations

METHODS = ("sentencex", "period")


def split_sentences(paragraph: str, method: str | None, language: str) -> list[str]:
    """Cut a paragraph into sentences, none of them empty.

    Args:
        paragraph: one paragraph of text.
        method: ``"sentencex"`` (rules for many languages), ``"period"`` (cut at every
            ``.`` and drop it, as the simplest tutorials do) or ``None`` (the paragraph
            stays whole).
        language: the ISO 639 code that ``sentencex`` goes by.
    """
    if method is None:
        return [paragraph]
    if method == "period":
        return [sentence for sentence in paragraph.split(".") if sentence.strip()]
    from sentencex import segment

    return [sentence for sentence in segment(language, paragraph) if sentence.strip()]
